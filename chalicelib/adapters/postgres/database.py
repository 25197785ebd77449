"""SQL and PostgreSQL's client programs on a server named by a DSN; errors mapped by SQLSTATE.

The password reaches a program by its environment alone and is in no error, log or command line.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from psycopg import conninfo

from chalicelib.adapters.postgres.binaries import Binaries
from chalicelib.adapters.postgres.login import CONNECT_SECONDS, last_words, refused_login
from chalicelib.errors import BadInput, Damaged, LeewardError, NotReady, Unavailable
from chalicelib.ports import Session, ToolOutcome

ADMIN_DATABASES = ("postgres", "template1")

# A row that a policy hides must be an error and never a smaller count; a value must read the same
# on every server. GMT needs no tzdata.
SESSION_SETTINGS = {
    "row_security": "off",
    "timezone": "GMT",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}

# libpq's parameter -> the environment variable of the same meaning (libpq, "Environment
# Variables"); `options` and time limits are left out: they are this session's own.
ENVIRONMENT = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "channel_binding": "PGCHANNELBINDING",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}


class PostgresSession:
    """The port Session on a psycopg connection."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with mapped_errors():
            cursor = self._connection.execute(_text(sql), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def stream(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        with (
            mapped_errors(),
            self._connection.transaction(),
            self._connection.cursor(name="leeward") as cursor,
        ):
            cursor.execute(_text(sql), parameters or None)
            yield from cursor

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        with mapped_errors():
            return self._connection.execute(_text(sql), parameters or None).rowcount

    def copy_out(self, sql: str) -> Iterator[bytes]:
        with (
            mapped_errors(),
            self._connection.cursor() as cursor,
            cursor.copy(_text(sql)) as copy,
        ):
            for chunk in copy:
                yield bytes(chunk)

    def copy_in(self, sql: str, data: Iterable[bytes]) -> int:
        with mapped_errors(), self._connection.cursor() as cursor:
            with cursor.copy(_text(sql)) as copy:
                for chunk in data:
                    copy.write(chunk)
            return cursor.rowcount


class PostgresDatabases:
    """The port Databases for the server and role that `dsn` (key=value or URI) names."""

    def __init__(self, dsn: str, binaries: Binaries | None = None) -> None:
        self._parameters = parse_dsn(dsn)
        self._binaries = binaries

    @property
    def database(self) -> str:
        return str(self._parameters.get("dbname") or self._parameters.get("user") or "postgres")

    @contextmanager
    def session(
        self, database: str = "", *, timeout_seconds: float = 60, read_only: bool = False
    ) -> Iterator[Session]:
        connection = self._connect(database or self.database, timeout_seconds, read_only)
        with connection:
            yield PostgresSession(connection)

    @contextmanager
    def admin_session(self, *, timeout_seconds: float = 60) -> Iterator[Session]:
        with self._connect_to_any(timeout_seconds) as connection:
            yield PostgresSession(connection)

    def run_tool(
        self, name: str, *arguments: str, database: str = "", timeout_seconds: float = 600
    ) -> ToolOutcome:
        if self._binaries is None:
            raise NotReady(
                f"expected PostgreSQL's programs to run {name}, none were given",
                code="no-postgres-binaries",
                hint="Name a folder with PostgreSQL's programs.",
            )
        command = [str(self._binaries.tool(name)), *arguments]
        environment = self._binaries.environment() | self._tool_environment(database)
        return run_program(command, environment, timeout_seconds)

    def _tool_environment(self, database: str) -> dict[str, str]:
        values = {
            ENVIRONMENT[name]: str(value)
            for name, value in self._parameters.items()
            if name in ENVIRONMENT
        }
        return values | {
            "PGDATABASE": database or self.database,
            "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
            "PGAPPNAME": "leeward",
        }

    def _connect_to_any(self, timeout_seconds: float) -> psycopg.Connection[tuple[Any, ...]]:
        refused: LeewardError | None = None
        for database in dict.fromkeys((*ADMIN_DATABASES, self.database)):
            try:
                return self._connect(database, timeout_seconds, read_only=False)
            except (NotReady, BadInput, Damaged) as error:
                refused = refused or error
        raise cast(LeewardError, refused)

    def _connect(
        self, database: str, timeout_seconds: float, read_only: bool
    ) -> psycopg.Connection[tuple[Any, ...]]:
        own = [str(self._parameters.get("options") or "")]
        own.append(f"-c statement_timeout={int(timeout_seconds * 1000)}")
        own += [f"-c {name}={value}" for name, value in SESSION_SETTINGS.items()]
        if read_only:
            own.append("-c default_transaction_read_only=on")
        changed = {
            "dbname": database,
            "options": " ".join(own).strip(),
            "application_name": "leeward",
            "connect_timeout": CONNECT_SECONDS,
            # A server that vanished must end the wait, whatever TCP would still hope for.
            "tcp_user_timeout": int(timeout_seconds * 1000),
            "keepalives_idle": 10,
        }
        parameters = self._parameters | changed
        try:
            return psycopg.connect(autocommit=True, **parameters)
        except psycopg.OperationalError as error:
            raise refused_login(error.pgconn, parameters) from error


def parse_dsn(dsn: str) -> dict[str, Any]:
    """libpq's parameters. The text is not repeated in the error: it may hold a password."""
    try:
        return conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise BadInput(
            "expected a DSN (key=value pairs or a postgresql:// address), found something else",
            code="bad-dsn",
            hint="Write it as postgresql://user@host:5432/database.",
        ) from None


@contextmanager
def mapped_errors() -> Iterator[None]:
    """psycopg's errors as Leeward's, by SQLSTATE (PostgreSQL, appendix A)."""
    try:
        yield
    except psycopg.Error as error:
        raise map_error(error) from error


def map_error(error: psycopg.Error) -> LeewardError:
    state = error.sqlstate or ""
    said = last_words(error.diag.message_primary or str(error))
    if not state and isinstance(error, psycopg.OperationalError):
        return Unavailable(
            f"expected the server to answer: {said}",
            code="no-connection",
            hint="Check that the server runs and that this machine may reach it.",
        )
    return map_sqlstate(state, said)


def map_sqlstate(state: str, said: str) -> LeewardError:
    """`said` is the server's message; it is shown and never looked into."""
    for prefixes, kind, code, hint in _MEANINGS:
        if state.startswith(prefixes):
            return kind(f"postgresql: {said}", code=code, hint=hint, sqlstate=state)
    return BadInput(
        f"postgresql refused the statement: {said}",
        code="sql-refused",
        hint="Correct the statement, or the plan that holds it.",
        sqlstate=state,
    )


# The first that fits counts, so the particular stand before the general.
_MEANINGS: tuple[tuple[tuple[str, ...], type[LeewardError], str, str], ...] = (
    (("28P01",), NotReady, "wrong-password", "Correct the password in the secret or the DSN."),
    (("28",), NotReady, "login-refused", "Let the role log in: pg_hba.conf and LOGIN."),
    (("42501",), NotReady, "missing-right", "Grant the role what docs/operator-role.md lists."),
    (("3D000",), BadInput, "no-such-database", "Name a database that exists on this server."),
    # undefined table, column and function, and a schema that is not there
    (("42P01", "42703", "42883", "3F000"), BadInput, "no-such-object", "Name one that exists."),
    (("57014",), Unavailable, "statement-timeout", "Look for locks, or give it more time."),
    (("53300",), Unavailable, "too-many-connections", "Free connections, or raise the limit."),
    (("08", "53", "57", "55P03", "40"), Unavailable, "server-busy", "It is tried again."),
    (("XX", "58"), Damaged, "database-unreadable", "Treat the database as damaged."),
)


def run_program(
    command: list[str], environment: dict[str, str], timeout_seconds: float
) -> ToolOutcome:
    """Run to the end, in a process group of its own that ends with the time limit.

    Raises:
        Unavailable: code "tool-timeout".
    """
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"expected {os.path.basename(command[0])} to end within {timeout_seconds:.0f} s",
            code="tool-timeout",
            hint="Give the step more time, or look at what the server waits for.",
        ) from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.communicate()
    return ToolOutcome(process.returncode, stdout, stderr)


def _text(sql: str) -> Any:
    # psycopg's type asks for a literal; what is run here comes from the plan and the catalogue.
    return sql
