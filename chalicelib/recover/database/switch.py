"""The last steps of a switch: close the damaged database, and see the application write again.

    loaded -> retire the damaged database -> secret names the new one -> open writes -> first write

The damaged database is closed to the application's role before that role may log in again, so that
a process which still holds the old address cannot write where nobody will look.
"""

from __future__ import annotations

from datetime import datetime

from chalicelib.errors import CheckFailed, NotReady
from chalicelib.ports import Clock, Databases, Session

POLL_SECONDS = 0.1


def retire_database(databases: Databases, database: str, role: str) -> bool:
    """Refuse the role in one database, whatever else it may do; False when nothing is to do.

    Takes CONNECT away from the role and from everybody (PUBLIC), keeps it for the operator, ends
    the sessions there. Needs membership in the database's owner.

    Raises:
        NotReady: code "database-stays-open".
    """
    with databases.admin_session() as session:
        if not _is_open(session, database, role):
            return False
        [(statements,)] = session.query(_RETIRE, (database, database, database, role))
        session.execute(str(statements))
        session.query(_END_SESSIONS, (database, role))
        if _is_open(session, database, role):
            raise NotReady(
                f"expected {database} to refuse {role}, it is let in by another role of its",
                code="database-stays-open",
                hint="Revoke CONNECT from the roles that it belongs to, or its superuser right.",
            )
        return True


def is_there(databases: Databases, database: str) -> bool:
    with databases.admin_session() as session:
        return bool(session.query("SELECT 1 FROM pg_database WHERE datname = %s", (database,)))


def _is_open(session: Session, database: str, role: str) -> bool:
    sql = "SELECT has_database_privilege(%s, oid, 'CONNECT') FROM pg_database WHERE datname = %s"
    rows = session.query(sql, (role, database))
    return bool(rows and rows[0][0])


def reinstate_database(databases: Databases, database: str, role: str) -> None:
    """Let the role into a retired database again: what undoes a switch."""
    with databases.admin_session() as session:
        template = "GRANT CONNECT ON DATABASE %I TO PUBLIC; GRANT CONNECT ON DATABASE %I TO %I"
        [(statements,)] = session.query(
            "SELECT format(%s, %s::text, %s::text, %s::text)", (template, database, database, role)
        )
        session.execute(str(statements))


def count_writes(databases: Databases, database: str) -> int:
    """Rows ever inserted, updated and deleted in the tables of a database, as its statistics
    say. Every session reports within a second of its commit (PGSTAT_MIN_INTERVAL)."""
    with databases.session(database, read_only=True) as session:
        return _writes(session)


def wait_for_application(
    databases: Databases, database: str, *, writes_before: int, clock: Clock, limit_seconds: float
) -> datetime:
    """When the application's first write in `database` was seen: at most a second after it.

    Args:
        writes_before: `count_writes` from before it could write there.
    Raises:
        CheckFailed: code "application-silent" after `limit_seconds`.
    """
    started = clock.now()
    with databases.session(database, read_only=True) as session:
        while _writes(session) <= writes_before:
            if (clock.now() - started).total_seconds() > limit_seconds:
                raise CheckFailed(
                    f"expected the application to write in {database} within "
                    f"{limit_seconds:.0f} s, found no write",
                    code="application-silent",
                    hint="Does it read its secret again? Restart it.",
                )
            clock.sleep(POLL_SECONDS)
    return clock.now()


def _writes(session: Session) -> int:
    [(writes,)] = session.query(_WRITES)
    return int(writes)


# Autovacuum writes catalogues alone, which are not counted here.
_WRITES = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables
"""

_RETIRE = """
SELECT format('GRANT CONNECT ON DATABASE %%I TO %%I; REVOKE CONNECT ON DATABASE %%I FROM PUBLIC;'
              ' REVOKE CONNECT ON DATABASE %%I FROM %%I',
              %s::text, current_user, %s::text, %s::text, %s::text)
"""

_END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = %s AND usename = %s AND pid <> pg_backend_pid()
"""
