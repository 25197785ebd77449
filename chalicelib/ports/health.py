"""Whoever asks an address whether what is behind it serves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from chalicelib.plan.records import Record


@dataclass(frozen=True)
class Answer(Record):
    """What came of one probe, begun at `asked_at`. `seconds`: until the last byte, or the end.

    status: of HTTP; None when no answer came. problem: why it is no good answer, "" when it is.
    """

    asked_at: datetime
    seconds: float
    status: int | None = None
    problem: str = ""

    @property
    def good(self) -> bool:
        return not self.problem


class Prober(Protocol):
    def probe(self, address: str, *, says: str, within_seconds: float) -> Answer:
        """Ask once, over a connection of its own, and be back in time whatever happens.

        Args:
            says: what a good answer must contain; "" when any body will do.
            within_seconds: of everything together: name, connection, TLS, whole answer.
        Raises:
            BadInput: code "bad-health-address". Everything else is an answer with a problem.
        """
