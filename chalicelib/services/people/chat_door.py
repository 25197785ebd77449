"""The door of chat: is it Slack's own request, and for the first time?

    kept (handed: false) -> `chat` is woken -> handed: true

A request is known by the digest of its body, in which Slack gives each its own trigger. The same
one again is a replay and refused, unless Slack says that it tries again: then it is acknowledged,
and handed on only when whoever took it first died before. `chat` does a request once in any case.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from chalicelib.errors import BadInput, NotReady, Refused
from chalicelib.plan.record import format_time
from chalicelib.services import build

SEEN = "chat-seen"
# Slack's requests are refused after five minutes, and tried again for an hour.
KEPT = timedelta(days=1)
WORKER = "chat"


@dataclass(frozen=True)
class Door:
    """A request that may come in. handed: it was handed on before."""

    request: str
    handed: bool


def enter(body: bytes, headers: Mapping[str, str]) -> Door:
    """headers: names in lower case.

    Raises:
        Refused: codes "bad-signature", "replayed".
        NotReady: code "no-signing-secret".
    """
    from chalicelib.adapters.chat.slack_requests import SlackRequests

    SlackRequests(signing_secrets(channel_logins()), build.clock()).require(body, headers)
    request = hashlib.sha256(body).hexdigest()
    if build.state().create(SEEN, request, _seen(handed=False)):
        return Door(request, handed=False)
    if "x-slack-retry-num" not in headers:
        raise Refused(
            "the same request came before",
            hint="say it anew in Slack; a request counts once",
            code="replayed",
        )
    kept = build.state().get(SEEN, request) or {}
    return Door(request, handed=bool(kept.get("handed")))


def hand_over(door: Door, event: Mapping[str, Any]) -> None:
    """Wake `chat`, unless it was woken for this request before.

    Raises:
        Unavailable: it could not be woken; Slack tries again, or tells the person.
    """
    if door.handed:
        return
    build.functions().start(WORKER, {**event, "request": door.request})
    build.state().replace(SEEN, door.request, _seen(handed=True), expected={"handed": False})


def _seen(*, handed: bool) -> dict[str, Any]:
    return {"handed": handed, "good_until": format_time(build.clock().now() + KEPT)}


def channel_logins() -> dict[str, Any]:
    """The secret of the channels. Its name is read past the plan's model, whose import alone would
    take a good part of the time that Slack waits.

    Raises:
        NotReady: code "no-signing-secret". BadInput: code "bad-channel-secret".
    """
    plan = json.loads(build.environment().plan.read_text())
    name = (plan.get("communication") or {}).get("secret")
    if not name:
        raise _no_secret("the plan names no secret of the channels")
    from chalicelib.adapters.aws_errors import mapped

    with mapped("secretsmanager", secret=name):
        text = build.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadInput(
            f"expected one JSON object in the secret {name}, found something else",
            hint="docs/messages.md tells what it holds",
            code="bad-channel-secret",
        )
    return found


def signing_secrets(logins: Mapping[str, Any]) -> list[str]:
    """Of every Slack login that has one: {"slack": {"token", "signing_secret"}}."""
    found = [it.get("signing_secret") for it in logins.values() if isinstance(it, dict)]
    secrets = [it for it in found if isinstance(it, str) and it.strip()]
    if not secrets:
        raise _no_secret("the secret of the channels has no signing_secret")
    return secrets


def _no_secret(found: str) -> NotReady:
    return NotReady(
        f"expected the signing secret of the Slack app: {found}",
        hint="put it there: docs/chatops.md",
        code="no-signing-secret",
    )
