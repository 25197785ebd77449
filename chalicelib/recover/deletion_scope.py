"""What a deletion took: the transaction that deleted rows, the burst in which objects went. Pure.

A deletion is named when a person named it, or when nothing else comes near it. What is not clear is
said with all that it may be, and nothing is guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import CheckFailed
from chalicelib.plan.records import (
    Damage,
    Record,
    RecoveryTarget,
    format_lsn,
    format_time,
)
from chalicelib.recover.database.changes import FIRST_USER_NUMBER, Relfile, Transaction
from chalicelib.recover.database.relations import Relations
from chalicelib.recover.database.suspects import WHOLE_DATABASE, Suspect

SHOWN = 10
# Kinds of suspects that lose rows; an update or a rewrite has another way back.
DELETING = frozenset({"mass-delete", "truncate", "drop"})
# Deletions of objects that lie no further apart belong together.
BURST_GAP = timedelta(minutes=2)
# Transactions that delete, so close to the likeliest, are of one hand.
TOGETHER = timedelta(minutes=10)
# A burst stands out when it is this large, and so much larger than any other.
BURST_OBJECTS = 20
TIMES_OTHERS = 5


@dataclass(frozen=True)
class DeletedRows(Record):
    """A transaction that deleted rows. `tables`: name -> rows; `lost`: tables that it truncated,
    dropped or wrote anew, as far as a map names their files, or the whole database."""

    xid: int
    commit_lsn: int
    committed_at: datetime
    tables: dict[str, int]
    lost: tuple[str, ...]

    @property
    def rows(self) -> int:
        return sum(self.tables.values())

    @property
    def told(self) -> str:
        parts = [f"{rows:,} of {table}" for table, rows in self.tables.items()]
        parts += [f"all of {table}" for table in self.lost]
        return f"transaction {self.xid}, {format_time(self.committed_at)}: {', '.join(parts)}"


def deletions_of(
    transactions: Iterable[Transaction], relations: Relations
) -> Iterator[DeletedRows]:
    """Those that deleted rows of users' tables, lost such a table or all of the database."""
    for it in transactions:
        tables = {
            relations.name_of(file): rows.deleted
            for file, rows in it.rows.items()
            if rows.deleted and _is_users(relations, file)
        }
        lost = [
            relation.name
            for file, _ in it.dropped
            if (relation := relations.get(file)) and relation.is_user_table
        ]
        if not relations.oids.isdisjoint(it.dropped_databases):
            lost.insert(0, WHOLE_DATABASE)
        if tables or lost:
            yield DeletedRows(it.xid, it.commit_lsn, it.committed_at, tables, tuple(lost))


def _is_users(relations: Relations, file: Relfile) -> bool:
    relation = relations.get(file)
    ours = relations.has(file) and file.number >= FIRST_USER_NUMBER
    return ours and (relation is None or relation.is_user_table)


def largest(found: Iterable[DeletedRows]) -> tuple[DeletedRows, ...]:
    """The ten that took most: the whole database first, then those that lost whole tables."""

    def place(it: DeletedRows) -> tuple[bool, bool, int]:
        return WHOLE_DATABASE not in it.lost, not it.lost, -it.rows

    return tuple(sorted(found, key=place)[:SHOWN])


def decide_rows(
    found: tuple[DeletedRows, ...],
    suspects: tuple[Suspect, ...],
    *,
    named: frozenset[int],
    since: datetime | None,
    timeline: int,
    now: datetime,
) -> tuple[Damage, ...]:
    """The transactions whose rows are to come back, the last one first; () when none stands out.

    A person who deletes from two tables commits twice: deletions that stand out within ten minutes
    of the likeliest are one.

    Args:
        found: the largest deletions (since the moment, if a person named one), largest first.
        suspects: of all the WAL that was read, the likeliest first.
        named: the transaction that a person named; else empty.
        since: a moment that a person named: what deleted rows before it is not looked for.
    Raises:
        CheckFailed: code "deletion-not-clear", naming what it may be; "database-dropped" when the
            whole database is among it: rows can be brought back only where there are tables.
    """
    fitting = [it for it in found if it.xid in named] if named else list(found)
    strong = {it.xid: it for it in suspects if it.strong and it.kind in DELETING}
    chosen = [it for it in fitting if it.xid in strong]
    if named or (not chosen and since is not None and len(fitting) == 1):
        chosen = fitting
    if not chosen and (named or (since is not None and fitting)):
        raise _not_clear(fitting, named)
    if not chosen:
        return ()
    likeliest = min(chosen, key=lambda it: list(strong).index(it.xid) if it.xid in strong else 0)
    together = [
        it for it in chosen if abs(it.committed_at - likeliest.committed_at) <= TOGETHER
    ]  # fmt: skip
    others = [it for it in found if it not in together]
    for it in together:
        if WHOLE_DATABASE in it.lost:
            raise _dropped(it)
    return tuple(
        _damage(it, strong.get(it.xid), others, named, timeline, now)
        for it in sorted(together, key=lambda it: -it.commit_lsn)
    )


