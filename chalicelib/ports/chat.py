"""Requests that come from a chat, and what is shown there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Genuine(Protocol):
    """Tells requests of the chat's own from forged ones."""

    def require(self, body: bytes, headers: Mapping[str, str]) -> None:
        """headers: names in lower case.

        Raises:
            Refused: code "bad-signature": forged, changed on its way, or older than 5 minutes.
        """


class Chat(Protocol):
    """What is shown to one person. At most some seconds each."""

    def open_dialog(self, trigger: str, view: Mapping[str, Any]) -> None:
        """Ask for a code in a window of its own.

        Raises:
            Unavailable, NotReady, and Refused: code "dialog-refused" when it waited too long.
        """

    def reply(self, address: str, message: Mapping[str, Any]) -> None:
        """Answer where the person asked.

        Raises:
            Unavailable, Refused, NotReady.
        """


class Answers(Protocol):
    """The function that hears what people say, by whatever way they say it."""

    def hear(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer.

        Raises:
            LeewardError: what was refused, with its code and hint.
            Unavailable: nothing answered; the same event may be sent again.
        """
