"""Tasks of the local ECS: each really runs its container's command, as a process of this machine.

Contract, as Fargate's: the process has the container's environment and the call's over it, an empty
disk of its own, the rights of the task's role, and no limit of time; StopTask sends SIGTERM to it,
and SIGKILL to all that is left after the container's `stopTimeout`; how it ended is told by
`stopCode`, `stoppedReason` and the container's `exitCode`. Differences: in place of an image there
is this machine, with this interpreter as its `python3` and this environment's boto3 as the image's;
CPU, memory and the size of the disk are not limited.
Source: "Amazon ECS task lifecycle", "Stopped tasks error codes", Amazon ECS developer guide.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalicelib.errors import NotReady
from leeward.local.iam import ACCOUNT
from leeward.local.logs import store_line
from leeward.local.reaper import end_group
from leeward.local.sandbox import RUNTIME, Function, answer_gate

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

DEFAULT_STOP_SECONDS = 30
EXITED = ("EssentialContainerExited", "Essential container in task exited")
# Puts the gate before the AWS calls of every Python that the container's command starts.
SITE = """
import importlib.util, os
spec = importlib.util.spec_from_file_location("leeward_gate", {runtime!r})
it = importlib.util.module_from_spec(spec)
spec.loader.exec_module(it)
gate = it.Gate(it.Lines(os.dup(int(os.environ["LEEWARD_GATE_FD"]))))
it.after_import("botocore.client", lambda module: it.guard_botocore(module, gate))
it.after_import("chalicelib.adapters.s3.http", lambda module: it.guard_s3_http(module, gate))
it.after_import("chalicelib.adapters.s3.direct", lambda module: it.guard_s3_direct(module, gate))
"""


@dataclass
class Task:
    """`given`: what RunTask was asked. `status` is ECS's lastStatus."""

    id: str
    region: str
    cluster: str
    definition: dict[str, Any]
    given: dict[str, Any]
    status: str = "PROVISIONING"
    stopping: bool = False
    stop: tuple[str, str] = EXITED
    exit_code: int | None = None
    pid: int = 0
    created_at: float = field(default_factory=time.time)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def arn(self) -> str:
        return f"arn:aws:ecs:{self.region}:{ACCOUNT}:task/{self.cluster}/{self.id}"

    @property
    def container(self) -> dict[str, Any]:
        [only] = self.definition["containerDefinitions"]
        return dict(only)


class Tasks:
    """The tasks of this cloud, oldest first."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._ended = False
        self.all: list[Task] = []

    def start(
        self, region: str, cluster: str, definition: dict[str, Any], given: dict[str, Any]
    ) -> Task:
        task = Task(uuid.uuid4().hex, region, cluster, definition, given)
        self.all.append(task)
        threading.Thread(target=self._run, args=(task,), daemon=True).start()
        return task

    def stop(self, task: Task, reason: str) -> None:
        """Ask it to end, as StopTask does; returns at once."""
        if task.stopping:
            return
        task.stopping, task.stop = True, ("UserInitiated", reason)
        threading.Thread(target=self._end, args=(task,), daemon=True).start()

    def kill(self, *, wait_seconds: float = 60.0) -> Task:
        """The task that runs now, lost with its machine; waits for one.

        Raises NotReady (code "no-task-running").
        """
        deadline = time.monotonic() + wait_seconds
        while time.monotonic() < deadline:
            for task in [it for it in self.all if it.status == "RUNNING"]:
                end_group(task.pid)
                task.ended.wait(wait_seconds)
                return task
            time.sleep(0.02)
        raise NotReady(f"no task ran within {wait_seconds:g} s", code="no-task-running")

    def end(self) -> None:
        """Every task is gone when this returns; none starts any more."""
        self._ended = True
        for task in self.all:
            while not task.ended.wait(0.02):
                if task.pid:
                    end_group(task.pid)

    def _run(self, task: Task) -> None:
        folder = self._cloud.folder / "tasks" / task.id
        (folder / "site").mkdir(parents=True)
        try:
            if not self._ended:
                self._run_in(folder, task)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            task.status = "STOPPED"
            task.ended.set()

    def _run_in(self, folder: Path, task: Task) -> None:
        (folder / "site" / "sitecustomize.py").write_text(SITE.format(runtime=str(RUNTIME)))
        gate, theirs = socket.socketpair()
        with gate, theirs:
            environment = self._environment(folder, task) | {
                "LEEWARD_GATE_FD": str(theirs.fileno())
            }
            process = subprocess.Popen(
                _command(task.container),
                cwd=folder,
                env=environment,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._cloud.reaper.watch_group(process.pid)
            function = _function_of(task)
            check = self._cloud.runner.check
            asked = threading.Thread(
                target=answer_gate,
                args=(gate, lambda call: check(function, task.id, call)),
                daemon=True,
            )
            asked.start()
            task.pid, task.status = process.pid, "RUNNING"
            self._keep_log(task, process)
            code = process.wait()
            end_group(process.pid)  # a container's other processes end with its first
            self._cloud.reaper.forget_group(process.pid)
            task.exit_code = code if code >= 0 else 128 - code

    def _end(self, task: Task) -> None:
        while not task.pid and not task.ended.wait(0.02):
            pass
        if task.ended.is_set():  # its number may be another process's by now
            return
        try:
            os.kill(task.pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        if not task.ended.wait(task.container.get("stopTimeout", DEFAULT_STOP_SECONDS)):
            end_group(task.pid)

    def _environment(self, folder: Path, task: Task) -> dict[str, str]:
        machine = {
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
            "TZ": "UTC",
            "LANG": "C.UTF-8",
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "PYTHONPATH": str(folder / "site"),
        }
        own = {it["name"]: it["value"] for it in task.container.get("environment", [])}
        overrides = task.given.get("overrides", {}).get("containerOverrides", [])
        named = [it for it in overrides if it["name"] == task.container["name"]]
        over = {pair["name"]: pair["value"] for it in named for pair in it.get("environment", [])}
        return machine | self._cloud.worker_environment(folder) | own | over

    def _keep_log(self, task: Task, process: subprocess.Popen[bytes]) -> None:
        options = task.container.get("logConfiguration", {}).get("options", {})
        group, prefix = options.get("awslogs-group"), options.get("awslogs-stream-prefix")
        stream = f"{prefix}/{task.container['name']}/{task.id}"
        assert process.stdout
        for raw in process.stdout:
            if group:
                store_line(task.region, group, stream, raw.decode(errors="replace").rstrip("\n"))


def _command(container: dict[str, Any]) -> list[str]:
    words: list[str] = [*container.get("entryPoint", []), *container.get("command", [])]
    return [sys.executable, "-B", "-u", *words[1:]] if words[0] == "python3" else words


def _function_of(task: Task) -> Function:
    """Whose rights are asked for: the task role's, under the name of the family with "-task"."""
    family = task.definition["family"]
    return Function(
        name=f"{family}-task",
        arn=task.arn,
        region=task.region,
        handler="",
        role=task.definition["taskRoleArn"],
        timeout_seconds=0,
        memory_mb=int(task.definition["memory"]),
        environment=(),
        code=Path(),
        isolated=False,
    )
