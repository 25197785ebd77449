"""What a page says first: what came of what was pressed."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.errors import LeewardError
from chalicelib.evidence.text import printable

# By name in the address: what an address says could be anybody's words.
DONE = {
    "answered": "Your answer counts.",
    "acknowledged": "You have acknowledged it: nobody else is called for it now.",
    "signed-in": "You are signed in.",
}


@dataclass(frozen=True)
class Notice:
    """`tone`: good or bad."""

    says: str
    hint: str = ""
    tone: str = "good"

    @classmethod
    def of(cls, error: LeewardError) -> Notice:
        return cls(_sentence(error.message), _sentence(error.hint), "bad")

    @classmethod
    def named(cls, name: str) -> Notice | None:
        return cls(DONE[name]) if name in DONE else None


def _sentence(text: str) -> str:
    """Errors are written as facts in lower case."""
    told = printable(text).strip()
    ended = not told or told.endswith((".", "?", "!"))
    return told[:1].upper() + told[1:] + ("" if ended else ".")
