"""The last steps of a switch: close the damaged database, and see the application write again.

    loaded -> retire the damaged database -> secret names the new one -> open writes -> first write

The damaged database is closed to the application's role before that role may log in again, so that
a process which still holds the old address cannot write where nobody will look. One that somebody
else made under its name cannot be closed by Leeward's role; there the application's may only read.
"""

from __future__ import annotations

from datetime import datetime

from chalicelib.errors import CheckFailed, NotReady
from chalicelib.ports import Clock, Databases, Session

POLL_SECONDS = 0.1


def retire_database(databases: Databases, database: str, role: str) -> bool:
    """Refuse the role in one database, whatever else it may do; False when nothing is to do.

    Takes CONNECT away from the role and from everybody (PUBLIC), keeps it for the operator, ends
    the sessions there. Where the operator is no member of the database's owner, the role's
    transactions only read there, which needs no more than what the fence needs.

    Raises:
        NotReady: code "database-stays-open".
    """
    with databases.admin_session() as session:
        if not _is_open(session, database, role):
            return False
        ours = is_ours(session, database)
        [(statements,)] = session.query(_RETIRE if ours else _READ_ONLY, (database, role))
        session.execute(str(statements))
        session.query(_END_SESSIONS, (database, role))
        if not ours:
            return True
        if _is_open(session, database, role):
            raise NotReady(
                f"expected {database} to refuse {role}, it is let in by another role of its",
                code="database-stays-open",
                hint="Revoke CONNECT from the roles that it belongs to, or its superuser right.",
            )
        return True


def is_ours(session: Session, database: str) -> bool:
    """Whether the operator is a member of its owner; False also when it is not there."""
    sql = "SELECT pg_has_role(datdba, 'MEMBER') FROM pg_database WHERE datname = %s"
    rows = session.query(sql, (database,))
    return bool(rows and rows[0][0])


def tell_retired(databases: Databases, database: str) -> str:
    """What `retire_database` left, in words."""
    if not is_there(databases, database):
        return "is gone"
    with databases.admin_session() as session:
        if is_ours(session, database):
            return "is kept and refuses it"
    return "is SOMEBODY ELSE'S: it may connect and only read there; drop it"


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
        [(statements,)] = session.query(_REINSTATE, (database, role))
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
SELECT format('GRANT CONNECT ON DATABASE %%1$I TO %%2$I; REVOKE CONNECT ON DATABASE %%1$I FROM'
              ' PUBLIC; REVOKE CONNECT ON DATABASE %%1$I FROM %%3$I',
              %s::text, current_user, %s::text)
"""

_READ_ONLY = """
SELECT format('ALTER ROLE %%2$I IN DATABASE %%1$I SET default_transaction_read_only = on',
              %s::text, %s::text)
"""

_REINSTATE = """
SELECT format('GRANT CONNECT ON DATABASE %%1$I TO PUBLIC; GRANT CONNECT ON DATABASE %%1$I TO %%2$I;'
              ' ALTER ROLE %%2$I IN DATABASE %%1$I RESET default_transaction_read_only',
              %s::text, %s::text)
"""

_END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = %s AND usename = %s AND pid <> pg_backend_pid()
"""
