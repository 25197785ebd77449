"""What a prune decided and did in one place: a few lines for a person, and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from chalicelib.backup.retention.calendar import Calendar
from chalicelib.backup.retention.prune import PruneResult
from chalicelib.backup.retention.prune_facts import PruneDecision
from chalicelib.backup.retention.reasons import Kept
from chalicelib.backup.retention.wal import WalRange, wal_ranges
from chalicelib.evidence.text import counted
from chalicelib.plan.components import BaseComponent, Retention
from chalicelib.plan.places import Provider
from chalicelib.plan.prices import format_usd, usd_per_month
from chalicelib.plan.records import PointStanding, format_time
from chalicelib.plan.units import format_size
from chalicelib.ports import Catalogue, ObjectStore
from chalicelib.ports.locks import ObjectLocks
from leeward.retention.forecast import Forecast

WIDEST = 80


@dataclass(frozen=True)
class Shelf:
    """A component's backups in one location, opened."""

    place: str
    store: ObjectStore
    catalogue: Catalogue
    locks: ObjectLocks | None = None


@dataclass(frozen=True)
class Shown:
    """One component in one place: what was decided, at what price, what was done or simulated."""

    name: str
    component: BaseComponent
    retention: Retention
    decision: PruneDecision
    calendar: Calendar
    provider: Provider
    place: str
    shelf: Shelf | None = None
    result: PruneResult | None = None
    simulated: Forecast | None = None

    @property
    def cost(self) -> str:
        price = usd_per_month(self.decision.freed_bytes, self.provider)
        return f", {tell_price(price)}{self.where}" if price else ""

    @property
    def where(self) -> str:
        """For a line whose title does not name the location."""
        named = self.shelf is not None and self.shelf.place
        return "" if named else f" in {self.place}"


def tell_price(usd_per_month: float) -> str:
    """ "about $0.04 a month"; what is less than a cent is said so."""
    if 0 < usd_per_month < 0.005:
        return "less than $0.01 a month"
    return f"about {format_usd(usd_per_month)} a month"


def notes_of_all(shown: list[Shown]) -> list[str]:
    return [note for one in shown for note in notes_of(one)]


def notes_of(one: Shown) -> Iterator[str]:
    decision, title = one.decision, one.calendar.component
    if one.simulated is not None:
        told = one.simulated
        yield (
            f"{title}: {told.taken:,} taken, {told.removed:,} removed, at most {told.peak:,} "
            f"at once; {_stored(one)}"
        )
        return
    verb = "goes" if one.result is None else "was to go"
    going = (
        f"{format_size(decision.freed_bytes)} {verb}" if decision.freed_bytes else "nothing goes"
    )
    yield f"{title}: {format_size(decision.kept_bytes)} stays, {going}{one.cost}"
    gone = one.result
    if gone is not None and (gone.freed_bytes or gone.points or gone.leftovers or gone.spared):
        yield (
            f"{title}: removed {counted(len(gone.points), 'point')}, "
            f"{counted(gone.wal_objects, 'WAL segment')}, "
            f"{counted(gone.indexes, 'index file')} and "
            f"{counted(len(gone.leftovers), 'leftover')}, {format_size(gone.freed_bytes)}"
        )
        for point_id, why in gone.spared:
            yield f"{title}: spared {point_id}: {why}"


def _stored(one: Shown) -> str:
    size = one.component.size
    if size is None:
        return "bytes are not known, for the plan states no size"
    copies = sum(kept.standing.point.parent_id is None for kept in one.decision.retention.keep)
    total = copies * size
    price = usd_per_month(total, one.provider)
    cost = f", about {format_usd(price)} a month{one.where}" if price is not None else ""
    return (
        f"{counted(copies, 'full copy').replace('copys', 'copies')} of {format_size(size)} stay, "
        f"{format_size(total)}{cost}; increments and WAL come on top"
    )


def lines_of(note: str, width: int) -> Iterator[str]:
    """What follows a semicolon begins a line; a name is never broken."""
    first, *more = note.split("; ")
    for indent, clause in (("", first), *(("  ", it) for it in more)):
        yield from wrap(
            clause, width, initial_indent=indent, subsequent_indent="  ", break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip


def as_json(one: Shown) -> dict[str, Any]:
    decision, retention = one.decision, one.decision.retention
    price = usd_per_month(decision.freed_bytes, one.provider)
    found: dict[str, Any] = {
        "component": one.name,
        "location": one.shelf.place if one.shelf and one.shelf.place else None,
        "as_of": format_time(one.calendar.as_of),
        "time_zone": one.retention.time_zone,
        "keep": [_kept_as_json(kept, decision) for kept in retention.keep],
        "prune": [_pruned_as_json(standing, decision) for standing in retention.prune],
        "unreadable": [
            {"id": bad.point_id, "code": bad.code, "reason": bad.reason}
            for bad in retention.unreadable
        ],
        "leftovers": [[left.point_id, left.size_bytes] for left in decision.leftovers],
        "wal": {
            "keep": list(map(_range_as_json, wal_ranges(decision.wal.keep))),
            "prune": list(map(_range_as_json, wal_ranges(decision.wal.prune))),
        },
        "indexes": list(decision.indexes),
        "kept_bytes": decision.kept_bytes,
        "freed_bytes": decision.freed_bytes,
        "freed_usd_per_month": None if price is None else round(price, 2),
        "removed": one.result.to_json() if one.result else None,
    }
    if one.simulated is not None:
        told = one.simulated
        found["simulated"] = {"taken": told.taken, "removed": told.removed, "peak": told.peak}
    return found


def _kept_as_json(kept: Kept, decision: PruneDecision) -> dict[str, Any]:
    locked_until = kept.standing.locked_until
    return {
        **_point_as_json(kept.standing, decision),
        "reasons": [{"rule": one.rule, "words": one.words} for one in kept.reasons],
        "locked_until": format_time(locked_until) if locked_until else None,
    }


def _pruned_as_json(standing: PointStanding, decision: PruneDecision) -> dict[str, Any]:
    reason = decision.retention.why_pruned(standing)
    return {
        **_point_as_json(standing, decision),
        "reason": {"rule": reason.rule, "words": reason.words},
    }


def _point_as_json(standing: PointStanding, decision: PruneDecision) -> dict[str, Any]:
    point = standing.point
    return {
        "id": point.id,
        "kind": point.kind,
        "taken_at": format_time(point.taken_at),
        "bytes": decision.point_bytes(standing),
    }


def _range_as_json(one: WalRange) -> dict[str, Any]:
    return {
        "timeline": one.timeline,
        "start_lsn": one.start_lsn,
        "end_lsn": one.end_lsn,
        "segments": one.segments,
        "reason": {"rule": one.reason.rule, "words": one.reason.words},
    }