def _damage(
    one: DeletedRows,
    suspect: Suspect | None,
    others: list[DeletedRows],
    named: frozenset[int],
    timeline: int,
    now: datetime,
) -> Damage:
    return Damage(
        kind=suspect.kind if suspect else ("truncate" if one.lost else "mass-delete"),
        found=one.told,
        how="a person named it" if named else (suspect.why if suspect else "the only one since"),
        target=RecoveryTarget("xid", str(one.xid), one.commit_lsn, timeline),
        detected_at=now,
        damaged_at=one.committed_at,
        xid=one.xid,
        commit_lsn=one.commit_lsn,
        tables=tuple(dict.fromkeys((*one.tables, *one.lost))),
        rows=suspect.rows if suspect and one.lost else one.rows,
        alternatives=tuple(_alternative(it) for it in others),
    )


def _alternative(it: DeletedRows) -> dict[str, Any]:
    return {
        "xid": it.xid,
        "committed_at": format_time(it.committed_at),
        "tables": [*it.tables, *it.lost],
        "rows": it.rows,
        "why": f"at {format_lsn(it.commit_lsn)}",
    }


def _dropped(it: DeletedRows) -> CheckFailed:
    return CheckFailed(
        f"expected tables whose rows were deleted, found them dropped: {it.told}",
        hint="recover the database by its own scenario; its moment is this transaction",
        code="database-dropped",
        alternatives=[_alternative(it)],
    )


def _not_clear(fitting: list[DeletedRows], named: frozenset[int]) -> CheckFailed:
    told = "; ".join(it.told for it in fitting) or "none that deleted rows"
    wanted = f"transaction {', '.join(map(str, named))}" if named else "one deletion"
    return CheckFailed(
        f"expected {wanted} in the stored WAL, found {told}",
        hint="name one of them as the moment: its transaction id",
        code="deletion-not-clear",
        alternatives=[_alternative(it) for it in fitting],
    )


@dataclass(frozen=True)
class Burst(Record):
    """Objects that were deleted one soon after the other; times are S3's whole seconds."""

    from_at: datetime
    until_at: datetime
    objects: int

    @property
    def told(self) -> str:
        return f"{self.objects:,} from {format_time(self.from_at)} to {format_time(self.until_at)}"


def find_bursts(seconds: Counter[datetime]) -> tuple[Burst, ...]:
    """How many objects went in which second -> bursts, the largest first."""
    bursts: list[Burst] = []
    for at in sorted(seconds):
        if bursts and at - bursts[-1].until_at <= BURST_GAP:
            last = bursts.pop()
            bursts.append(Burst(last.from_at, at, last.objects + seconds[at]))
        else:
            bursts.append(Burst(at, at, seconds[at]))
    return tuple(sorted(bursts, key=lambda burst: -burst.objects))


def decide_burst(bursts: tuple[Burst, ...], *, since: datetime | None) -> Burst | None:
    """The burst whose objects are to come back; None when none stands out.

    Args:
        since: a moment that a person named: all that was deleted from its second on, which is one
            deletion then.
    """
    if since is not None:
        after = [it for it in bursts if it.until_at >= since.replace(microsecond=0)]
        if not after:
            return None
        first, last = min(it.from_at for it in after), max(it.until_at for it in after)
        return Burst(first, last, sum(it.objects for it in after))
    if not bursts or bursts[0].objects < BURST_OBJECTS:
        return None
    second = bursts[1].objects if len(bursts) > 1 else 0
    return bursts[0] if bursts[0].objects >= TIMES_OTHERS * second else None
