"""What lies in a location under no component of the plan: whose it is, only a person knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chalicelib.errors import LeewardError
from chalicelib.evidence.text import counted, printable
from chalicelib.plan.records import Record
from chalicelib.plan.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chalicelib.ports import Listed
    from chalicelib.services.locations import Locations

# What goes from one server to another, which a rule of the bucket removes after a day; what the
# checks remember.
BESIDE_COMPONENTS = ("_transit", "checks")


@dataclass(frozen=True)
class Stray(Record):
    """All objects whose keys begin with `name` and a slash, or the one of that name."""

    name: str
    objects: int
    size_bytes: int
    newest_at: datetime


@dataclass(frozen=True)
class Strays:
    """`error`: the location did not answer, so that nothing is known."""

    location: str
    found: tuple[Stray, ...] = ()
    error: LeewardError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None and not self.found

    def to_json(self) -> dict[str, Any]:
        if self.error is not None:
            return {"location": self.location, "error": self.error.to_json()}
        return {"location": self.location, "strays": [it.to_json() for it in self.found]}

    def lines(self) -> Iterator[str]:
        if self.error is not None:
            yield f"{self.location} cannot be looked at: {self.error.message}"
        elif not self.found:
            yield f"{self.location}: all that lies there is of a component of the plan"
        for it in self.found:
            amount = f"{counted(it.objects, 'object')}, {format_size(it.size_bytes)}"
            newest = f"the newest of {it.newest_at:%Y-%m-%d}"
            yield f"{self.location}: {printable(it.name)}: {amount}, {newest}"


def look_for_strays(places: Locations, location: str) -> Strays:
    known = {*places.plan.components, *BESIDE_COMPONENTS}
    try:
        rows = places.part(location).list()
        return Strays(location, gather_strays(rows, known))
    except LeewardError as error:
        return Strays(location, error=error)


def gather_strays(rows: Iterable[Listed], known: Iterable[str]) -> tuple[Stray, ...]:
    """By the first part of the key, in the order of the listing."""
    found: dict[str, Stray] = {}
    passed = {f"{name}/" for name in known}
    for row in rows:
        name, slash, _ = row.key.partition("/")
        if name + slash in passed:
            continue
        before = found.get(name, Stray(name, 0, 0, row.modified_at))
        found[name] = Stray(
            name,
            before.objects + 1,
            before.size_bytes + row.size_bytes,
            max(before.newest_at, row.modified_at),
        )
    return tuple(found.values())
