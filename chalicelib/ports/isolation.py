"""What keeps somebody from something, one barrier at a time, and how it is taken down again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

BarrierKind = Literal[
    "bucket-policy", "bucket-history", "access-keys", "sessions", "network", "snapshots"
]


@dataclass(frozen=True)
class Raised:
    """`found`: one line for a person. `made`: ids of what it left behind (snapshots)."""

    found: str
    made: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lowered:
    """`found`: one line. `kept`: what was deliberately not put back, and why."""

    found: str
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """A barrier that is to be raised: what it is, on what, why, and how a person takes it back."""

    kind: BarrierKind
    target: str
    why: str
    undo: str
    region: str = ""


class Barrier(Protocol):
    """One barrier. Raises NotReady, Refused, Unavailable, Throttled.

    look -> kept durably by the caller -> raise_up(before) -> ... -> lower(before)
    """

    def look(self) -> dict[str, Any]:
        """What stands now, in full: JSON, enough to put it back as it was."""

    def raise_up(self, before: dict[str, Any]) -> Raised:
        """Safe to repeat: what it did itself before, it recognises."""

    def lower(self, before: dict[str, Any], *, as_found: bool = False) -> Lowered:
        """Put back what was there, byte for byte, when nobody else changed it since; otherwise
        take away only what is its own. Safe to repeat.

        Args:
            as_found: also what was harmful when it was found (an expiry within days, suspended
                versions), which is otherwise kept as it is and named.
        """
