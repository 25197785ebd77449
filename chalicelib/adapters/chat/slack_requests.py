"""Whether a request is Slack's own: its signature over the timestamp and the body as it came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from slack_sdk import signature as slack_signature

from chalicelib.errors import Refused

if TYPE_CHECKING:
    from chalicelib.ports import Clock


LONGEST_SIGNATURE = 200


class SlackRequests:
    """The `Genuine` port. secrets: signing secrets, any of which is good."""

    def __init__(self, secrets: Iterable[str], clock: Clock) -> None:
        seconds = _Seconds(clock)
        self._verifiers = [slack_signature.SignatureVerifier(secret, seconds) for secret in secrets]

    def require(self, body: bytes, headers: Mapping[str, str]) -> None:
        at = headers.get("x-slack-request-timestamp", "")
        signature = headers.get("x-slack-signature", "")
        # slack_sdk ends in a ValueError or a TypeError on anything else.
        readable = at.isascii() and at.isdecimal() and len(at) < 20 and signature.isascii()
        known = readable and len(signature) <= LONGEST_SIGNATURE and _is_text(body)
        if known and any(it.is_valid(body, at, signature) for it in self._verifiers):
            return
        raise Refused(
            "the request is not signed by Slack, or older than 5 minutes",
            hint="is the signing secret of the Slack app in the secret of the channels?",
            code="bad-signature",
        )


class _Seconds(slack_signature.Clock):
    """slack_sdk's clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now().timestamp()


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
