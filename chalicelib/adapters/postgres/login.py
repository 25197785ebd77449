"""What it means when a PostgreSQL server does not let us in.

libpq gives no SQLSTATE of a connection that was never made (psycopg's `sqlstate` is None then), so
the server's state is asked for, and its words are looked into for what only they tell.
"""

from __future__ import annotations

from typing import Any

from psycopg import pq
from psycopg.conninfo import make_conninfo

from chalicelib.errors import BadInput, LeewardError, NotReady, Unavailable

CONNECT_SECONDS = 10
# Asked of a server that just answered, or of one that did not within CONNECT_SECONDS.
PING_SECONDS = 3
# PgBouncer, src/client.c. Its words are in no other language.
_POOLER = "unsupported startup parameter"
# PostgreSQL, src/backend/storage/lmgr/proc.c and utils/init/postinit.c, in the default language.
_FULL = ("too many clients", "connection slots are reserved", "too many connections for")
_STRICT = ("require", "verify-ca", "verify-full")
_WITHOUT_TLS = {"sslmode": "disable"}
_ANY_CERTIFICATE = {"sslmode": "require", "sslrootcert": ""}


def refused_login(failed: pq.abc.PGconn | None, parameters: dict[str, Any]) -> LeewardError:
    """The error for a connection that failed with these parameters of libpq.

    Unavailable (codes "no-connection", "server-busy", "too-many-connections") when trying again may
    help; NotReady ("untrusted-server", "pooler", "wrong-password", "login-refused") when somebody
    has to mend something; BadInput ("no-such-database"), as of a statement. `answered` is in the
    context of all but "no-connection": the server is there, whatever it thinks of Leeward.
    """
    # Not get_error_message: of a connection given up by psycopg it says "is closed" alone.
    said = last_words(failed.error_message.decode(errors="replace")) if failed else "no answer"
    asked = {**parameters, "connect_timeout": PING_SECONDS}
    state = _ping(asked)
    if state == pq.Ping.REJECT:
        return Unavailable(
            f"expected the server to take connections: {said}",
            code="server-busy",
            answered=True,
            hint="It starts, stops or recovers; look at its log when that lasts.",
        )
    if state != pq.Ping.OK:
        return _unanswered(said, asked)
    return _unwanted(said) or _not_let_in(failed, said, asked)


def _ping(parameters: dict[str, Any]) -> pq.Ping:
    return pq.Ping(pq.PGconn.ping(make_conninfo("", **parameters).encode()))


def _unanswered(said: str, asked: dict[str, Any]) -> LeewardError:
    """A server that answers a stranger is no server that is away."""
    strict = asked.get("sslmode") in _STRICT or "sslrootcert" in asked
    trials = (asked | _ANY_CERTIFICATE, asked | _WITHOUT_TLS) if strict else ()
    if any(_ping(trial) in (pq.Ping.OK, pq.Ping.REJECT) for trial in trials):
        return NotReady(
            f"expected a server to trust: {said}",
            code="untrusted-server",
            answered=True,
            hint="Name in `sslrootcert` who signed its certificate, and as `host` a name that is "
            "in it; a server without TLS has `sslmode=disable`.",
        )
    return Unavailable(
        f"expected the server to answer: {said}",
        code="no-connection",
        hint="Check that the server runs and that this machine may reach it.",
    )


def _unwanted(said: str) -> LeewardError | None:
    if _POOLER in said:
        return NotReady(
            f"expected the server itself, found a connection pooler: {said}",
            code="pooler",
            answered=True,
            hint="Name the address of the server: a pooler hands on neither replication nor the "
            "settings of a session.",
        )
    if any(words in said for words in _FULL):
        return Unavailable(
            f"expected a free connection: {said}",
            code="too-many-connections",
            answered=True,
            hint="Free connections, or raise the limit.",
        )
    return None


def _not_let_in(failed: pq.abc.PGconn | None, said: str, asked: dict[str, Any]) -> LeewardError:
    if _enters(make_conninfo("", **(asked | {"dbname": "template1"}))):
        return BadInput(
            f"expected to be let into the database: {said}",
            code="no-such-database",
            answered=True,
            hint="Name a database that exists and that the role may connect to.",
        )
    if failed and (failed.used_password or failed.needs_password):
        return NotReady(
            f"expected the server to take the password: {said}",
            code="wrong-password",
            answered=True,
            hint="Correct the password in the secret or the DSN.",
        )
    return NotReady(
        f"expected the server to let the role in: {said}",
        code="login-refused",
        answered=True,
        hint="Allow the role in pg_hba.conf, for its database and for `replication`.",
    )


def _enters(conninfo: str) -> bool:
    trial = pq.PGconn.connect(conninfo.encode())
    entered = trial.status == pq.ConnStatus.OK
    trial.finish()
    return entered


def last_words(said: str) -> str:
    """What libpq says of the last address that it tried, without its question below (indented)."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and line[0] != "\t"]
    begins = [number for number, line in enumerate(lines) if "connection to server" in line]
    return " ".join(lines[begins[-1] if begins else -1 :]) or "nothing"
