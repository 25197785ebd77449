"""A pod: each container a process group of its own, probed, started again when it ends, and ended.

A pod has one address here, 127.0.0.1, so each container is told its port by the variable PORT; its
HOSTNAME is the pod's name, as in Kubernetes. Waits between restarts are short: 10 s there, 0.2 s
here, doubled up to 5 s.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leeward.local.kubernetes.objects import Key, Object, Objects, now_text
from leeward.local.reaper import Reaper, end_group

FIRST_BACK_OFF_SECONDS = 0.2
LONGEST_BACK_OFF_SECONDS = 5.0
PROBE_SECONDS = 0.1
PROBE_TIMEOUT_SECONDS = 2.0
PROBES_TO_FAIL = 3
GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Node:
    """Where pods run. `images`: a command for an image's name without its tag.

    `environment`: what every process has besides its container's own.
    """

    images: Mapping[str, Sequence[str]]
    environment: Mapping[str, str]
    folder: Path
    reaper: Reaper
    objects: Objects


class _CannotStart(Exception):
    """`reason` as Kubernetes names it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass
class Container:
    """Runs in a thread of its own from `start` until `stop` was called and it has ended."""

    node: Node
    pod: Object
    spec: Object
    port: int = field(default_factory=lambda: _free_port())
    ready: bool = False
    restarts: int = 0
    state: Object = field(default_factory=lambda: _waiting("ContainerCreating", ""))
    last: Object = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.log = self.node.folder / f"{self.pod['metadata']['name']}-{self.spec['name']}.log"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Asks it to end; `alive` tells when it has."""
        self._stopping.set()

    def kill(self) -> None:
        """As a lost node ends it; the caller has asked it to stop, so that it does not return."""
        if self._process is not None:
            end_group(self._process.pid)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def status(self) -> Object:
        return {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "ready": self.ready,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }

    def _run(self) -> None:
        pause = FIRST_BACK_OFF_SECONDS
        while not self._stopping.is_set():
            try:
                ended = self._run_once(self._command(), self._environment())
            except _CannotStart as error:
                self.state = _waiting(error.reason, error.message)
                self._stopping.wait(pause)
                pause = min(pause * 2, LONGEST_BACK_OFF_SECONDS)
                continue
            if self._stopping.is_set():
                break
            self.last, self.restarts = {"terminated": ended}, self.restarts + 1
            text = f"back-off {pause:g}s restarting failed container={self.spec['name']}"
            self.state = _waiting("CrashLoopBackOff", text)
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_BACK_OFF_SECONDS)

    def _run_once(self, command: list[str], environment: dict[str, str]) -> Object:
        """How it ended: by itself, or because it was asked to."""
        started = now_text()
        try:
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    cwd=self.spec.get("workingDir"), start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            return _terminated("StartError", 128, started, f"exec: {error}")
        self._process = process
        with contextlib.suppress(BrokenPipeError):
            self.node.reaper.watch_group(process.pid)
        self.state = {"running": {"startedAt": started}}
        try:
            self._attend(process)
        finally:
            self.ready = False
            code = self._end(process)
            self.node.reaper.forget_group(process.pid)
        return _terminated("Completed" if code == 0 else "Error", code, started)

    def _attend(self, process: subprocess.Popen[bytes]) -> None:
        """Probe until it ends or has to."""
        probe, failures = self.spec.get("readinessProbe", {}).get("httpGet"), 0
        while process.poll() is None and not self._stopping.is_set():
            if probe is None or _answers(self.port, probe.get("path", "/")):
                self.ready, failures = True, 0
            else:
                failures += 1
                self.ready = self.ready and failures < PROBES_TO_FAIL
            self._stopping.wait(PROBE_SECONDS)

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        grace = self.pod["spec"].get("terminationGracePeriodSeconds", GRACE_SECONDS)
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        end_group(process.pid)  # what it left behind
        code = process.wait()
        return code if code >= 0 else 128 - code

    def _command(self) -> list[str]:
        given = [*self.spec.get("command", ()), *self.spec.get("args", ())]
        if self.spec.get("command"):
            return given
        name = self.spec["image"].partition(":")[0]
        if name not in self.node.images:
            raise _CannotStart("ImagePullBackOff", f'Back-off pulling image "{self.spec["image"]}"')
        return [*self.node.images[name], *given]

    def _environment(self) -> dict[str, str]:
        given = {it["name"]: self._value(it) for it in self.spec.get("env", ())}
        own = {"HOSTNAME": self.pod["metadata"]["name"], "PORT": str(self.port)}
        return {**self.node.environment, **own, **given}

    def _value(self, entry: Object) -> str:
        for kind, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
            if kind in entry.get("valueFrom", {}):
                return self._referred(plural, entry["valueFrom"][kind])
        return str(entry.get("value", ""))

    def _referred(self, plural: str, reference: Mapping[str, str]) -> str:
        name, namespace = reference["name"], self.pod["metadata"]["namespace"]
        found = self.node.objects.find(Key("v1", plural, namespace, name))
        if found is None:
            raise _CannotStart(
                "CreateContainerConfigError", f'{plural.rstrip("s")} "{name}" not found'
            )
        plain = dict(found.get("data", {}))
        if plural == "secrets":
            plain = {key: base64.b64decode(text).decode() for key, text in plain.items()}
            plain |= found.get("stringData", {})
        if reference["key"] not in plain:
            raise _CannotStart(
                "CreateContainerConfigError", f"couldn't find key {reference['key']} in {name}"
            )
        return str(plain[reference["key"]])


class Pod:
    """The containers of one pod object."""

    def __init__(self, node: Node, pod: Object) -> None:
        self.key = Key("v1", "pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        self.labels: dict[str, str] = dict(pod["metadata"].get("labels", {}))
        self.containers = [Container(node, pod, it) for it in pod["spec"]["containers"]]

    def start(self) -> None:
        for container in self.containers:
            container.start()

    def stop(self) -> None:
        for container in self.containers:
            container.stop()

    def kill(self) -> None:
        self.stop()
        for container in self.containers:
            container.kill()

    @property
    def alive(self) -> bool:
        return any(it.alive for it in self.containers)

    @property
    def ready(self) -> bool:
        """One that is ending gets no more connections."""
        return all(it.ready and not it.stopping for it in self.containers)

    @property
    def port(self) -> int:
        return self.containers[0].port

    def status(self) -> Object:
        statuses = [it.status() for it in self.containers]
        running = any("running" in it["state"] for it in statuses)
        ready = "True" if self.ready else "False"
        return {
            "phase": "Running" if running else "Pending",
            "podIP": "127.0.0.1",
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": ready},
            ],
            "containerStatuses": statuses,
        }


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}{path}", timeout=PROBE_TIMEOUT_SECONDS
        ) as answer:
            return bool(200 <= answer.status < 400)
    except OSError:
        return False


def _waiting(reason: str, message: str) -> Object:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def _terminated(reason: str, code: int, started: str, message: str = "") -> dict[str, Any]:
    told = {"reason": reason, "exitCode": code, "startedAt": started, "finishedAt": now_text()}
    return told | ({"message": message} if message else {})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
