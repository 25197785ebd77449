"""What a person hears when a PostgreSQL server does not let Leeward in, in SQL or replication."""

from __future__ import annotations

import multiprocessing
import shutil
import socketserver
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest

from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.errors import BadInput, LeewardError, NotReady, Unavailable
from tests.clouds import wait_for
from tests.servers import RealServer, running_server

ROLE = "create role backup login replication password 'only-backup' in role pg_read_all_data"


def by_sql(dsn: str) -> None:
    with PostgresDatabases(dsn, None).session() as session:
        session.query("select 1")


def by_replication(dsn: str) -> None:
    with PostgresSource(dsn) as source:
        source.facts()


WAYS = pytest.mark.parametrize("connect", [by_sql, by_replication])
Connect = Callable[[str], None]
MOST = 8


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with running_server(max_connections=str(MOST), max_wal_senders="3") as found:
        found.run(ROLE)
        yield found


@pytest.fixture(scope="module")
def authority(server: RealServer) -> Path:
    """It signed the certificate for `localhost` under which the server speaks TLS from now on."""
    folder = server.folder / "certificates"
    folder.mkdir()
    openssl = partial(subprocess.run, cwd=folder, check=True, capture_output=True)
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
    openssl([*new, "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt"])
    openssl([*new, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"])
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    openssl(
        ["openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
         "-CAcreateserial", "-extfile", "names", "-out", "server.crt"]
    )  # fmt: skip
    for name in ("server.key", "server.crt"):
        target = server.data / name
        shutil.copy(folder / name, target)
        target.chmod(0o600)
        shutil.chown(target, server.data.stat().st_uid, server.data.stat().st_gid)
    server.run("alter system set ssl = on", "select pg_reload_conf()")
    return folder / "ca.crt"


def dsn_of(server: RealServer, **changed: str) -> str:
    known = {"host": "localhost", "port": str(server.port), "dbname": "postgres",
             "user": "backup", "password": "only-backup"}  # fmt: skip
    return " ".join(f"{name}={value}" for name, value in (known | changed).items())


def refusal(connect: Connect, dsn: str) -> LeewardError:
    with pytest.raises(LeewardError) as caught:
        connect(dsn)
    assert caught.value.hint
    assert "only-backup" not in str(caught.value)
    return caught.value


@WAYS
@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("wrong-password", {"password": "another"}),
        ("untrusted-server", {"sslmode": "require"}),
    ],
)
def test_what_somebody_must_mend_is_not_tried_again(
    server: RealServer, connect: Connect, code: str, changed: dict[str, str]
) -> None:
    found = refusal(connect, dsn_of(server, **changed))
    assert (type(found), found.instance_code) == (NotReady, code)


def test_a_database_that_is_not_there_is_not_tried_again(server: RealServer) -> None:
    """Physical replication enters none."""
    found = refusal(by_sql, dsn_of(server, dbname="nowhere"))
    assert (type(found), found.instance_code) == (BadInput, "no-such-database")


@WAYS
def test_a_certificate_is_verified(server: RealServer, authority: Path, connect: Connect) -> None:
    strict = partial(dsn_of, server, sslmode="verify-full")
    connect(strict(sslrootcert=str(authority)))
    found = refusal(connect, strict(sslrootcert="system"))
    assert found.instance_code == "untrusted-server"
    found = refusal(connect, strict(sslrootcert="/nowhere.crt"))
    assert found.instance_code == "untrusted-server"
    assert "/nowhere.crt" in found.message
    named = strict(sslrootcert=str(authority), host="127.0.0.1")
    assert refusal(connect, named).instance_code == "untrusted-server"


def test_a_server_without_a_free_connection_is_tried_again(server: RealServer) -> None:
    with ExitStack() as stack:
        for _ in range(MOST):
            with suppress(psycopg.OperationalError):
                stack.enter_context(psycopg.connect(dsn_of(server)))
        found = refusal(by_sql, dsn_of(server))
    assert (type(found), found.instance_code) == (Unavailable, "too-many-connections")


@WAYS
def test_a_server_that_still_recovers_is_tried_again(connect: Connect) -> None:
    with running_server() as server:
        server.run(ROLE)
        server.stop()
        (server.data / "standby.signal").touch()
        with (server.data / "postgresql.auto.conf").open("a") as settings:
            settings.write("hot_standby = off\n")
        server.launch()
        wait_for(
            lambda: b"consistent recovery state" in (server.folder / "server.log").read_bytes(),
            "it does not recover",
        )
        found = refusal(connect, dsn_of(server))
    assert (type(found), found.instance_code) == (Unavailable, "server-busy")


@WAYS
def test_a_pooler_is_no_server(connect: Connect) -> None:
    with pooler() as port:
        found = refusal(connect, f"host=127.0.0.1 port={port} dbname=app user=backup")
    assert (type(found), found.instance_code) == (NotReady, "pooler")


class Pooler(socketserver.BaseRequestHandler):
    """PgBouncer's answer to what it does not hand on (its src/client.c): no real one is installed
    by the project's own files."""

    def handle(self) -> None:
        said = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
        while asked := self.request.recv(8):
            length, code = struct.unpack(">II", asked)
            if code not in (80877103, 80877104):  # SSLRequest, GSSENCRequest
                break
            self.request.sendall(b"N")
        self.request.recv(length - 8)
        self.request.sendall(b"E" + struct.pack(">I", len(said) + 4) + said)


@contextmanager
def pooler() -> Iterator[int]:
    """In a process of its own: libpq does not let go of Python's lock while it asks."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Pooler) as server:
        process = multiprocessing.get_context("fork").Process(target=server.serve_forever)
        process.start()
        try:
            yield server.server_address[1]
        finally:
            process.terminate()
            process.join()
