"""Tables that were dropped are made again as they were, empty, from a recovered server's schema.

With a table come its partitions and their root, its indexes, constraints, triggers, privileges and
owner, the views over it, and the references to it that fell with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from chalicelib.errors import BadInput, CheckFailed
from chalicelib.ports import Databases, Session

DUMP_SECONDS = 120
FOREIGN_KEY_VIOLATION = "23503"


@dataclass(frozen=True)
class LostSchema:
    """`relations`: tables and views to be made again. `script`: what makes them. `references`:
    (table, constraint, definition) of living tables that refer to one of them no longer."""

    relations: tuple[str, ...]
    script: str
    references: tuple[tuple[str, str, str], ...]
    materialized: tuple[str, ...]


NOTHING = LostSchema((), "", (), ())


def find_lost_schema(
    then: Databases, session: Session, live: Session, tables: Iterable[str]
) -> LostSchema:
    """What must be made again so that these tables are there; NOTHING when they all are.

    Raises:
        CheckFailed: code "schema-not-read", with pg_dump's words.
    """
    gone = _absent(live, tables)
    if not gone:
        return NOTHING
    related = [str(name) for (name,) in session.query(_RELATED, (gone,))]
    relations = [*gone, *(name for name in _absent(live, related) if name not in gone)]
    kinds = dict(session.query(_KINDS, (relations,)))
    references = [
        (str(table), str(name), str(definition))
        for table, name, definition in session.query(_REFERENCES, (relations, relations))
        if not live.query(_HAS_CONSTRAINT, (table, name)) and not _absent(live, [table])
    ]
    return LostSchema(
        tuple(relations),
        hang_in_last(_dump(then, relations), frozenset(relations)),
        tuple(references),
        tuple(name for name in relations if kinds[name] == "m"),
    )


def make_schema(live: Session, lost: LostSchema) -> None:
    """Within the caller's transaction."""
    if lost.script:
        live.execute(lost.script)


def mend_references(live: Session, lost: LostSchema) -> tuple[str, ...]:
    """After the rows are back. Returns what a person should know of it."""
    notes = []
    for table, name, definition in lost.references:
        live.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition} NOT VALID")
        if not _validate(live, table, name):
            notes.append(
                f"{name} of {table} holds for new rows alone: old ones refer to rows that are gone;"
                f" mend them, then ALTER TABLE {table} VALIDATE CONSTRAINT {name}"
            )
    for name in lost.materialized:
        live.execute(f"REFRESH MATERIALIZED VIEW {name}")
    return tuple(notes)


def raise_sequences(then: Session, live: Session, tables: Iterable[str]) -> tuple[str, ...]:
    """Let no number be given out twice: sequences of emptied tables go on from where they were.

    Returns those that were moved. It is no part of a transaction, and only ever counts up.
    """
    moved = []
    for name, last_value, called in then.query(_SEQUENCES, (list(tables),)):
        found = live.query("SELECT to_regclass(%s) IS NOT NULL", (name,))
        if found != [(True,)]:
            continue
        [(now,)] = live.query(f"SELECT last_value FROM {name}")
        if int(now) < int(last_value):
            live.query("SELECT setval(%s::regclass, %s, %s)", (name, last_value, called))
            moved.append(str(name))
    return tuple(moved)


def _validate(live: Session, table: str, constraint: str) -> bool:
    live.execute("SAVEPOINT leeward_reference")
    try:
        live.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}")
    except BadInput as error:
        if error.context.get("sqlstate") != FOREIGN_KEY_VIOLATION:
            raise
        live.execute("ROLLBACK TO SAVEPOINT leeward_reference")
        return False
    return True


def _absent(live: Session, names: Iterable[str]) -> list[str]:
    found = live.query(
        "SELECT name FROM unnest(%s::text[]) name WHERE to_regclass(name) IS NULL", (list(names),)
    )
    return [str(name) for (name,) in found]


def hang_in_last(script: str, relations: frozenset[str]) -> str:
    """A partition goes into a root that is there after its indexes are made: as it goes in, the
    root's own are matched with them. pg_dump expects to make the root's later. Pure."""
    last: list[str] = []

    def move(found: re.Match[str]) -> str:
        if found["what"] == "TABLE ONLY" and found["root"] in relations:
            return found[0]
        if found["what"] == "INDEX" and not last:
            return found[0]
        if found["what"] == "TABLE ONLY":
            last.append(found[0])
        return ""

    return _HANG_IN.sub(move, script) + "\n" + "\n".join(last)


def _dump(then: Databases, relations: Iterable[str]) -> str:
    outcome = then.run_tool(
        "pg_dump", "--schema-only", "--no-publications", "--no-subscriptions", "--no-tablespaces",
        *(f"--table={name}" for name in relations),
        timeout_seconds=DUMP_SECONDS,
    )  # fmt: skip
    if outcome.status != 0:
        said = outcome.errors.strip().splitlines()
        raise CheckFailed(
            f"expected the definitions of {', '.join(relations)}: {said[-1] if said else 'none'}",
            hint="recover the whole database instead (the scenario database-corruption)",
            code="schema-not-read",
        )
    return _PSQL_ALONE.sub("", outcome.output)


_HANG_IN = re.compile(
    r"^ALTER (?P<what>TABLE ONLY|INDEX) (?P<root>.+?) ATTACH PARTITION .*;$", re.MULTILINE
)

# \restrict is psql's; the limits are the caller's to set.
_PSQL_ALONE = re.compile(
    r"^(\\(un)?restrict .*|SET (statement|lock|transaction|idle_in_\w+)_timeout .*)$",
    re.MULTILINE,
)

_KINDS = """
SELECT format('%%I.%%I', n.nspname, c.relname), c.relkind::text
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY (SELECT to_regclass(unnest(%s::text[])))
"""

# The roots above them, partitions below those that are partitioned, and views over any of them.
_RELATED = """
WITH RECURSIVE named AS (
  SELECT to_regclass(unnest(%s::text[]))::oid AS oid
), family AS (
  SELECT oid FROM named
  UNION SELECT a.relid::oid FROM named, pg_partition_ancestors(named.oid) a
), over_them AS (
  SELECT oid FROM family
  UNION
  SELECT r.ev_class FROM over_them o
    JOIN pg_depend d ON d.refobjid = o.oid AND d.refclassid = 'pg_class'::regclass
                    AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid
)
SELECT format('%%I.%%I', n.nspname, c.relname)
  FROM over_them o JOIN pg_class c ON c.oid = o.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm')
 ORDER BY 1
"""

_REFERENCES = """
SELECT format('%%I.%%I', n.nspname, c.relname), quote_ident(k.conname), pg_get_constraintdef(k.oid)
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE k.contype = 'f' AND k.conparentid = 0
   AND k.confrelid = ANY (SELECT to_regclass(unnest(%s::text[])))
   AND NOT k.conrelid = ANY (SELECT to_regclass(unnest(%s::text[])))
 ORDER BY 1, 2
"""

_HAS_CONSTRAINT = """
SELECT 1 FROM pg_constraint
 WHERE conrelid = to_regclass(%s) AND quote_ident(conname) = %s
"""

# Of identity columns and of serial ones (pg_depend: internal, automatic).
_SEQUENCES = """
SELECT format('%%I.%%I', n.nspname, c.relname), s.last_value, s.last_value IS NOT NULL
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_sequences s ON s.schemaname = n.nspname AND s.sequencename = c.relname
  JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('i', 'a')
 WHERE c.relkind = 'S' AND s.last_value IS NOT NULL
   AND d.refobjid = ANY (SELECT to_regclass(unnest(%s::text[])))
 ORDER BY 1
"""
