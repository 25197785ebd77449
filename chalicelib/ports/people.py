"""What answers of people need of the world."""

from __future__ import annotations

from typing import Any, Protocol


class Tokens(Protocol):
    """States of a run that wait, each with a token that lets it go on once."""

    def succeed(self, token: str, output: dict[str, Any]) -> bool:
        """Let the state end well; False when it waits no more (answered, timed out, run over)."""

    def fail(self, token: str, error: str, cause: str) -> bool:
        """Let the state fail, likewise."""

    def beat(self, token: str) -> bool:
        """Say that the work goes on; False when nobody waits for it any more."""


class Vault(Protocol):
    """Encrypts small secrets, each bound to the person whose it is."""

    def close(self, secret: bytes, person: str) -> str:
        """The encrypted secret, as text."""

    def open(self, closed: str, person: str) -> bytes:
        """Raises Damaged when it is not the person's, or was changed."""


class Mac(Protocol):
    """Message authentication codes by a key that nobody holds."""

    def make(self, message: bytes) -> bytes:
        """HMAC-SHA-256 of at most 4,096 bytes."""

    def holds(self, message: bytes, mac: bytes) -> bool:
        """Whether it was made by this key for this message."""


class TokenSigner(Protocol):
    """Signed tokens."""

    def sign(self, claims: dict[str, Any]) -> str:
        """The claims as a signed token."""

    def read(self, token: str) -> dict[str, Any]:
        """The claims of a token that is whole, ours, and not over.

        Raises:
            Refused: codes "bad-token", "token-expired".
        """
