"""Look at the WAL written since the last look: an alarm minutes before anybody calls.

A look ends where the last whole record was printed, and remembers what open transactions did so
far, so that no record is missed or counted twice and a long transaction counts in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.errors import CheckFailed, Damaged, Unavailable
from chalicelib.plan.components import DamageThresholds
from chalicelib.plan.records import Record, format_time, parse_lsn
from chalicelib.ports import WalText
from chalicelib.recover.database.changes import ChangeScan, OpenChanges, Relfile, Rows
from chalicelib.recover.database.relations import Relations
from chalicelib.recover.database.suspects import Suspect, decide_suspects


@dataclass(frozen=True)
class WalMark(Record):
    """Where a look ended. `seen`: the record at `lsn` was looked at. `open`: by transaction id,
    what the transactions that had not ended did so far."""

    timeline: int
    lsn: int
    seen: bool
    open: dict[str, Any]


@dataclass(frozen=True)
class Look:
    """`suspects`: strong ones, the likeliest first. `last_commit_at`: by the server's clock."""

    mark: WalMark
    suspects: tuple[Suspect, ...]
    transactions: int
    last_commit_at: datetime | None = None


def look_at_wal(
    wal: WalText,
    mark: WalMark,
    end_lsn: int,
    relations: Relations,
    thresholds: DamageThresholds,
) -> Look:
    """Judge the transactions that ended between the mark and `end_lsn`.

    Raises:
        Unavailable: code "wal-unreadable"; it says nothing about the data.
    """
    scan = ChangeScan({int(xid): _open(entry) for xid, entry in mark.open.items()})
    place = _Place(mark.lsn, mark.seen)
    if mark.lsn < end_lsn:
        try:
            scan.read(place.follow(wal.dump(mark.timeline, mark.lsn, end_lsn)))
        except Damaged as error:
            hint = "The next look starts at the end of the WAL; search the stored WAL for the rest."
            raise Unavailable(error.message, code="wal-unreadable", hint=hint) from error
    suspects = decide_suspects(scan.activity, relations, thresholds)
    after = WalMark(mark.timeline, place.lsn, place.seen, _entries(scan.open))
    strong = tuple(suspect for suspect in suspects if suspect.strong)
    return Look(after, strong, scan.activity.transactions, scan.activity.last_commit_at)


def tell_look(look: Look) -> str:
    """How much was looked at. Raises CheckFailed when a transaction is suspect."""
    if look.suspects:
        first = look.suspects[0]
        more = f" and {len(look.suspects) - 1} more" if len(look.suspects) > 1 else ""
        raise CheckFailed(
            f"transaction {first.xid}, {format_time(first.committed_at)}: {first.why}{more}",
            code="suspect-transaction",
            hint="Was it meant? Then close the incident, and state what a job does as "
            "`damage.expected`; else recover to before it.",
        )
    return f"{look.transactions} transactions, none suspect"


def remember_look(kept: dict[str, Any], look: Look, *, sound: bool) -> dict[str, Any]:
    """What a watch keeps of a look that found nothing suspect: its mark, and two commits' times, by
    the server's clock, "" when there was none.

    `seen_at`: the last that was looked at. `commit_at`: the last up to which everything was sound.
    It stays where it was when a check could not run (`sound` is False): that one may have failed.
    """
    at = look.last_commit_at
    seen_at = format_time(at) if at else kept.get("seen_at") or kept.get("commit_at", "")
    commit_at = seen_at if sound else kept.get("commit_at", "")
    return {"commit_at": commit_at, "seen_at": seen_at, "mark": look.mark.to_json()}


class _Place:
    """Skips the record that the last look ended with, and keeps the last one of this look."""

    def __init__(self, lsn: int, seen: bool) -> None:
        self.lsn = lsn
        self.seen = seen

    def follow(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self.seen and _lsn_of(chunk[: chunk.index(b"\n")]) == self.lsn:
                chunk = chunk[chunk.index(b"\n") + 1 :]
            if chunk:
                self.lsn, self.seen = _lsn_of(chunk), True
                yield chunk


def _lsn_of(text: bytes) -> int:
    """Of the last record in it."""
    return parse_lsn(text[text.rindex(b", lsn: ") + 7 :].partition(b",")[0].decode())


def _entries(open_changes: dict[int, OpenChanges]) -> dict[str, Any]:
    return {
        str(xid): {
            "rows": [[*relfile, *rows] for relfile, rows in changes.rows.items()],
            "created": [[*relfile, tablespace] for relfile, tablespace in changes.created],
            "locked": sorted(list(relfile) for relfile in changes.locked),
            "dropped_databases": list(changes.dropped_databases),
        }
        for xid, changes in open_changes.items()
    }


def _open(entry: dict[str, Any]) -> OpenChanges:
    return OpenChanges(
        rows={Relfile(*row[:2]): Rows(*row[2:]) for row in entry["rows"]},
        created=[(Relfile(*row[:2]), row[2]) for row in entry["created"]],
        locked={Relfile(*row) for row in entry["locked"]},
        dropped_databases=list(entry["dropped_databases"]),
    )
