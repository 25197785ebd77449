"""Which transactions changed what a database is made of, and what was lost by it. Pure.

WAL names the catalogues that a transaction wrote and the relations that it locked against everybody
(AccessExclusiveLock), never the rows: what is gone comes from the schema that was last seen sound,
beside the one of now; so do rights and triggers that are lost. A migration looks the same: none of
these is enough to act on, but where the plan's assertions prove that the database is sound before
it and not after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from chalicelib.recover.database.changes import Activity, Relfile, Shaped, Transaction
from chalicelib.recover.database.lost_traits import LostTrait, taken_by, written_catalogues
from chalicelib.recover.database.relations import Relations
from chalicelib.recover.database.sequences import Sequence, tell_put_back
from chalicelib.recover.database.suspects import Suspect

TOLD = 5
# Where PostgreSQL keeps what is called so in a schema (pg_catalog).
_CATALOGUES = {
    "table": "pg_class",
    "view": "pg_class",
    "materialized view": "pg_class",
    "foreign table": "pg_class",
    "sequence": "pg_class",
    "index": "pg_class",
    "column": "pg_attribute",
    "constraint": "pg_constraint",
    "trigger": "pg_trigger",
    "policy": "pg_policy",
    "function": "pg_proc",
    "type": "pg_type",
    "extension": "pg_extension",
}


class Named(NamedTuple):
    """A table, view or partitioned table as it is called now; `file` 0 when it has none."""

    name: str
    file: int


@dataclass(frozen=True)
class Shapes:
    """`tables`: by oid. `before`, `now`: object -> digest, as `Schema.objects`; `before` holds all
    that was seen of a sound database, `now` what there is. `taken`: traits that are lost.
    `sequences`: by the number of their file, those that a transaction may have put back."""

    tables: Mapping[int, Named] = field(default_factory=dict)
    before: Mapping[str, str] = field(default_factory=dict)
    now: Mapping[str, str] = field(default_factory=dict)
    taken: tuple[LostTrait, ...] = ()
    sequences: Mapping[int, Sequence] = field(default_factory=dict)

    def lost(self) -> Iterator[tuple[str, str, bool]]:
        """(kind, name, whether it is gone): the rest is there and is not what it was."""
        for key, digest in self.before.items():
            if self.now.get(key) != digest:
                kind = next(it for it in _KINDS if key.startswith(f"{it} "))
                yield kind, key.removeprefix(f"{kind} "), key not in self.now


_KINDS = tuple(_CATALOGUES)
_TABLES = ("table", "view", "materialized view", "foreign table")


class _Change(NamedTuple):
    """`object`: the table, view or function; "" for an index, whose table no schema names."""

    kind: str
    object: str
    why: str


def to_keep(relations: Relations, shapes: Shapes) -> Shaped:
    """What a ChangeScan has to look for."""
    tables = {Relfile(oid, table) for oid in relations.oids for table in shapes.tables}
    names = {f"pg_catalog.{name}" for name in _CATALOGUES.values()}
    taken = written_catalogues(shapes.taken)
    unlocked = {
        Relfile(oid, number) for number in relations.files_of(taken) for oid in (0, *relations.oids)
    }
    catalogues = relations.files_of(names | taken)
    return Shaped(frozenset(tables), catalogues, frozenset(unlocked))


def find_reshaped(
    activity: Activity, relations: Relations, shapes: Shapes, *, beside: Collection[int] = ()
) -> tuple[Suspect, ...]:
    """The transactions that may have taken away what is gone, the newest first; none is strong.

    Args:
        beside: ids of transactions that are suspect already.
    """
    found = [
        suspect
        for transaction in reversed(activity.notable)
        if transaction.xid not in beside
        if (suspect := judge_reshaped(transaction, relations, shapes))
    ]
    return tuple(found)


def judge_reshaped(
    transaction: Transaction, relations: Relations, shapes: Shapes
) -> Suspect | None:
    """What of that which is gone it may have taken away; None when it wrote no such catalogue and
    put no sequence back."""
    written = {
        relations.name_of(file).removeprefix("pg_catalog.")
        for file, rows in transaction.rows.items()
        if rows.changed and relations.has(file)
    }
    locked = {it.number for it in transaction.locked if it.database in relations.oids}
    names = {shapes.tables[oid].name for oid in locked if oid in shapes.tables}
    taken = tuple(taken_by(transaction, shapes.taken, relations, names))
    told = {it.object for it in taken}
    changes = [
        *(_Change("sequence", *it) for it in tell_put_back(transaction, shapes.sequences)),
        *(_Change(it.suspicion, it.name, it.why) for it in taken),
        *_changes(written, locked, relations, shapes, told=told),
    ]
    if not changes:
        return None
    more = f" and {len(changes) - TOLD} more" if len(changes) > TOLD else ""
    return Suspect(
        kind=changes[0].kind,
        xid=transaction.xid,
        commit_lsn=transaction.commit_lsn,
        committed_at=transaction.committed_at,
        tables=tuple(dict.fromkeys(change.object for change in changes if change.object)),
        rows=0,
        weight=0.0,
        strong=False,
        why="; ".join(change.why for change in changes[:TOLD]) + more,
    )


def _changes(
    written: set[str], locked: set[int], relations: Relations, shapes: Shapes, *, told: set[str]
) -> Iterator[_Change]:
    renamed = dict(
        _renamed(locked, relations, shapes) if {"pg_class", "pg_type"} <= written else ()
    )
    for was, now in renamed.items():
        yield _Change("rename", was, f"renamed {was} to {now}")
    for kind, name, gone in shapes.lost():
        if _CATALOGUES[kind] not in written or name in renamed:
            continue
        if not gone and (kind == "sequence" or f"{kind} {name}" in told):
            continue  # a sequence changes with its table alone
        table = name if kind in _TABLES and not gone else _table_of(kind, name)
        if table in renamed or not _was_locked(table, locked, shapes):
            continue
        yield _change(kind, name, table, shapes, gone=gone)


def _renamed(locked: set[int], relations: Relations, shapes: Shapes) -> Iterator[tuple[str, str]]:
    for oid in sorted(locked & shapes.tables.keys()):
        now, file = shapes.tables[oid]
        called = [was for was in relations.names_of(file) if was != now]
        for was in called or _namesakes(now, shapes):
            if was != now and _seen_as(was, shapes.before):
                yield was, now


def _namesakes(now: str, shapes: Shapes) -> list[str]:
    """What has no file has no history: the one thing of its kind that is gone, if it is new."""
    if _seen_as(now, shapes.before):
        return []
    digest = _seen_as(now, shapes.now)
    gone = [name for kind, name, gone in shapes.lost() if gone and kind in _TABLES]
    alike = [name for name in gone if _seen_as(name, shapes.before) == digest]
    return alike if len(alike) == 1 else []


def _seen_as(name: str, objects: Mapping[str, str]) -> tuple[str, str] | None:
    """(kind, digest) of a table or view of that name."""
    keys = ((kind, f"{kind} {name}") for kind in _TABLES)
    return next(((kind, objects[key]) for kind, key in keys if key in objects), None)


def _table_of(kind: str, name: str) -> str:
    """Of what belongs to a table; "" for what stands for itself."""
    return name.rpartition(".")[0] if kind in ("column", "constraint", "trigger", "policy") else ""


def _was_locked(table: str, locked: set[int], shapes: Shapes) -> bool:
    """A table that is gone has no oid any more, and what stands for itself had none."""
    oids = {oid for oid, named in shapes.tables.items() if table and named.name == table}
    return not oids or not oids.isdisjoint(locked)


def _change(kind: str, name: str, table: str, shapes: Shapes, *, gone: bool) -> _Change:
    changed = "" if kind == "index" else table or name
    if not gone:
        return _Change("schema", changed, f"changed {kind} {name}")
    if kind != "column":
        return _Change("drop", changed, f"dropped {kind} {name}")
    new = _new_name(name, table, shapes)
    if new:
        return _Change("rename", table, f"renamed column {name} to {new}")
    return _Change("drop-column", table, f"dropped column {name}")


def _new_name(name: str, table: str, shapes: Shapes) -> str:
    """Of a column whose like is new in the same table."""
    digest = shapes.before[f"column {name}"]
    for key, other in shapes.now.items():
        if other == digest and key not in shapes.before and key.startswith(f"column {table}."):
            return key.removeprefix(f"column {table}.")
    return ""
