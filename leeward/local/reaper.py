"""A small process that ends what a local cloud started, whatever happens to the cloud itself.

It holds the read end of a pipe. While the cloud lives it is told of process groups and folders;
when the pipe closes (a normal stop, an exception, kill -9) it kills the groups and removes the
folders. It runs in a session of its own, so that Ctrl-C in a terminal does not reach it.

Invariants: every process group is announced before the cloud does anything else with it. A group
is signalled only while its number is its own: numbers are given again within minutes on a busy
machine, and a signal meant for a sandbox that is long gone must not end somebody's database.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

GRACE_SECONDS = 2.0
# Watched group -> when its leader began. A group that nobody watches is never signalled.
_born: dict[int, str] = {}


class Reaper:
    """The cloud's side of the pipe."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )

    def watch_group(self, pgid: int) -> None:
        """Of a leader that has just been started, whether it still runs or not.

        Raises BrokenPipeError when the reaper is gone: nothing may run unwatched."""
        born = _born[pgid] = _began(pgid)
        self._tell(f"watch {pgid} {born}")

    def forget_group(self, pgid: int) -> None:
        _born.pop(pgid, None)
        with contextlib.suppress(BrokenPipeError):
            self._tell(f"forget {pgid}")

    def remove_at_end(self, folder: Path) -> None:
        self._tell(f"folder {folder}")

    def stop(self) -> None:
        """Close the pipe and wait until everything is gone."""
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _tell(self, line: str) -> None:
        if self._process and self._process.stdin:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()


def end_group(pgid: int) -> None:
    """End a process group as a lost machine would: no handler runs, no file is finished."""
    end_groups({pgid})


def kill_group(pgid: int) -> None:
    """As `end_group`, at once: what leaks stays leaked."""
    _signal_group(pgid, signal.SIGKILL)


def end_groups(pgids: set[int]) -> None:
    """End process groups, all at the same time.

    SIGQUIT before SIGKILL: to PostgreSQL it is an immediate shutdown, which leaves the data folder
    as a crash would but gives back the shared memory segment that SIGKILL would leak.
    """
    ending = {pgid for pgid in pgids if _signal_group(pgid, signal.SIGQUIT)}
    running, deadline = ending, time.monotonic() + GRACE_SECONDS
    while (running := _running(running)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for pgid in ending:
        _signal_group(pgid, signal.SIGKILL)


def is_watched(pgid: int) -> bool:
    """Whether the number is still that of the group that is watched under it.

    While a group has members its number is given to no process. A process that has it and began
    at another time is somebody else's.
    """
    born = _born.get(pgid)
    return born is not None and _began(pgid) in (born, "")


def _began(pid: int) -> str:
    """Ticks since the machine started; "" when there is no such process, or no /proc.

    Source: field 22 of proc_pid_stat(5).
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _signal_group(pgid: int, number: int) -> bool:
    if not is_watched(pgid):
        return False
    try:
        os.killpg(pgid, number)
    except (ProcessLookupError, PermissionError):  # macOS: EPERM when only zombies are left
        return False
    return True


def _running(pgids: set[int]) -> set[int]:
    """Those in which more than zombies are left: some containers' init collects them late."""
    if not os.path.isdir("/proc/self"):
        return {pgid for pgid in pgids if _signal_group(pgid, 0)}
    processes = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return pgids & {_group_of(pid) for pid in processes} if pgids else set()


def _group_of(pid: int) -> int | None:
    """Of a process that is no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, _parent, group = file.read().rpartition(")")[2].split()[:3]
    except OSError:
        return None
    return None if state == "Z" else int(group)


def _reap(lines: IO[str]) -> None:
    folders: list[str] = []
    for line in lines:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "watch":
            pgid, _, born = rest.partition(" ")
            _born[int(pgid)] = born
        elif word == "forget":
            _born.pop(int(rest), None)
        else:
            folders.append(rest)
    end_groups(set(_born))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _reap(sys.stdin)
