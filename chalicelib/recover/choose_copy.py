"""Which location to restore from: the nearest healthy copy that leads to the moment, and why.

An infected point is quarantined in the primary location, and in the others with the next copy. It
is refused in each of them at once, as is one that is quarantined there and nobody knows why; one
that is only damaged in the primary location is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from chalicelib.errors import Damaged, LeewardError, NotReady, Quarantined
from chalicelib.plan.records import (
    PointStanding,
    Record,
    RecoveryTarget,
    format_lsn,
    format_time,
)
from chalicelib.ports import Holdings, Inventory, RejectedPoint
from chalicelib.recover.window import choose_points, target_time

NEARNESS = ("in the region of the restore", "with the same provider", "with another provider")


@dataclass(frozen=True)
class Candidate:
    """What one location answered. `distance` indexes NEARNESS. `holdings` is None, and `error`
    says why, when it did not answer; `inventory` is None for what is no database. `primary`: what
    is infected there is used nowhere."""

    location: str
    distance: int
    holdings: Holdings | None = None
    inventory: Inventory | None = None
    error: LeewardError | None = None
    primary: bool = False


@dataclass(frozen=True)
class CopyChoice(Record):
    """`why` is one line for the record. `others`: (location, why it was not taken). `quarantined`:
    (point id, why), infected in the primary location: the chosen one refuses these too."""

    location: str
    point_id: str
    proven_at: datetime | None
    why: str
    others: tuple[tuple[str, str], ...]
    quarantined: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Fit:
    candidate: Candidate
    standing: PointStanding
    reaches: int

    @property
    def rank(self) -> tuple[int, bool, int]:
        """More data before proof, proof before nearness: a copy that lost the last hour is near
        in vain, and a proof is of the content, which is the same in every location."""
        return (-self.reaches, self.standing.proven_at is None, self.candidate.distance)

    def tell(self) -> str:
        proven = self.standing.proven_at
        proof = f"proven {format_time(proven)}" if proven else "not proven yet"
        wal = f", WAL to {format_lsn(self.reaches)}" if self.candidate.inventory else ""
        return f"{self.standing.point.id}, {proof}{wal}, {NEARNESS[self.candidate.distance]}"


def choose_copy(candidates: tuple[Candidate, ...], target: RecoveryTarget) -> CopyChoice:
    """The location that holds the most of what is asked for; then the proven; then the nearest.

    Pure. Of a component without WAL, the newest point that is not younger than a "time" target.

    Raises:
        what a single candidate says, when there is only one;
        NotReady: code "no-copy-answers", when every location is out of reach.
        Damaged: code "no-copy-fits", when those that answer hold nothing that leads there.
    """
    fits: list[_Fit] = []
    others: list[tuple[str, str]] = []
    quarantined = _infected(candidates)
    for candidate in candidates:
        try:
            fits.append(_fit(_without(candidate, quarantined), target))
        except LeewardError as error:
            if len(candidates) == 1:
                raise
            others.append((candidate.location, f"{error.instance_code}: {error.message}"))
    if not fits:
        raise _nothing(candidates, others)
    best, *rest = sorted(fits, key=lambda fit: (*fit.rank, fit.candidate.location))
    others += [(fit.candidate.location, f"{fit.tell()}: {_why_after(best, fit)}") for fit in rest]
    return CopyChoice(
        location=best.candidate.location,
        point_id=best.standing.point.id,
        proven_at=best.standing.proven_at,
        why=f"{best.candidate.location}: {best.tell()}",
        others=tuple(sorted(others)),
        quarantined=tuple(sorted(quarantined.items())),
    )


def _infected(candidates: tuple[Candidate, ...]) -> Mapping[str, str]:
    """Point id -> why."""
    return {
        standing.point.id: standing.quarantined
        for candidate in candidates
        if candidate.primary and candidate.holdings is not None
        for standing in candidate.holdings.standings
        if standing.quarantined and not standing.is_damaged
    }


def _without(candidate: Candidate, quarantined: Mapping[str, str]) -> Candidate:
    """The candidate as it will be when the quarantines were copied to it."""
    held, known = candidate.holdings, candidate.inventory
    if held is None or not quarantined:
        return candidate
    standings = tuple(
        replace(it, quarantined=it.quarantined or quarantined.get(it.point.id, ""))
        for it in held.standings
    )
    if known is not None:
        free = tuple(it for it in known.points if it.id not in quarantined)
        refused = tuple(
            RejectedPoint(it.id, Quarantined.code, f"quarantined: {quarantined[it.id]}")
            for it in known.points
            if it.id in quarantined
        )
        known = replace(known, points=free, rejected=(*known.rejected, *refused))
    return replace(candidate, holdings=replace(held, standings=standings), inventory=known)


def _fit(candidate: Candidate, target: RecoveryTarget) -> _Fit:
    if candidate.error is not None:
        raise candidate.error
    assert candidate.holdings is not None
    standings = {item.point.id: item for item in candidate.holdings.standings}
    if candidate.inventory is None:
        standing = _newest(tuple(standings.values()), target)
        return _Fit(candidate, standing, _microseconds(standing.point.taken_at))
    chain = choose_points(candidate.inventory, target).chains[0]
    reaches = chain.window.end_lsn if target.kind == "end" else 0
    return _Fit(candidate, standings[chain.points[-1].id], reaches)


def _microseconds(at: datetime) -> int:
    return (at - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def _newest(standings: tuple[PointStanding, ...], target: RecoveryTarget) -> PointStanding:
    """Raises Damaged (code "no-clean-point")."""
    until = target_time(target) if target.kind == "time" else None
    usable = [
        item
        for item in standings
        if not item.quarantined and (until is None or item.point.taken_at <= until)
    ]
    if not usable:
        raise Damaged(
            f"expected a recovery point{f' of {target.value} or before' if until else ''}, "
            "found none that may be used",
            code="no-clean-point",
            hint="Choose a later moment, or another location.",
        )
    return max(usable, key=lambda item: (item.point.taken_at, item.point.id))


def _why_after(best: _Fit, other: _Fit) -> str:
    if other.reaches != best.reaches:
        return "it ends earlier"
    if (other.standing.proven_at is None) != (best.standing.proven_at is None):
        return "its point is not proven"
    return "it is farther" if other.candidate.distance != best.candidate.distance else "equal"


def _nothing(candidates: tuple[Candidate, ...], others: list[tuple[str, str]]) -> LeewardError:
    told = "; ".join(f"{location}: {why}" for location, why in others)
    if all(candidate.error is not None for candidate in candidates):
        return NotReady(
            f"expected one location to answer, none did: {told}",
            code="no-copy-answers",
            hint="Mend the network or the logins of one location; the data needs no other.",
        )
    return Damaged(
        f"expected a copy that leads to the moment, found none: {told}",
        code="no-copy-fits",
        hint="Choose an earlier moment, or wait for the locations that do not answer.",
    )
