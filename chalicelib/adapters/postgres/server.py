"""A throw-away PostgreSQL server on a restored data folder.

It runs with a configuration of its own: whatever lies in the folder may name libraries, archives,
publishers and paths of the source. It listens on a Unix socket in a private folder only. Nothing
of it outlives the process that started it: a watcher holds the other end of a pipe.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from chalicelib.adapters.postgres.binaries import (
    Binaries,
    find_binaries,
    reachable_binaries,
    server_account,
)
from chalicelib.adapters.postgres.files import read_major, server_processes, superuser_names
from chalicelib.errors import CheckFailed, NotReady, Unavailable
from chalicelib.plan.records import format_lsn, parse_time
from chalicelib.ports import Recovery, ReplayPosition, ToolOutcome

POLL_SECONDS = 0.005
STOP_SECONDS = 60.0
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# GMT is the one zone that needs no tzdata; mmap the one kind of shared memory that needs no
# /dev/shm. No launcher of logical replication: a restored subscription would drain its publisher.
SETTINGS = {
    "allow_in_place_tablespaces": "on",
    "archive_mode": "off",
    "autovacuum": "off",
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "listen_addresses": "",
    "log_timezone": "GMT",
    "logging_collector": "off",
    "max_logical_replication_workers": "0",
    "max_wal_size": "8GB",
    "shared_buffers": "128MB",
    "synchronous_commit": "off",
    "timezone": "GMT",
    "unix_socket_permissions": "0700",
}

# A server that replays must allow at least what its source allowed: setting -> the name in
# pg_controldata, and the least that our own work needs.
LIMITS = {
    "max_connections": ("max_connections setting", 20),
    "max_worker_processes": ("max_worker_processes setting", 8),
    "max_wal_senders": ("max_wal_senders setting", 0),
    "max_prepared_transactions": ("max_prepared_xacts setting", 64),
    "max_locks_per_transaction": ("max_locks_per_xact setting", 64),
}


class ThrowawayServer:
    """The port DatabaseServer (chalicelib/ports/postgres.py) on this machine."""

    def __init__(
        self, data_dir: Path, *, named: str | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        """`named`: folder of PostgreSQL's programs; found by itself when None.

        `settings` are added to the server's configuration and win over ours.
        """
        self._data_dir = data_dir.resolve()
        self._account = server_account(self._data_dir)
        found = find_binaries(read_major(self._data_dir), named)
        self.binaries: Binaries = reachable_binaries(found, self._account)
        self._settings = dict(settings or {})
        self._run_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._superuser = ""

    @property
    def data_dir(self) -> Path:
        return self._data_dir

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop("immediate" if kind else "fast")

    def start(self, recovery: Recovery | None = None) -> None:
        self.stop("immediate")
        self._prepare_folder(recovery)
        run_dir = self._run_dir = Path(tempfile.mkdtemp(prefix="lw-", dir=_short_temp_dir()))
        (run_dir / "postgresql.conf").write_text(self._configuration(recovery))
        (run_dir / "hba.conf").write_text("local all all trust\nlocal replication all trust\n")
        self._account.own(run_dir)
        self._process = self._launch(run_dir)
        self._watcher = _watch(self._process.pid, run_dir)
        # Loaded while the server starts.
        import chalicelib.adapters.postgres.server_answers  # noqa: F401

    def wait_until(self, state: Literal["ready", "paused"], *, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not self._is(state):
            self._fail_if_ended()
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"expected the server to be {state} within {timeout_seconds:g} s, it is not",
                    code="server-timeout",
                    hint="Allow more time, or give the worker more memory and processors.",
                    log=self.log_tail(),
                )
            time.sleep(POLL_SECONDS)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(SIGNALS[mode])
            if not _ends(self._process, STOP_SECONDS):
                self._process.send_signal(signal.SIGQUIT)
        end_processes(self._data_dir)
        self._release()

    def dsn(self, database: str = "postgres", **params: str) -> str:
        if self._run_dir is None:
            raise NotReady("expected a started server, it is not", hint="Start the server first.")
        return self._conninfo(user=self._find_superuser(), dbname=database, **params)

    def run_tool(
        self, name: str, *args: str, env: Mapping[str, str] | None = None, timeout_seconds: float
    ) -> ToolOutcome:
        command = [str(self.binaries.tool(name)), *args]
        environment = {**self.binaries.environment(), **(env or {})}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, errors="replace",
                timeout=timeout_seconds, cwd="/", stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Unavailable(
                f"expected {name} to end within {timeout_seconds:g} s, it did not",
                code="tool-timeout",
                hint="Allow more time, or give the worker more memory and processors.",
            ) from error
        return ToolOutcome(done.returncode, done.stdout, done.stderr)

    def replay_position(self) -> ReplayPosition:
        from chalicelib.adapters.postgres.server_answers import read_position

        return read_position(self.dsn(_ANY_DATABASE))

    def control_data(self) -> dict[str, str]:
        outcome = self.run_tool("pg_controldata", "-D", str(self._data_dir), timeout_seconds=20)
        if outcome.status != 0:
            raise CheckFailed(
                f"expected a readable control file in {self._data_dir}, found none",
                code="control-file-unreadable",
                hint="Restore an older recovery point.",
                output=outcome.errors.strip(),
            )
        pairs = (line.partition(":") for line in outcome.output.splitlines())
        return {name.strip(): value.strip() for name, _, value in pairs}

    def log_tail(self, lines: int = 20) -> str:
        with contextlib.suppress(OSError):
            text = (self._data_dir / "leeward-server.log").read_text(errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return ""

    def _prepare_folder(self, recovery: Recovery | None) -> None:
        # postgresql.auto.conf is read from the data folder whatever config_file says.
        (self._data_dir / "postgresql.auto.conf").write_text("")
        for name in ("standby.signal", "recovery.signal", "postmaster.pid"):
            (self._data_dir / name).unlink(missing_ok=True)
        if recovery:
            (self._data_dir / "recovery.signal").touch()
        (self._data_dir / "leeward-server.log").write_text("")
        self._data_dir.chmod(0o700)
        self._account.own(self._data_dir)
        self._require_reachable(self._data_dir)
        if recovery:
            self._account.own(recovery.wal_dir)
            self._require_reachable(recovery.wal_dir)

    def _require_reachable(self, folder: Path) -> None:
        self._account.let_through(folder)
        if not self._account.reaches(folder):
            raise NotReady(
                f"expected uid {self._account.uid} to be let through to {folder}, it is not",
                code="folder-unreachable",
                hint="As root, work in a folder that every account may enter, such as /tmp.",
            )

    def _configuration(self, recovery: Recovery | None) -> str:
        control = self.control_data()
        settings = {**SETTINGS, "unix_socket_directories": str(self._run_dir)}
        for name, (control_name, least) in LIMITS.items():
            settings[name] = str(max(least, int(control.get(control_name, "0"))))
        settings["track_commit_timestamp"] = control.get("track_commit_timestamp setting", "off")
        if self.binaries.major >= 17:
            settings["event_triggers"] = "off"
        settings |= _recovery_settings(recovery) if recovery else {}
        settings |= self._settings
        return "".join(f"{name} = {_quote(value)}\n" for name, value in settings.items())

    def _launch(self, run_dir: Path) -> subprocess.Popen[bytes]:
        command = [
            str(self.binaries.tool("postgres")), "-D", str(self._data_dir),
            "-c", f"config_file={run_dir}/postgresql.conf",
            "-c", f"hba_file={run_dir}/hba.conf", "-c", "ident_file=/dev/null",
        ]  # fmt: skip
        # A session of its own: Ctrl-C in a terminal is for us; we then stop the server in order.
        with (self._data_dir / "leeward-server.log").open("ab") as log:
            return subprocess.Popen(
                command, env=self.binaries.environment(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd="/", start_new_session=True, **self._account.popen_options(),
            )  # fmt: skip

    def _is(self, state: Literal["ready", "paused"]) -> bool:
        # Line 8 of postmaster.pid (src/include/utils/pidfile.h): starting, standby, ready, ...
        try:
            status = (self._data_dir / "postmaster.pid").read_text().splitlines()[7].strip()
        except (OSError, IndexError):
            return False
        return status == "ready" if state == "ready" else status == "standby" and self._paused()

    def _paused(self) -> bool:
        from chalicelib.adapters.postgres.server_answers import is_paused

        return is_paused(self.dsn(_ANY_DATABASE))

    def _find_superuser(self) -> str:
        if not self._superuser:
            names = superuser_names(self._data_dir)
            self._superuser = next((name for name in names if self._accepts(name)), "")
        if not self._superuser:
            raise NotReady(
                "expected a superuser that may log in, found none in the restored database",
                code="no-superuser",
                hint="Give one superuser of the source the LOGIN right; it needs no password.",
            )
        return self._superuser

    def _accepts(self, name: str) -> bool:
        from chalicelib.adapters.postgres.server_answers import accepts_superuser

        return accepts_superuser(self._conninfo(user=name, dbname=_ANY_DATABASE))

    def _conninfo(self, **options: str) -> str:
        from psycopg.conninfo import make_conninfo

        parts: dict[str, Any] = {"host": str(self._run_dir), "port": 5432, **options}
        return make_conninfo("", **parts)

    def _fail_if_ended(self) -> None:
        status = self._process.poll() if self._process else 0
        if status is not None:
            how = f"signal {-status} ended it" if status < 0 else f"it ended with status {status}"
            raise CheckFailed(
                f"expected a running server, {how}",
                code="server-ended",
                hint="Read the end of the server's log in this error's context.",
                log=self.log_tail(),
            )

    def _release(self) -> None:
        if self._watcher is not None and self._watcher.stdin is not None:
            # On a busy machine the shell may be late to end: it was told all the same.
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._watcher.communicate(b"done\n", timeout=10)
        if self._run_dir is not None:
            shutil.rmtree(self._run_dir, ignore_errors=True)
        self._process = self._watcher = self._run_dir = None


# template1 is in every cluster; the database "postgres" may have been dropped.
_ANY_DATABASE = "template1"


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Popen.wait with a timeout looks only every 50 ms after a while."""
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def end_processes(data_dir: Path) -> None:
    """End every server process on this folder; returns when none is left.

    Raises Unavailable (code "server-left-running") when they cannot be ended.
    """
    for sign in (signal.SIGQUIT, signal.SIGKILL):
        deadline = time.monotonic() + 10
        while pids := server_processes(data_dir):
            if time.monotonic() > deadline:
                break
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            time.sleep(POLL_SECONDS)
        else:
            return
    raise Unavailable(
        f"expected no server on {data_dir}, processes {pids} do not end",
        code="server-left-running",
        hint="Look at these processes; they may wait for a disk that does not answer.",
    )


