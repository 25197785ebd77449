"""Checks of the running source, each minute: what the plan asserts and what the server knows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from functools import partial

from chalicelib.errors import BadInput, CheckFailed, NotReady
from chalicelib.plan.components import DatabaseChecks
from chalicelib.ports import Clock, Databases, Fault, Inspector
from chalicelib.verify.checks import Check, Outcome, run_checks
from chalicelib.verify.database import check_assertion, check_freshness

# amcheck reads about 166 MiB/s; a larger database is checked in parts, one a minute.
AMCHECK_BYTES = 512 << 20


def watch_database(
    databases: Databases,
    inspector: Inspector,
    checks: DatabaseChecks,
    *,
    since: datetime | None,
    clock: Clock,
    answered: Collection[str] = (),
    more: Iterable[Check] = (),
) -> Outcome:
    """Run every check once.

    Args:
        since: page checksum failures from before it are known already.
        answered: of `probe_texts`, those that the database once had an answer to. One whose table,
            column or function is gone since is a sign of damage; any other was never right.
        more: checks of the caller's own, run last.
    """
    now = clock.now()
    planned: list[Check] = [
        ("database", partial(_expect_valid, databases)),
        ("files", partial(_expect_none, inspector.missing_files)),
        ("page-checksums", partial(_expect_none, partial(inspector.failed_checksums, since))),
    ]
    texts = probe_texts(checks)
    planned += [
        (name, partial(_probe, check, known=texts[name] in answered))
        for name, check in _probes(databases, checks, now)
    ]
    if checks.amcheck:
        planned.append(("amcheck", partial(_check_part, databases, inspector, now)))
    return run_checks([*planned, *more], clock)


def probe_texts(checks: DatabaseChecks) -> dict[str, str]:
    """Name of a check -> what it asks: a plan that asks something else has asked nothing yet."""
    assertions = {f"assertion:{it.name}": it.sql for it in checks.assertions}
    fresh = {it: it for it in (f"freshness:{it.table}.{it.column}" for it in checks.freshness)}
    return assertions | fresh


def _probes(databases: Databases, checks: DatabaseChecks, now: datetime) -> Iterator[Check]:
    for it in checks.assertions:
        yield f"assertion:{it.name}", partial(check_assertion, databases, it)
    for rule in checks.freshness:
        name = f"freshness:{rule.table}.{rule.column}"
        yield name, partial(check_freshness, databases, rule, now)


def _probe(check: Callable[[], str], *, known: bool) -> str:
    try:
        return check()
    except BadInput as error:
        if error.instance_code != "no-such-object" or not known:
            raise
        raise CheckFailed(
            f"{error.message}; it was there before",
            code="object-gone",
            hint="Was it meant? Then correct the plan's probe; else recover, or name it back.",
        ) from error


def _expect_valid(databases: Databases) -> str:
    """An unfinished DROP leaves a database to which nobody can connect (pg_database.h)."""
    with databases.admin_session() as session:
        sql = "SELECT datconnlimit = -2 FROM pg_database WHERE datname = %s"
        found = session.query(sql, (databases.database,))
    if not found:
        raise NotReady(
            f"expected the database {databases.database} on the server, it is not there",
            code="no-such-database",
            hint="What happened to it stands in the WAL.",
        )
    if found[0][0]:
        raise CheckFailed(
            f"expected {databases.database} to take connections, a DROP that did not end left it "
            "invalid",
            code="invalid-database",
            hint="Recover it; all that can still be done to this one is to drop it.",
        )
    return "takes connections"


def _expect_none(look: Callable[[], tuple[Fault, ...]]) -> str:
    faults = look()
    if faults:
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise CheckFailed(
            f"{faults[0].where}: {faults[0].what}{more}",
            hint="Treat the database as damaged; a recovery keeps all its transactions.",
        )
    return "none"


def _check_part(databases: Databases, inspector: Inspector, now: datetime) -> str:
    """The tables and indexes whose turn it is: each comes up once in `parts` minutes."""
    with databases.session(read_only=True) as session:
        [(size,)] = session.query("SELECT pg_database_size(current_database())")
    parts = -(-int(size) // AMCHECK_BYTES)
    part = int(now.timestamp() // 60) % parts
    _expect_none(partial(inspector.damaged_indexes, part=part, parts=parts))
    return f"part {part + 1} of {parts} is sound"
