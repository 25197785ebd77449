"""Workers outside Lambda, each for one run."""

from __future__ import annotations

from typing import Protocol


class Workers(Protocol):
    """Tasks that do the steps of a run with a disk of their own, until there are none to do."""

    def start(self, run_id: str) -> None:
        """Start one. Raises NotReady (code "no-task") when it cannot be, Unavailable when not now.

        It may come to life a minute later, or never: whoever waits for it needs a limit.
        """

    def is_there(self, run_id: str) -> bool:
        """Whether one of the run is at work or on its way."""
