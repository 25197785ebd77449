"""What a person sees in Slack: a window that asks for a code, an answer that only they see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chalicelib.adapters.notify.http import post
from chalicelib.errors import NotReady, Refused, Unavailable

SECONDS = 5.0
API = "https://slack.com/api/"
# Slack's own trouble, which passes. Source: docs.slack.dev, views.open, "Errors".
LATER = frozenset({"fatal_error", "internal_error", "service_unavailable", "ratelimited"})
TOO_LATE = frozenset({"expired_trigger_id", "exchanged_trigger_id"})


class SlackChat:
    """The `Chat` port. `login`: {"token": "xoxb-...", "url": another base address}."""

    def __init__(self, login: Mapping[str, Any], *, seconds: float = SECONDS) -> None:
        self._login, self._seconds = login, seconds

    def open_dialog(self, trigger: str, view: Mapping[str, Any]) -> None:
        url = f"{self._login.get('url') or API}views.open"
        headers = {"Authorization": f"Bearer {self._login.get('token', '')}"}
        answer = self._post(url, {"trigger_id": trigger, "view": view}, headers)
        said = _read(answer)
        if said.get("ok") is not True:
            raise _refused(str(said.get("error", "")))

    def reply(self, address: str, message: Mapping[str, Any]) -> None:
        self._post(address, message, {})

    def _post(self, url: str, body: Mapping[str, Any], headers: dict[str, str]) -> bytes:
        sent = headers | {"Content-Type": "application/json; charset=utf-8"}
        data = json.dumps(body).encode()
        return post(url, data, sent, whose="Slack", seconds=self._seconds)


def _read(answer: bytes) -> dict[str, Any]:
    try:
        said = json.loads(answer)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Unavailable("Slack's answer cannot be read", hint="try again")
    return said


def _refused(error: str) -> Exception:
    if error in LATER:
        return Unavailable(f"Slack says {error}", hint="try again")
    if error in TOO_LATE:
        return Refused(
            f"Slack waited too long for the window: {error}",
            hint="say it again; the second time is quicker",
            code="dialog-refused",
        )
    return NotReady(
        f"Slack does not open the window: {error[:100]}",
        hint="look at the bot's token and its rights in the secret of the channels",
        code="dialog-refused",
    )
