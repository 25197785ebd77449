"""What moves names between sites, and who says where they lead."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from chalicelib.plan.records import format_time, parse_time


@dataclass(frozen=True)
class Switch:
    """One switch of a component's names, as it is kept beside the object that does it.

    `came_from` and `to` are sites of the plan; `reason` is a person's, "" when nobody gave one.
    """

    at: datetime
    came_from: str
    to: str
    run_id: str
    step: str
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "at": format_time(self.at),
            "from": self.came_from,
            "to": self.to,
            "run_id": self.run_id,
            "step": self.step,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Switch:
        """Raises KeyError or ValueError when it is none."""
        return cls(
            at=parse_time(data["at"]),
            came_from=str(data["from"]),
            to=str(data["to"]),
            run_id=str(data["run_id"]),
            step=str(data["step"]),
            reason=str(data["reason"]),
        )


@dataclass(frozen=True)
class Moved:
    """What a driver did. `changed` and `undo`: one line each, for a person."""

    changed: str
    undo: str


class Traffic(Protocol):
    """What moves the names of one component between sites."""

    @property
    def resolves(self) -> bool:
        """Whether a switch shows in the answers of the zone's name servers; when it does not,
        `state` is what was measured, and not only what was asked for."""

    def state(self) -> str:
        """The site that names are sent to; "" when it is none of the plan's, or half of each.

        Raises:
            Unavailable: nobody can say.
        """

    def switch(self, switch: Switch) -> Moved:
        """Send the names to `switch.to`. The same again changes nothing and is no error.

        Raises:
            BadInput: code "no-such-site", when this driver cannot send names there.
            Refused: it is understood and must not be done; nothing was changed.
            Unavailable: it may have been done or not.
        """


class Switches(Protocol):
    """The history of a component's switches."""

    def past(self) -> list[Switch]:
        """Oldest first."""

    def add(self, switch: Switch) -> None:
        """Kept under its run and step: the same again is the same."""

    def remove(self, switch: Switch) -> None:
        """Of a switch that was refused and therefore never was."""


@dataclass(frozen=True)
class Answer:
    """What one name server answers: `values` sorted, `ttl` in seconds.

    `problem`: why there is no answer, "" when there is one. An answer without values is one.
    """

    server: str
    values: tuple[str, ...] = ()
    ttl: int = 0
    problem: str = ""


class Resolver(Protocol):
    """Asks the authoritative name servers themselves, so that no cache answers."""

    def ask(self, zone: str, name: str, kind: str) -> list[Answer]:
        """Each of the zone's servers' answer for a name and a type ("A", "AAAA", "CNAME").

        Raises:
            Unavailable: code "no-name-server": the zone's servers cannot be found.
        """
