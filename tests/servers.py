"""Real PostgreSQL servers for tests: one folder each, gone with the test, root or not."""

from __future__ import annotations

import atexit
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from chalicelib.adapters.postgres.binaries import find_binaries

SUPERUSER = "postgres"
SETTINGS = {
    "autovacuum": "off",
    # Of a server that is killed hard, nothing is left in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",
    "full_page_writes": "on",
    "max_prepared_transactions": "10",
    "max_wal_size": "2GB",
    "shared_buffers": "32MB",
    "summarize_wal": "on",
    "synchronous_commit": "on",
    "track_commit_timestamp": "on",
    "wal_keep_size": "1GB",
    "wal_level": "replica",
}


@dataclass
class RealServer:
    """A running server. `dsn` names the superuser, with its password, over loopback."""

    folder: Path
    data: Path
    port: int
    process: subprocess.Popen[bytes]

    def dsn(
        self, database: str = "postgres", user: str = SUPERUSER, password: str = "secret"
    ) -> str:
        return f"host=127.0.0.1 port={self.port} dbname={database} user={user} password={password}"

    def connect(self, database: str = "postgres", **how: str) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn(database, **how), autocommit=True)

    def run(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Each statement in its own transaction; the rows of the last one."""
        with self.connect(database) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        self.process.send_signal(2)
        self.process.wait(30)

    def start(self) -> None:
        self.launch()
        _wait_until_ready(self)

    def launch(self) -> None:
        """Start it, whether it will take connections or not."""
        self.process = _launch(self.data, self.port, self.folder)


@contextmanager
def running_server(**settings: str) -> Iterator[RealServer]:
    folder = Path(tempfile.mkdtemp(prefix="leeward-test-"))
    server = None
    try:
        server = _create(folder, settings)
        yield server
    finally:
        if server is not None and server.process.poll() is None:
            server.process.kill()
            server.process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def as_server_user() -> dict[str, Any]:
    """What Popen needs so that PostgreSQL does not find itself to be root."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _create(folder: Path, settings: dict[str, str]) -> RealServer:
    data = folder / "data"
    shutil.copytree(_template(), data, symlinks=True)
    data.chmod(0o700)
    _give_away(folder)
    lines = [f"{name} = '{value}'" for name, value in {**SETTINGS, **settings}.items()]
    with (data / "postgresql.conf").open("a") as conf:
        conf.write("\n".join(lines) + "\n")
    port = free_port()
    server = RealServer(folder, data, port, _launch(data, port, folder))
    _wait_until_ready(server)
    return server


@cache
def _template() -> Path:
    """A data folder that initdb made once for this process; removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="leeward-initdb-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "password").write_text("secret")
    _give_away(folder)
    subprocess.run(
        [
            find_binaries(17).tool("initdb"), "-D", str(folder / "data"), "-U", SUPERUSER,
            "--no-sync", "--data-checksums", "--auth=scram-sha-256", "--locale=C",
            "--encoding=UTF8", f"--pwfile={folder / 'password'}",
        ],
        check=True, capture_output=True, cwd="/", **as_server_user(),
    )  # fmt: skip
    return folder / "data"


def _give_away(folder: Path) -> None:
    user = as_server_user()
    if user:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user["user"], user["group"], follow_symlinks=False)


def _launch(data: Path, port: int, folder: Path) -> subprocess.Popen[bytes]:
    command = [
        find_binaries(17).tool("postgres"), "-D", str(data), "-p", str(port),
        "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
    ]  # fmt: skip
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd="/",
            preexec_fn=_end_with_parent,
            **as_server_user(),
        )


def _end_with_parent() -> None:
    """A killed test run leaves no server behind (Linux; prctl PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


def _wait_until_ready(server: RealServer, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            server.connect().close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline or server.process.poll() is not None:
                raise RuntimeError((server.folder / "server.log").read_text()) from None
            time.sleep(0.02)
