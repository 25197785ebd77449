"""Close a database server to the application's role, and open it again as it was.

    stop_writes:  NOLOGIN + marker (one transaction) -> end its sessions -> none left, settled
    open_writes:  the state before + marker away (one transaction)

The marker is the role's comment: {"leeward": {"token", "run_id", "login", "comment"}}; a database
administrator sees it with \\du+. It holds what was there before, so that opening restores exactly
that, whoever does it and however often the closing was repeated.

must: a run with an older token never changes what a newer one marked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.errors import BadInput, CheckFailed, Fenced, Unavailable
from chalicelib.ports import Clock, Databases, Session

# A session whose login was granted just before shows itself within this time.
SETTLE_SECONDS = 0.2
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class WritesStopped:
    """`ended`: sessions that this call ended. `seconds`: until the last one was gone."""

    role: str
    token: int
    ended: int
    seconds: float


def stop_writes(
    databases: Databases,
    role: str,
    *,
    token: int,
    run_id: str,
    clock: Clock,
    limit_seconds: float = 60,
) -> WritesStopped:
    """Refuse the role's connections and end those it has, in every database of the server.

    Safe to repeat. Needs CREATEROLE with ADMIN OPTION on the role, and pg_signal_backend or
    membership in the role; no superuser.

    Raises:
        Fenced: a newer token's marker is there.
        BadInput: code "no-such-role".
        CheckFailed: code "prepared-transactions-open": they would commit behind the fence.
        Unavailable: code "sessions-left" after `limit_seconds`.
    """
    started = clock.now()
    with databases.admin_session() as session:
        login, comment = _read_role(session, role)
        marker = _read_marker(comment)
        _refuse_newer(role, marker, token)
        if marker:
            login, comment = marker["login"], marker["comment"]
        _close(session, role, token, run_id, login, comment)
        ended, quiet_at = _end_sessions(session, role, clock, limit_seconds)
        _refuse_prepared(session, role)
    return WritesStopped(role, token, ended, (quiet_at - started).total_seconds())


def open_writes(databases: Databases, role: str, *, token: int) -> bool:
    """Give the role back what it had before `stop_writes`; False when it was open already.

    Raises:
        Fenced: a newer token's marker is there.
    """
    with databases.admin_session() as session:
        _, comment = _read_role(session, role)
        marker = _read_marker(comment)
        if marker is None:
            return False
        _refuse_newer(role, marker, token)
        _open(session, role, marker)
        return True


def read_fence(databases: Databases, role: str) -> dict[str, Any] | None:
    """The marker {"token", "run_id", "login", "comment"} on the role, or None."""
    with databases.admin_session() as session:
        return _read_marker(_read_role(session, role)[1])


def _read_role(session: Session, role: str) -> tuple[bool, str | None]:
    found = session.query(
        "SELECT rolcanlogin, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s",
        (role,),
    )
    if not found:
        raise BadInput(
            f"expected the role {role} on the server, found none",
            code="no-such-role",
            hint="Name the application's role in the plan.",
        )
    return bool(found[0][0]), found[0][1]


def _read_marker(comment: str | None) -> dict[str, Any] | None:
    try:
        content = json.loads(comment or "")
    except ValueError:
        return None
    return content.get("leeward") if isinstance(content, dict) else None


def _refuse_newer(role: str, marker: dict[str, Any] | None, token: int) -> None:
    if marker and marker["token"] > token:
        raise Fenced(
            f"expected to hold the fence of {role} with token {token}, "
            f"found {marker['token']} of {marker['run_id']}",
            hint="A newer run took over; look at its incident before you act.",
            role=role,
        )


def _close(
    session: Session, role: str, token: int, run_id: str, login: bool, comment: str | None
) -> None:
    marker = {"token": token, "run_id": run_id, "login": login, "comment": comment}
    text = json.dumps({"leeward": marker})
    _run_both(session, "ALTER ROLE %I NOLOGIN; COMMENT ON ROLE %I IS %L", role, text)


def _open(session: Session, role: str, marker: dict[str, Any]) -> None:
    login = "LOGIN" if marker["login"] else "NOLOGIN"
    _run_both(session, f"ALTER ROLE %I {login}; COMMENT ON ROLE %I IS %L", role, marker["comment"])


def _run_both(session: Session, template: str, role: str, comment: str | None) -> None:
    """Statements sent together are one transaction; the server does the quoting."""
    [(statements,)] = session.query(
        "SELECT format(%s, %s::text, %s::text, %s::text)", (template, role, role, comment)
    )
    session.execute(str(statements))


def _end_sessions(
    session: Session, role: str, clock: Clock, limit_seconds: float
) -> tuple[int, datetime]:
    """How many were ended, and since when none is left."""
    ended: set[int] = set()
    started = quiet_since = clock.now()
    while (clock.now() - quiet_since).total_seconds() < SETTLE_SECONDS:
        left = [int(pid) for pid, _ in session.query(_END_SESSIONS, (role,))]
        ended.update(left)
        if left:
            quiet_since = clock.now()
        if (clock.now() - started).total_seconds() > limit_seconds:
            raise Unavailable(
                f"expected no session of {role} after {limit_seconds:.0f} s, found {len(left)}",
                code="sessions-left",
                answered=True,
                hint="Look at what they wait for in pg_stat_activity; the step is tried again.",
            )
        clock.sleep(POLL_SECONDS)
    return len(ended), quiet_since


def _refuse_prepared(session: Session, role: str) -> None:
    names = [str(gid) for (gid,) in session.query(_PREPARED, (role,))]
    if names:
        raise CheckFailed(
            f"expected no prepared transaction of {role}, found {', '.join(names)}",
            code="prepared-transactions-open",
            hint="COMMIT PREPARED or ROLLBACK PREPARED each of them, then go on.",
            transactions=names,
        )


_END_SESSIONS = """
SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE usename = %s AND pid <> pg_backend_pid()
"""

_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE owner = %s ORDER BY gid"
