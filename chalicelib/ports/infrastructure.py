"""Builds that make infrastructure, and what answers of what there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from chalicelib.plan.records import Record

BuildStatus = Literal["running", "succeeded", "failed"]


@dataclass(frozen=True)
class BuildOrder:
    """One build to be done once. `token` is what it is found again by, however late.

    `environment`: variables over the project's own. `outputs`: bucket and key of the JSON that
    the build leaves; the key ends in "/outputs.json".
    """

    project: str
    token: str
    environment: Mapping[str, str]
    outputs: tuple[str, str]


@dataclass(frozen=True)
class Build:
    """A build as its service tells of it. `why`: the service's words when it failed, else ""."""

    id: str
    status: BuildStatus
    phase: str
    started_at: datetime
    ended_at: datetime | None = None
    why: str = ""


class Builds(Protocol):
    """A service that runs builds of projects that exist."""

    def find(self, order: BuildOrder) -> Build | None:
        """The build that was started for the order's token, None when there is none.

        Raises NotReady (code "no-build-project").
        """

    def start(self, order: BuildOrder) -> Build:
        """Start it; two callers at the same time start one. Raises NotReady as `find`."""

    def look(self, build_id: str) -> Build: ...

    def tail(self, build_id: str, lines: int) -> tuple[str, ...]:
        """The last lines of its log; none when there is no log (yet)."""

    def outputs(self, order: BuildOrder) -> dict[str, Any]:
        """What the build left. Raises NotReady (code "no-build-outputs")."""


# serves: answered, and well. falters: answered, and not well. refuses: nobody is there, which the
# network says itself. silent: no answer in time. unasked: it could not be asked from here.
Reach = Literal["serves", "falters", "refuses", "silent", "unasked"]


@dataclass(frozen=True)
class Sighting(Record):
    """What one probe saw. `asked`: what was asked of what; `found`: the answer, one line."""

    asked: str
    reach: Reach
    found: str
    seconds: float = 0.0
