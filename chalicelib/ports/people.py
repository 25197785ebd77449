"""What answers of people need of the world."""

from __future__ import annotations

from typing import Protocol


class Tokens(Protocol):
    """States of a run that wait, each with a token that lets it go on once."""

    def succeed(self, token: str, output: dict[str, str]) -> bool:
        """Let the state end well; False when it waits no more (answered, timed out, run over)."""

    def fail(self, token: str, error: str, cause: str) -> bool:
        """Let the state fail, likewise."""


class Vault(Protocol):
    """Encrypts small secrets, each bound to the person whose it is."""

    def close(self, secret: bytes, person: str) -> str:
        """The encrypted secret, as text."""

    def open(self, closed: str, person: str) -> bytes:
        """Raises Damaged when it is not the person's, or was changed."""
