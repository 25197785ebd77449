"""Which transactions may have damaged a database: scored from the row changes in its WAL. Pure.

A transaction is suspect when it changed far more rows of a table than its neighbours do, or when
it dropped, emptied or rewrote a table. Large objects count by their list, of one row each; their
pages say how large they are. A dropped materialized view can be computed again, and is told to
people alone. Inserts alone damage nothing. VACUUM FULL and CLUSTER copy a
table into a new file without inserting rows; REINDEX touches index files alone; a refresh replaces
the file of a materialized view; SET TABLESPACE moves a file: none of these is a suspect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from chalicelib.plan.components import DamageThresholds
from chalicelib.plan.records import format_time
from chalicelib.recover.database.changes import (
    FIRST_USER_NUMBER,
    NOTABLE_ROWS,
    Activity,
    CreatedFile,
    Relfile,
    Rows,
    Transaction,
)
from chalicelib.recover.database.relations import Relation, Relations

# One row for each large object, whoever owns it.
LARGE_OBJECTS = "pg_catalog.pg_largeobject_metadata"
# What a dropped database stands for among the tables.
WHOLE_DATABASE = "the whole database"
# pg_class.relkind of a materialized view.
MATERIALIZED = "m"
# So much of a table changed at once is suspect also when the table is small.
HALF_TABLE_SHARE = 0.5
# A job that did the same this often is routine, when nobody knows a moment of health before it.
ROUTINE_TIMES = 3
# A rewritten table still has its rows; a deliberate migration looks the same.
REWRITE_WEIGHT = 0.1
# Suspects of at least this share of the heaviest one's weight belong together: the first counts.
SAME_WEIGHT_SHARE = 0.5


@dataclass(frozen=True)
class Suspect:
    """A transaction that may be the damage. `strong`: enough to act on without a person.
    `drop_lsn` as of a Transaction."""

    kind: str
    xid: int
    commit_lsn: int
    committed_at: datetime
    tables: tuple[str, ...]
    rows: int
    weight: float
    strong: bool
    why: str
    drop_lsn: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "xid": self.xid,
            "kind": self.kind,
            "committed_at": format_time(self.committed_at),
            "tables": list(self.tables),
            "rows": self.rows,
            "why": self.why,
        }


@dataclass(frozen=True)
class _Loss:
    """What a transaction did to one table."""

    kind: str
    table: str
    rows: int
    why: str
    strong: bool = True

    @property
    def weight(self) -> float:
        return self.rows * (REWRITE_WEIGHT if self.kind == "rewrite" else 1)


def decide_suspects(
    activity: Activity,
    relations: Relations,
    thresholds: DamageThresholds,
    *,
    since: datetime | None = None,
) -> tuple[Suspect, ...]:
    """The transactions that may be the damage, the likeliest first.

    Args:
        activity: all of the WAL to look at, also from before `since`: it shows what is usual.
        since: the last moment at which the database is known to have been sound; what committed
            up to then is no suspect. None: nobody knows.
    Returns:
        The first is the earliest of the heavy ones: going back to before it undoes them all.
        Then by weight. Weak ones, which look like routine, come last.
    """
    judge = _Judge(activity, relations, thresholds, since)
    found = [
        suspect
        for transaction in activity.notable
        if since is None or transaction.committed_at > since
        if (suspect := judge.suspect(transaction))
    ]
    found.sort(key=lambda suspect: (not suspect.strong, -suspect.weight, suspect.commit_lsn))
    heavy = [s for s in found if s.strong and s.weight >= found[0].weight * SAME_WEIGHT_SHARE]
    if heavy:
        first = min(heavy, key=lambda suspect: suspect.commit_lsn)
        found.remove(first)
        found.insert(0, first)
    return tuple(found)


@dataclass(frozen=True)
class _Judge:
    activity: Activity
    relations: Relations
    thresholds: DamageThresholds
    since: datetime | None

    def suspect(self, transaction: Transaction) -> Suspect | None:
        tables = [*self._lost_tables(transaction), *self._mass_changes(transaction)]
        losses = [*self._lost_database(transaction), *map(self._unless_expected, tables)]
        if not losses:
            return None
        losses.sort(key=lambda loss: (not loss.strong, -loss.weight))
        return Suspect(
            kind=losses[0].kind,
            xid=transaction.xid,
            commit_lsn=transaction.commit_lsn,
            committed_at=transaction.committed_at,
            tables=tuple(dict.fromkeys(loss.table for loss in losses)),
            rows=sum(loss.rows for loss in losses),
            weight=sum(loss.weight for loss in losses),
            strong=losses[0].strong,
            why="; ".join(loss.why for loss in losses[:5]),
            drop_lsn=transaction.drop_lsn,
        )

    def _unless_expected(self, loss: _Loss) -> _Loss:
        expected = self.thresholds.expected
        if any(change.covers(loss.kind, loss.table, loss.rows) for change in expected):
            return replace(loss, why=f"{loss.why}, which the plan expects", strong=False)
        return loss

    def _lost_database(self, transaction: Transaction) -> Iterator[_Loss]:
        if not self.relations.oids.isdisjoint(transaction.dropped_databases):
            known = self.relations.total_rows
            why = f"dropped the whole database ({known} rows)"
            yield _Loss("drop", WHOLE_DATABASE, max(self.thresholds.rows, known), why)

    def _lost_tables(self, transaction: Transaction) -> Iterator[_Loss]:
        tables = [
            (relation, tablespace)
            for relfile, tablespace in transaction.dropped
            if (relation := self.relations.get(relfile)) and _holds_rows(relation)
        ]
        for table, tablespace in tables:
            new = _successor(transaction, table, self.relations, alone=len(tables) == 1)
            loss = self._lost_table(transaction, table, tablespace, new)
            if loss:
                yield loss

    def _lost_table(
        self, transaction: Transaction, table: Relation, tablespace: str, new: CreatedFile | None
    ) -> _Loss | None:
        known = self.relations.rows_of(table.name)
        rows = self.thresholds.rows if known is None else known
        said = f"{table.name} ({'an unknown number of' if known is None else known} rows)"
        if table.kind == MATERIALIZED:
            return None if new else _Loss("drop", table.name, rows, f"dropped {said}", strong=False)
        if new is None:
            return _Loss("drop", table.name, rows, f"dropped {said}", rows > 0)
        if new.tablespace != tablespace:
            return None
        if not new.transient:
            return _Loss("truncate", table.name, rows, f"emptied {said}", rows > 0)
        copied = transaction.rows.get(new.relfile, Rows()).inserted
        if copied == 0:
            made = self._is_first_file(new.relfile)
            return _Loss("drop", table.name, rows, f"dropped {said}", rows > 0) if made else None
        return _Loss("rewrite", table.name, copied, f"rewrote {copied} rows of {table.name}")

    def _is_first_file(self, relfile: Relfile) -> bool:
        """Of a table that was made with it: what it took the place of is gone."""
        relation = self.relations.get(relfile)
        return relation is not None and relation.oid == relfile.number

    def _mass_changes(self, transaction: Transaction) -> Iterator[_Loss]:
        for relfile, rows in transaction.rows.items():
            if self._is_much(relfile, rows):
                loss = self._mass_change(transaction, relfile, rows)
                if loss:
                    yield loss

    def _is_much(self, relfile: Relfile, rows: Rows) -> bool:
        """Unknown files count: a table may have come and gone between two maps."""
        relation = self.relations.get(relfile)
        if not self.relations.has(relfile) or rows.changed < NOTABLE_ROWS:
            return False
        if relation and relation.name == LARGE_OBJECTS:
            rows = Rows(deleted=rows.deleted)
        elif relfile.number < FIRST_USER_NUMBER or relation and not relation.is_user_table:
            return False
        there = self.relations.rows_of(self.relations.name_of(relfile))
        most = there is not None and rows.changed >= there * HALF_TABLE_SHARE
        return most or rows.changed >= self.thresholds.rows

    def _mass_change(self, transaction: Transaction, relfile: Relfile, rows: Rows) -> _Loss | None:
        kind, verb = _kind_of(rows)
        others = [
            (other.committed_at, other.rows[relfile])
            for other in self.activity.notable
            if other is not transaction and relfile in other.rows
        ]
        heavy = rows.changed / 2
        # A purge that runs by night makes no update of every row routine.
        alike = [at for at, did in others if did.changed >= heavy and _kind_of(did)[0] == kind]
        smaller = [did.changed for _, did in others if did.changed < heavy]
        usual = _usual(self.activity.usual.get(relfile, Counter()), smaller)
        if rows.changed < usual * self.thresholds.times_usual:
            return None
        table = self.relations.name_of(relfile)
        why = f"{verb} {rows.changed:,} rows of {table} at once, where {usual} is usual"
        if self._is_routine(alike):
            why += f"; {len(alike)} other transactions did the like"
        return _Loss(kind, table, rows.changed, why, strong=not self._is_routine(alike))

    def _is_routine(self, alike: list[datetime]) -> bool:
        if self.since is None:
            return len(alike) >= ROUTINE_TIMES
        return any(at <= self.since for at in alike)


def _kind_of(rows: Rows) -> tuple[str, str]:
    """And its verb."""
    if rows.deleted > rows.updated:
        return "mass-delete", "deleted"
    return "mass-update", "updated"


def _holds_rows(relation: Relation) -> bool:
    return relation.is_user_table or relation.kind == MATERIALIZED


def _successor(
    transaction: Transaction, table: Relation, relations: Relations, *, alone: bool
) -> CreatedFile | None:
    """The file that took the dropped one's place under the same name, if one did."""
    named = [
        created
        for created in transaction.created
        if (relation := relations.get(created.relfile)) and relation.name == table.name
    ]
    if named:
        return named[0]
    # The successor may itself have been replaced since, before a map saw it. A new table's file
    # is made before those of its TOAST table and indexes.
    nameless = [c for c in transaction.created if relations.get(c.relfile) is None]
    return nameless[0] if alone and nameless and relations.lives(table.name) else None


def _usual(counted: Counter[int], others: list[int]) -> int:
    """The median of the rows that other transactions changed; at least 1."""
    counts = counted + Counter(changed for changed in others if changed)
    middle, seen = (counts.total() + 1) // 2, 0
    for changed in sorted(counts):
        seen += counts[changed]
        if seen >= middle:
            return changed
    return 1
