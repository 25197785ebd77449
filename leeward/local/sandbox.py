"""One Lambda sandbox: a warm worker process with its own environment, disk and lifetime.

A sandbox answers one invocation at a time and keeps its folder ($TMPDIR, $LEEWARD_WORK_DIR)
between them, as AWS keeps /tmp. When it is killed, times out or exits, its whole process group
and its folder are gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leeward.local.reaper import Reaper, end_group
from leeward.local.spawner import Process, Spawner, start_anew

RUNTIME = Path(__file__).with_name("sandbox_main.py")
INIT_SECONDS = 30.0
LOG_DRAIN_SECONDS = 2.0


@dataclass(frozen=True)
class Function:
    """What AWS knows of a Lambda function, and where its code lies."""

    name: str
    arn: str
    region: str
    handler: str
    role: str
    timeout_seconds: float
    memory_mb: int
    environment: tuple[tuple[str, str], ...]
    code: Path
    isolated: bool
    """True: the code brings all its libraries (a zip). False: it uses this interpreter's."""


@dataclass(frozen=True)
class Outcome:
    """How an invocation ended. `failed` is AWS's FunctionError; `payload` is JSON text."""

    payload: str
    failed: bool
    log: str

    @property
    def error_type(self) -> str:
        return str(json.loads(self.payload)["errorType"]) if self.failed else ""


class Sandbox:
    """See the module. `on_log(line)` gets each line; `gate(call)` says why a call is denied.

    `event`: of the invocation that runs, or ran last.
    """

    def __init__(
        self,
        function: Function,
        folder: Path,
        environment: dict[str, str],
        *,
        reaper: Reaper,
        on_log: Callable[[str], None],
        gate: Callable[[dict[str, Any]], str | None],
        spawner: Spawner | None = None,
    ) -> None:
        self.function = function
        self.folder = folder
        self._reaper = reaper
        self._on_log = on_log
        self._gate = gate
        self._lines: list[str] = []
        self._drained = threading.Event()
        self._killing = threading.Lock()
        self._killed = False
        self.invoking = False
        self.event: Any = None
        self._spawner = spawner
        self._start(environment)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def _start(self, environment: dict[str, str]) -> None:
        self._channel, channel = socket.socketpair()
        self._gate_socket, gate = socket.socketpair()
        with channel, gate:
            fds = (channel.fileno(), gate.fileno())
            forked = self._spawner.spawn(environment, *fds) if self._spawner else None
            self._process: Process = forked or self._start_anew(environment, *fds)
        self._reaper.watch_group(self._process.pid)
        self._answers = self._channel.makefile("rb")
        for target in (self._read_log, self._answer_gate):
            threading.Thread(target=target, daemon=True).start()

    def _start_anew(self, environment: dict[str, str], channel: int, gate: int) -> Process:
        # -B: nothing is written into the folder of the code, which is read-only in AWS.
        flags = ["-I", "-B", "-S", "-u"] if self.function.isolated else ["-I", "-B", "-u"]
        own = {"LEEWARD_CHANNEL_FD": str(channel), "LEEWARD_GATE_FD": str(gate)}
        command = [sys.executable, *flags, str(RUNTIME)]
        return start_anew(command, self.function.code, environment | own, channel, gate)

    def wait_ready(self) -> Outcome | None:
        """None when the handler is imported; otherwise how the import failed."""
        answer = self._receive(INIT_SECONDS)
        if answer is None:
            return self._ended("", "")
        if "fatal" in answer:
            return Outcome(json.dumps(answer["fatal"]), failed=True, log="".join(self._lines))
        return None

    def invoke(self, event: Any, request_id: str) -> Outcome:
        """Run one event to its end, or to the end of the sandbox."""
        self._lines, started = [], time.monotonic()
        self._drained.clear()
        self._log(f"START RequestId: {request_id} Version: $LATEST")
        timeout = self.function.timeout_seconds
        self.event, self.invoking = event, True
        answer = self._exchange(event, request_id, timeout)
        self.invoking = False
        elapsed = time.monotonic() - started
        if answer is None:
            why = f"Task timed out after {timeout:.2f} seconds" if elapsed >= timeout else ""
            return self._ended(request_id, why)
        self._drained.wait(LOG_DRAIN_SECONDS)
        self._log(f"END RequestId: {request_id}")
        self._log(f"REPORT RequestId: {request_id}\tDuration: {elapsed * 1000:.2f} ms")
        return self._outcome(answer)

    def _outcome(self, answer: dict[str, Any]) -> Outcome:
        log = "".join(self._lines)
        if "error" in answer:
            return Outcome(json.dumps(answer["error"]), failed=True, log=log)
        return Outcome(answer["result"], failed=False, log=log)

    def _exchange(self, event: Any, request_id: str, timeout: float) -> Any:
        request = {
            "id": request_id,
            "event": event,
            "arn": self.function.arn,
            "deadline": time.time() + timeout,
        }
        try:
            self._channel.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            return None
        return self._receive(timeout)

    def _receive(self, timeout: float) -> Any:
        self._channel.settimeout(timeout)
        try:
            line = self._answers.readline()
        except OSError:  # a timeout, or the socket was closed by `kill`
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def _ended(self, request_id: str, why: str) -> Outcome:
        """Error types as AWS reports a sandbox that is no more.

        Source: https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
        (Sandbox.Timedout), Lambda's own log lines (Runtime.ExitError).
        """
        if not why:
            self._process.wait()
            status = self._process.returncode
            how = "signal: killed" if status < 0 else f"exit status {status}"
            why, kind = f"Error: Runtime exited with error: {how}", "Runtime.ExitError"
        else:
            kind = "Sandbox.Timedout"
        self.kill()
        message = f"RequestId: {request_id} {why}"
        self._log(message)
        payload = json.dumps({"errorType": kind, "errorMessage": message})
        return Outcome(payload, failed=True, log="".join(self._lines))

    def kill(self) -> None:
        """End every process of the sandbox and remove its folder. Safe to repeat."""
        with self._killing:
            if self._killed:
                return
            self._killed = True
            self._process.kill()
            self._process.wait()
            end_group(self._process.pid)
            self._reaper.forget_group(self._process.pid)
        for end in (self._channel, self._gate_socket):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _log(self, line: str) -> None:
        self._lines.append(line + "\n")
        self._on_log(line)

    def _read_log(self) -> None:
        assert self._process.stdout
        for raw in self._process.stdout:
            if raw.startswith(b"\0"):
                self._drained.set()
            else:
                self._log(raw.decode(errors="replace").rstrip("\n"))

    def _answer_gate(self) -> None:
        answer_gate(self._gate_socket, self._gate)


def answer_gate(gate: socket.socket, check: Callable[[dict[str, Any]], str | None]) -> None:
    """Say of each AWS call whether it is denied, until the other side is gone."""
    with contextlib.suppress(OSError), gate.makefile("rwb") as calls:
        for line in calls:
            calls.write(json.dumps({"denied": check(json.loads(line))}).encode() + b"\n")
            calls.flush()


def base_environment(function: Function, folder: Path) -> dict[str, str]:
    """The variables that AWS sets in a sandbox, with the folder in place of /tmp.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    now = time.strftime("%Y/%m/%d", time.gmtime())
    return {
        "_HANDLER": function.handler,
        "LAMBDA_TASK_ROOT": str(function.code),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{now}/[$LATEST]{folder.name}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info[0]}.{sys.version_info[1]}",
        "AWS_REGION": function.region,
        "AWS_DEFAULT_REGION": function.region,
        "TZ": "UTC",
        "LANG": "C.UTF-8",
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }
