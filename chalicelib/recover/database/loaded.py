"""What a load made on the target, and what of it is not as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chalicelib.plan.records import Record
from chalicelib.ports import Databases


@dataclass(frozen=True)
class Loaded(Record):
    """`left_out`: extensions that the operator's role may not create on the target. `tablespaces`:
    those that it may not use there, or that are gone; with one, all is in the default one.
    `subscriptions`: none is loaded, a second one would take changes from the first. `slots`:
    logical ones of the database that it was loaded beside, whose readers see nothing of it."""

    database: str
    tables: int
    rows: int
    left_out: tuple[str, ...]
    seconds: dict[str, float]
    tablespaces: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()


def stays_outside(
    recovered: Databases, target: Databases
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(subscriptions of the recovered database, logical slots of the one it is put beside)."""
    with recovered.session(read_only=True) as session:
        subscriptions = tuple(str(name) for (name,) in session.query(_SUBSCRIPTIONS))
    with target.admin_session() as session:
        rows = session.query(_LOGICAL_SLOTS, (target.database,))
    return subscriptions, tuple(str(name) for (name,) in rows)


def tell_left_out(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """(what is not as it was, why) for a person who can mend it."""
    for extension in loaded.left_out:
        mend = f"a superuser must: CREATE EXTENSION {extension} in {loaded.database}"
        yield (
            f"extension {extension} was left out",
            (f"the operator's role may not create it; {mend}"),
        )
    for name in loaded.tablespaces:
        yield (
            "all is in the default tablespace",
            (f"tablespace {name} is gone, or the operator's role may not create in it"),
        )
    for name in loaded.subscriptions:
        yield (
            f"subscription {name} was left out",
            f"it would take changes from the one that is there; drop that one, then a superuser "
            f"must: CREATE SUBSCRIPTION {name} in {loaded.database}",
        )
    for name in loaded.slots:
        yield (
            f"logical slot {name} stays with the database from before",
            f"what reads it is told of no change in {loaded.database}: drop the slot, make one "
            f"there, and let its reader copy anew",
        )


def tell_outside(loaded: Loaded) -> str:
    """The same in few words, to follow on a line; empty when nothing is."""
    parts = {
        "left out: ": loaded.left_out,
        "not in tablespace ": loaded.tablespaces,
        "without subscription ": loaded.subscriptions,
        "unseen by logical slot ": loaded.slots,
    }
    return "".join(f"; {said}{', '.join(names)}" for said, names in parts.items() if names)


_SUBSCRIPTIONS = """
SELECT subname FROM pg_subscription
 WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
 ORDER BY subname
"""

_LOGICAL_SLOTS = """
SELECT slot_name FROM pg_replication_slots
 WHERE slot_type = 'logical' AND NOT temporary AND database = %s
 ORDER BY slot_name
"""
