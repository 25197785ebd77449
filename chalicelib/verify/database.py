"""Verify a recovered database on a throw-away server: what the plan asserts, what it is made of.

Each check is named and timed. A check that could not run has failed, and says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from chalicelib.errors import CheckFailed
from chalicelib.plan.components import Assertion, DatabaseChecks, Freshness
from chalicelib.plan.records import CheckResult, format_time
from chalicelib.ports import Clock, Databases, DatabaseServer, Inspector
from chalicelib.verify.checks import Check, run_checks
from chalicelib.verify.proofs import CLOCK_ERROR
from chalicelib.verify.schema import Schema, read_schema
from chalicelib.verify.unique import amcheck_looks, check_unique

READ_SECONDS = 800
NAMED = 5

# An index-only scan answers count(*) without reading a page of the table, so that a damaged one
# goes unseen.
READ_THE_HEAP = "SET enable_indexonlyscan = off"


def verify_database(
    databases: Databases,
    inspector: Inspector,
    checks: DatabaseChecks,
    *,
    moment: datetime,
    clock: Clock,
    schema: Schema | None = None,
) -> tuple[CheckResult, ...]:
    """Run every check on the database that `databases` names.

    Args:
        moment: what was recovered to; the newest rows are measured against it.
        schema: as it was recorded last before `moment`; None when it never was, which fails the
            plan's schema_digest.
    """
    planned: list[Check] = [
        *_assertions(databases, checks.assertions),
        *_freshness(databases, checks.freshness, moment),
        ("tables-readable", partial(_read_tables, databases)),
        ("indexes-valid", partial(_check_indexes_valid, databases)),
        ("collations", partial(_compare_collations, databases)),
    ]
    if checks.schema_digest:
        planned.append(("schema-digest", partial(_compare_schema, databases, schema)))
    if checks.amcheck:
        planned.append(("amcheck", partial(_run_amcheck, inspector, databases)))
    return run_checks(planned, clock).results


def verify_promises(
    databases: Databases,
    checks: DatabaseChecks,
    *,
    moment: datetime,
    clock: Clock,
    schema: Schema | None = None,
) -> tuple[CheckResult, ...]:
    """Only what the plan itself asks of the database that `databases` names: its assertions, its
    freshness, its schema. Arguments as of verify_database."""
    planned = [
        *_assertions(databases, checks.assertions),
        *_freshness(databases, checks.freshness, moment),
    ]
    if checks.schema_digest:
        planned.append(("schema-digest", partial(_compare_schema, databases, schema)))
    return run_checks(planned, clock).results


def verify_pages(server: DatabaseServer, *, clock: Clock) -> CheckResult:
    """Every page's checksum, by pg_checksums on the folder of the server, which it stops."""
    return run_checks([("page-checksums", partial(_check_pages, server))], clock).results[0]


def _assertions(databases: Databases, assertions: tuple[Assertion, ...]) -> Iterator[Check]:
    for assertion in assertions:
        yield f"assertion:{assertion.name}", partial(check_assertion, databases, assertion)


def _freshness(
    databases: Databases, freshness: tuple[Freshness, ...], moment: datetime
) -> Iterator[Check]:
    for rule in freshness:
        name = f"freshness:{rule.table}.{rule.column}"
        yield name, partial(check_freshness, databases, rule, moment)


def check_assertion(databases: Databases, assertion: Assertion) -> str:
    """The value, in words. Raises CheckFailed when it is not what the plan expects."""
    with databases.session(timeout_seconds=READ_SECONDS, read_only=True) as session:
        session.execute(READ_THE_HEAP)
        value = _only_number(session.query(assertion.sql))
    if not assertion.holds(float(value)):
        raise _failed(f"expected {assertion.expect.strip()}, found {value}")
    return f"{value} (expected {assertion.expect.strip()})"


def _only_number(rows: list[tuple[Any, ...]]) -> int | float | Decimal:
    """NaN is none: it is unequal to everything, so that it would pass for what was expected."""
    if len(rows) != 1 or len(rows[0]) != 1:
        raise _failed(f"expected one number, found {_shape(rows)}")
    [(value,)] = rows
    if not isinstance(value, (int, float, Decimal)) or math.isnan(value):
        told = "NULL" if value is None else repr(value)
        raise _failed(f"expected one number, found {told}")
    return value


def _shape(rows: list[tuple[Any, ...]]) -> str:
    return f"{len(rows)} rows of {len(rows[0])} columns" if rows else "no row"


def check_freshness(databases: Databases, rule: Freshness, moment: datetime) -> str:
    """The newest row's age at `moment`. Rows dated after it say nothing about how fresh the data
    is, but for what clocks may differ. Raises CheckFailed when it is too old or there is none."""
    table, column = _quoted(rule.table), _quoted(rule.column)
    with databases.session(timeout_seconds=READ_SECONDS, read_only=True) as session:
        [(newest,)] = session.query(
            _NEWEST.format(table=table, column=column), (moment + CLOCK_ERROR,)
        )
    if newest is None:
        raise _failed(
            f"expected rows in {rule.table} of {format_time(moment)} or before, found none"
        )
    age = moment - newest
    words = f"newest row {format_time(newest)}, {age.total_seconds():.1f} s before"
    if age > rule.max_age:
        raise _failed(f"{words}; expected at most {rule.max_age.total_seconds():.0f} s")
    return words


