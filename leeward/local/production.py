"""PostgreSQL as production: what the application and the recovery use in the local cloud.

A real server on a loopback port, with the settings that Leeward asks of a source (WAL for
replicas and summaries, checksums, commit timestamps) and three logins by password (SCRAM):

    postgres     superuser, for injecting damage; Leeward never uses it
    leeward      the operator: replication, reading, fencing and loading; no superuser
    nexus_app    the application, owner of the database

Durability is the default one (fsync on): what the drill measures is a server as people run it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from chalicelib.adapters.postgres.binaries import (
    find_binaries,
    reachable_binaries,
    server_account,
)
from chalicelib.errors import NotReady
from leeward.local.reaper import Reaper, end_group

if TYPE_CHECKING:
    import psycopg

DATABASE = "nexus"
SUPERUSER = "postgres"
OPERATOR = "leeward"
APPLICATION = "nexus_app"
START_SECONDS = 30.0
STOP_SECONDS = 20.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",
    "log_timezone": "GMT",
    "timezone": "GMT",
    "max_replication_slots": "10",
    "max_wal_senders": "10",
    "password_encryption": "scram-sha-256",
    "summarize_wal": "on",
    "track_commit_timestamp": "on",
    "wal_level": "replica",
}
# Fencing: CREATEROLE and ADMIN OPTION on the application's role, and ending its sessions.
# Loading: CREATEDB, and SET on the application's role to make it the owner again.
ROLES = """
CREATE ROLE {application} LOGIN PASSWORD '{application_password}';
CREATE ROLE {operator} LOGIN REPLICATION CREATEDB CREATEROLE PASSWORD '{operator_password}';
GRANT {application} TO {operator} WITH ADMIN OPTION, INHERIT TRUE, SET TRUE;
GRANT pg_read_all_data, pg_monitor, pg_signal_backend, pg_checkpoint TO {operator};
CREATE DATABASE {database} OWNER {application};
"""
# amcheck must be there before the damage; its functions are for superusers unless granted.
EXTENSIONS = """
CREATE EXTENSION amcheck;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {operator};
"""


class Production:
    """A context manager; `dsn(role)` is valid from `start` to `stop`."""

    def __init__(
        self,
        folder: Path,
        reaper: Reaper,
        *,
        database: str = DATABASE,
        application: str = APPLICATION,
    ) -> None:
        """`folder` is made; the reaper ends the server when this process dies. `application`: the
        role that owns the database."""
        self.folder = folder
        self.database = database
        self.application = application
        self.data_dir = folder / "data"
        self.port = 0
        self._reaper = reaper
        self._process: subprocess.Popen[bytes] | None = None
        self._passwords = {
            role: secrets.token_urlsafe(18) for role in (SUPERUSER, OPERATOR, application)
        }

    def start(self) -> Self:
        """Create the cluster, its roles and the empty database.

        Raises:
            NotReady: code "production-not-started", with the end of the server's log.
        """
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        self.account = server_account(self.folder)
        self.binaries = reachable_binaries(find_binaries(17), self.account)
        self._create_cluster()
        self.resume()
        with self._connect("postgres") as connection:
            for statement in self._filled(ROLES):
                connection.execute(statement)
        with self._connect(self.database) as connection:
            for statement in self._filled(EXTENSIONS):
                connection.execute(statement)
        return self

    def resume(self) -> None:
        """Start the server on its data folder again."""
        self.port = self.port or _free_port()
        command = [str(self.binaries.tool("postgres")), "-D", str(self.data_dir)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-p", str(self.port)],
                env=self.binaries.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self.account.popen_options(),
            )
        self._reaper.watch_group(self._process.pid)
        self._wait_ready()

    def stop(self) -> None:
        """A fast shutdown; a hard one when that takes too long. Safe to repeat."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        end_group(self._process.pid)
        self._process.wait()
        self._reaper.forget_group(self._process.pid)
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def dsn(self, role: str, database: str = "") -> str:
        """A connection string with its password: for the server's own users alone."""
        user = f"user={role} password={self._passwords[role]}"
        return f"host=127.0.0.1 port={self.port} dbname={database or self.database} {user}"

    def address(self) -> str:
        """Where it is, without a secret."""
        return f"host=127.0.0.1 port={self.port} dbname={self.database}"

    def environment(self) -> dict[str, str]:
        """What psql and libpq need to log in as the superuser; the password is in a file."""
        passwords = self.folder / "pgpass"
        passwords.touch(mode=0o600)
        passwords.write_text(f"127.0.0.1:{self.port}:*:*:{self._passwords[SUPERUSER]}\n")
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGDATABASE": self.database,
            "PGUSER": SUPERUSER,
            "PGPASSFILE": str(passwords),
        }

    def log_tail(self, lines: int = 20) -> str:
        with contextlib.suppress(OSError):
            text = (self.folder / "server.log").read_text(errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return ""

    def _create_cluster(self) -> None:
        self._create_data()
        lines = [f"{name} = '{value}'\n" for name, value in SETTINGS.items()]
        with (self.data_dir / "postgresql.conf").open("a") as file:
            file.writelines(lines)

    def _create_data(self) -> None:
        """What initdb makes."""
        password = self.folder / "password"
        password.write_text(self._passwords[SUPERUSER])
        self.account.own(self.folder)
        command = [
            str(self.binaries.tool("initdb")), "-D", str(self.data_dir), "-U", SUPERUSER,
            "--no-sync", "--data-checksums", "--auth=scram-sha-256", "--locale=C",
            "--encoding=UTF8", f"--pwfile={password}",
        ]  # fmt: skip
        done = subprocess.run(
            command,
            env=self.binaries.environment(),
            cwd="/",
            capture_output=True,
            text=True,
            **self.account.popen_options(),
        )
        password.unlink()
        if done.returncode:
            raise self._not_started(done.stderr.strip())

    def _wait_ready(self) -> None:
        import psycopg

        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._connect("postgres").close()
                return
            except psycopg.OperationalError as error:
                assert self._process
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise self._not_started(self.log_tail()) from error
            time.sleep(0.01)

    def _connect(self, database: str) -> psycopg.Connection[Any]:
        import psycopg

        return psycopg.connect(self.dsn(SUPERUSER, database), autocommit=True, connect_timeout=5)

    def _filled(self, statements: str) -> list[str]:
        filled = statements.format(
            database=self.database,
            application=self.application,
            operator=OPERATOR,
            application_password=self._passwords[self.application],
            operator_password=self._passwords[OPERATOR],
        )
        return [it for line in filled.split(";\n") if (it := line.strip())]

    def _not_started(self, log: str) -> NotReady:
        return NotReady(
            f"expected postgresql {self.binaries.major} to start in {self.folder}, it did not",
            code="production-not-started",
            hint="Read the end of its log, in this error's context.",
            log=log,
        )


def store_secrets(client: Any, production: Production, *, operator: str, application: str) -> None:
    """Put both logins into Secrets Manager, as {"dsn": ...}, under the plan's names."""
    for name, role in ((operator, OPERATOR), (application, production.application)):
        client.create_secret(Name=name, SecretString=json.dumps({"dsn": production.dsn(role)}))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