def _recovery_settings(recovery: Recovery) -> dict[str, str]:
    wal_dir = shlex.quote(str(recovery.wal_dir)).replace("%", "%%")
    settings = {
        "restore_command": _RESTORE_COMMAND.format(wal_dir=wal_dir),
        "recovery_target_timeline": str(recovery.timeline),
        "recovery_target_inclusive": "off",
        "recovery_target_action": recovery.action,
        # Read-only answers during replay stop it when the source raised a limit in between.
        "hot_standby": "on" if recovery.action == "pause" else "off",
    }
    target = recovery.target
    if target.kind == "time" and target.lsn:
        settings["recovery_target_lsn"] = format_lsn(target.lsn)
    elif target.kind == "time":
        # Read before the server knows any zone by name, so with a numeric offset.
        at = parse_time(target.value)
        settings["recovery_target_time"] = f"{at:%Y-%m-%d %H:%M:%S.%f}+00"
    elif target.kind != "end":
        settings[f"recovery_target_{target.kind}"] = target.value
    return settings


# Given away or copied, never a hard link: PostgreSQL recycles and overwrites the files it was
# given. It keeps segments, and looks in pg_wal for one that it was given before; a history it
# may ask for again. Status 1 means "there is no such file" and ends recovery in order; 255 stops
# the server.
_RESTORE_COMMAND = (
    "cd {wal_dir} || exit 255; n=0; "
    'while [ ! -e "%f" ] && [ -e "coming/%f" ]; '
    "do [ ! -e failed ] && [ $n -lt 30000 ] || exit 255; n=$((n+1)); "
    "[ $n -gt 40 ] && sleep 0.02 || sleep 0.005; done; "
    '[ ! -e failed ] || exit 255; [ -e "%f" ] || exit 1; '
    'get=cp; case "%f" in *.*) ;; *) [ ! -O "%f" ] || get=mv ;; esac; '
    '$get "%f" "$OLDPWD/%p" || exit 255; [ ! -d used ] || : > "used/%f"'
)


def _watch(pid: int, run_dir: Path) -> subprocess.Popen[bytes]:
    """A shell that ends the server when the pipe from this process closes without a word."""
    script = f"read -r _ || {{ kill -QUIT {pid}; rm -r {shlex.quote(str(run_dir))}; }}"
    return subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
    )  # fmt: skip


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _short_temp_dir() -> str:
    # The path of a Unix socket has at most 103 bytes on macOS, whose temp folder is long.
    configured = tempfile.gettempdir()
    return configured if len(configured) <= 60 else "/tmp"