def _quoted(name: str) -> str:
    """schema.table as the plan writes it -> "schema"."table", in a query with parameters."""
    escaped = name.replace('"', '""').replace("%", "%%")
    return ".".join(f'"{part}"' for part in escaped.split("."))


def _read_tables(databases: Databases) -> str:
    with databases.session(timeout_seconds=READ_SECONDS, read_only=True) as session:
        session.execute(READ_THE_HEAP)
        tables = [str(name) for (name,) in session.query(_TABLES)]
        rows = sum(int(session.query(f"SELECT count(*) FROM ONLY {name}")[0][0]) for name in tables)
        absent = [str(told) for (told,) in session.query(_NOT_THERE)]
    return "; ".join((f"{rows} rows of {len(tables)} tables", *absent))


def _check_indexes_valid(databases: Databases) -> str:
    """An unfinished CREATE INDEX CONCURRENTLY is no damage; a constraint without its index is."""
    with databases.session(read_only=True) as session:
        invalid = session.query(_INVALID_INDEXES)
    broken = [str(name) for name, enforces in invalid if enforces]
    if broken:
        raise _failed(f"invalid indexes that enforce constraints: {_few(broken)}")
    names = [str(name) for name, _ in invalid]
    return f"invalid: {_few(names)}" if names else "no invalid index"


def _compare_collations(databases: Databases) -> str:
    """Another version of the collation library orders text otherwise, here and not at the source:
    amcheck would call sound indexes corrupt. It says nothing about the data."""
    with databases.session(read_only=True) as session:
        drifted = [f"{name} {was} here {now}" for name, was, now in session.query(_COLLATIONS)]
    return f"other versions here: {_few(drifted)}" if drifted else "the versions agree"


def _compare_schema(databases: Databases, expected: Schema | None) -> str:
    """An extension that only a superuser may create does not fail it by being away: what loads a
    database leaves it out, and tells it. What is made of it is an object of its own here."""
    with databases.session(read_only=True) as session:
        found = read_schema(session)
        left_out = {f"extension {name} is missing" for (name,) in session.query(_OF_SUPERUSERS)}
    if expected is None:
        raise _failed("no schema was recorded before, so there is nothing to compare with")
    differences = expected.differences(found)
    if not left_out.issuperset(differences):
        raise _failed(f"{len(differences)} differences: {_few(differences)}")
    told = "".join(f"; {it}" for it in differences)
    return f"{len(found.objects)} objects, digest {found.digest[:12]}{told}"


def _run_amcheck(inspector: Inspector, databases: Databases) -> str:
    faults = inspector.damaged_indexes()
    if faults:
        raise _failed(_few([f"{fault.where}: {fault.what}" for fault in faults]))
    with databases.session(read_only=True) as session:
        others = [f"{count} of kind {kind}" for kind, count in session.query(_OTHER_INDEXES)]
    told = ["tables and indexes agree"]
    if not amcheck_looks(databases):
        told.append(check_unique(databases))
    if others:
        told.append(f"not looked into: {_few(others)}")
    return "; ".join(told)


def _check_pages(server: DatabaseServer) -> str:
    server.stop("fast")
    outcome = server.run_tool(
        "pg_checksums", "--check", "--pgdata", str(server.data_dir), timeout_seconds=READ_SECONDS
    )
    if outcome.status != 0:
        raise _failed((outcome.errors or outcome.output).strip().splitlines()[-1])
    return "; ".join(" ".join(line.split()) for line in outcome.output.splitlines()[1:4])


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _failed(message: str) -> CheckFailed:
    return CheckFailed(message, hint="Look at the record of the verification.")


_NEWEST = "SELECT max({column})::timestamptz FROM {table} WHERE {column} <= %s"

_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname <> 'pg_toast'
   AND (c.relkind = 'r' OR c.relispopulated)
"""

# What was at the source and is in no backup, or is in it and is no row yet.
_NOT_THERE = """
SELECT 'unlogged and so empty: ' || string_agg(oid::regclass::text, ', ' ORDER BY oid)
  FROM pg_class WHERE relkind = 'r' AND relpersistence = 'u' HAVING count(*) > 0
UNION ALL
SELECT 'prepared, neither committed nor rolled back: ' || string_agg(gid, ', ' ORDER BY gid)
  FROM pg_prepared_xacts WHERE database = current_database() HAVING count(*) > 0
"""

# amcheck knows B-trees alone.
_OTHER_INDEXES = """
SELECT a.amname::text, count(*) FROM pg_class c JOIN pg_am a ON a.oid = c.relam
 WHERE c.relkind = 'i' AND c.relpersistence <> 't' AND a.amname <> 'btree' GROUP BY 1 ORDER BY 1
"""

_INVALID_INDEXES = """
SELECT indexrelid::regclass::text, indisunique OR indisprimary OR indisexclusion
  FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive)
"""

_COLLATIONS = """
SELECT datname::text, datcollversion, pg_database_collation_actual_version(oid)
  FROM pg_database
 WHERE datname = current_database()
   AND datcollversion <> pg_database_collation_actual_version(oid)
UNION ALL
SELECT collname::text, collversion, pg_collation_actual_version(oid)
  FROM pg_collation WHERE collversion <> pg_collation_actual_version(oid)
"""

_OF_SUPERUSERS = """
SELECT DISTINCT name FROM pg_available_extension_versions WHERE superuser AND NOT trusted
"""
