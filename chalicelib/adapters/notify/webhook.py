"""A signed webhook: any program can be told, and can tell that it was Leeward who did.

X-Leeward-Timestamp: 1795334700
X-Leeward-Signature: v1=<HMAC-SHA256 over "v1:<timestamp>:<body>", hex>
Idempotency-Key: <the message's id; the same message again has the same>
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

from chalicelib.adapters.notify.http import LIMIT_SECONDS, post
from chalicelib.ports.notify import Message

VERSION = "v1"


class WebhookSender:
    """`settings`: {"url": ..., "key": the shared secret}. An address of the plan goes first."""

    def __init__(self, settings: dict[str, Any], *, seconds: float = LIMIT_SECONDS) -> None:
        self._settings, self._seconds = settings, seconds

    def send(self, message: Message, to: str) -> str:
        body = json.dumps(message.to_json(), sort_keys=True).encode()
        at = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message.id,
            "X-Leeward-Timestamp": at,
            "X-Leeward-Signature": sign(str(self._settings["key"]), at, body),
        }
        url = str(to or self._settings["url"])
        post(url, body, headers, whose="the webhook", seconds=self._seconds)
        return message.id


def sign(key: str, at: str, body: bytes) -> str:
    text = f"{VERSION}:{at}:".encode() + body
    return f"{VERSION}={hmac.new(key.encode(), text, hashlib.sha256).hexdigest()}"
