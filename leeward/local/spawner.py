"""How a sandbox's process comes to be: started anew, or forked from one that has much in memory.

A fresh interpreter takes half a second of processor time until a function begins to work, and a
drill has some forty of them. What is forked differs in nothing that the function can see: its own
process group, environment, output and descriptors, and the application imported by itself.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from leeward.local.reaper import Reaper, end_group

MOTHER = Path(__file__).with_name("sandbox_mother.py")
FORK_SECONDS = 60.0
LOST = -int(signal.SIGKILL)
"""The status of a sandbox whose end nobody saw."""


class Process(Protocol):
    """What a sandbox needs of subprocess.Popen."""

    pid: int
    stdout: IO[bytes] | None
    returncode: Any

    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def kill(self) -> None: ...


def start_anew(command: list[str], code: Path, environment: dict[str, str], *fds: int) -> Process:
    """A fresh interpreter that inherits `fds`."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=code,
        env=environment,
        pass_fds=fds,
        start_new_session=True,
    )


class Forked:
    """A sandbox's process, whose parent is the mother."""

    def __init__(self, pid: int, stdout: IO[bytes]) -> None:
        self.pid = pid
        self.stdout: IO[bytes] | None = stdout
        self.returncode: int | None = None
        self._ended = threading.Event()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self) -> int:
        self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def has_ended(self, status: int) -> None:
        self.returncode = status
        self._ended.set()


class Spawner:
    """The runner's side of one mother (sandbox_mother.py), for the package in `code`."""

    def __init__(self, code: Path, reaper: Reaper) -> None:
        self._reaper = reaper
        self._lock = threading.Lock()
        self._pids: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._children: dict[int, Forked] = {}
        self._ended_early: dict[int, int] = {}
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            "LEEWARD_CONTROL_FD": str(control.fileno()),
            "LAMBDA_TASK_ROOT": str(code),
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
        }
        with control:
            self._mother = subprocess.Popen(
                [sys.executable, "-I", "-B", "-S", "-u", str(MOTHER)],
                stdin=subprocess.DEVNULL,
                cwd=code,
                env=environment,
                pass_fds=[control.fileno()],
                start_new_session=True,
            )
        reaper.watch_group(self._mother.pid)
        threading.Thread(target=self._listen, daemon=True).start()

    def spawn(self, environment: dict[str, str], channel: int, gate: int) -> Forked | None:
        """A new sandbox's process; None when the mother is gone."""
        read, write = os.pipe()
        output = os.fdopen(read, "rb")
        message = json.dumps({"environment": environment}).encode()
        try:
            with self._lock:
                socket.send_fds(self._control, [message], [channel, gate, write])
                pid = self._pids.get(timeout=FORK_SECONDS)
        except (OSError, queue.Empty):
            pid = None
        finally:
            os.close(write)
        if pid is None:
            output.close()
            return None
        self._reaper.watch_group(pid)
        return self._adopt(Forked(pid, output))

    def stop(self) -> None:
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        end_group(self._mother.pid)
        self._mother.wait()
        self._reaper.forget_group(self._mother.pid)

    def _adopt(self, child: Forked) -> Forked:
        with self._lock:
            if child.pid in self._ended_early:
                child.has_ended(self._ended_early.pop(child.pid))
            else:
                self._children[child.pid] = child
        return child

    def _listen(self) -> None:
        with suppress(OSError):
            while message := self._control.recv(4096):
                told = json.loads(message)
                if "forked" in told:
                    self._pids.put(told["forked"])
                else:
                    self._note_end(told["ended"], told["status"])
        self._pids.put(None)
        with self._lock:
            children, self._children = self._children, {}
        for child in children.values():
            child.kill()
            child.has_ended(LOST)

    def _note_end(self, pid: int, status: int) -> None:
        with self._lock:
            child = self._children.pop(pid, None)
            if child is None:
                self._ended_early[pid] = status
        if child:
            child.has_ended(status)
