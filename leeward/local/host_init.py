"""The first process of a host in the local cloud: starts and stops what its unit files say.

Run as `python host_init.py ROOT ADDRESS`, in the host's folder, by leeward/local/hosts.py. It
starts the units that are enabled, then serves `systemctl` (the script in the host's `bin`) on the
socket `init.sock`: one JSON object {"verb", "units"} a connection, answered by {"status", "text"}.
Of a unit it knows ExecStart, WorkingDirectory, Environment, EnvironmentFile, Restart and
RestartSec, as systemd does. All that it starts is in its own process group and ends with it.
Source: systemctl(1), systemd.service(5); statuses of LSB as systemctl(1) gives them.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from leeward.local.host_paths import on_this_machine

SOCKET = "init.sock"
STOP_SECONDS = 5.0
RESTART_SECONDS = 0.1
# systemd's StartLimitBurst: a unit that ends so often in StartLimitIntervalSec (10 s) has failed.
BURST, BURST_SECONDS = 5, 10.0
NOT_RUNNING, NOT_FOUND = 3, 4


@dataclass
class Unit:
    """A unit file and what runs of it."""

    name: str
    root: Path
    state: str = "inactive"
    restarts: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _wanted: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def file(self) -> Path:
        return self.root / "etc/systemd/system" / f"{self.name}.service"

    @property
    def text(self) -> str:
        """The unit file, and what lies in its folder `.d`."""
        more = sorted(self.file.with_name(f"{self.file.name}.d").glob("*.conf"))
        return "\n".join(file.read_text() for file in (self.file, *more))

    @property
    def load_state(self) -> str:
        return "loaded" if self.file.exists() else "not-found"

    @property
    def pid(self) -> int:
        return self._process.pid if self._process and self.state == "active" else 0

    def start(self) -> str:
        """What went wrong; "" when it runs, also when it ran before."""
        with self._lock:
            if self.state == "active":
                return ""
            self._wanted = True
            self.restarts = 0
            return self._launch()

    def stop(self) -> None:
        with self._lock:
            self._wanted = False
            process, self._process = self._process, None
            self.state = "inactive"
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _launch(self) -> str:
        settings = read_unit(on_this_machine(self.text, self.root))
        environment = os.environ | environment_of(settings, self.root)
        folder = settings.get("WorkingDirectory", [str(self.root)])[-1]
        log = (self.root / "var/log" / f"{self.name}.log").open("ab")
        try:
            self._process = subprocess.Popen(
                ["/bin/bash", "-c", f"exec {settings['ExecStart'][-1]}"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        except OSError as error:
            self.state = "failed"
            return f"{self.name}: {error.strerror}: {folder}"
        finally:
            log.close()
        self.state = "active"
        threading.Thread(target=self._watch, args=(self._process, settings), daemon=True).start()
        return ""

    def _watch(self, process: subprocess.Popen[bytes], settings: dict[str, list[str]]) -> None:
        started = time.monotonic()
        status = process.wait()
        again = settings.get("Restart", ["no"])[-1]
        with self._lock:
            if self._process is not process or not self._wanted:
                return
            self.state = "failed" if status else "inactive"
            if again not in ("always", "on-failure") or (again == "on-failure" and not status):
                return
            self.restarts += 1
            if self.restarts >= BURST and time.monotonic() - started < BURST_SECONDS / BURST:
                return
            self.state = "activating"
        time.sleep(float(settings.get("RestartSec", [str(RESTART_SECONDS)])[-1]))
        with self._lock:
            if self._wanted and self._process is process:
                self._launch()


def read_unit(text: str) -> dict[str, list[str]]:
    """Every setting of the section [Service], in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found.setdefault(key.strip(), []).append(value.strip())
    return found


def environment_of(settings: dict[str, list[str]], root: Path) -> dict[str, str]:
    """Environment= and the files of EnvironmentFile=; one with a dash in front may be missing."""
    pairs = [pair for line in settings.get("Environment", []) for pair in shlex.split(line)]
    for name in settings.get("EnvironmentFile", []):
        file = Path(name.removeprefix("-"))
        if file.exists() or not name.startswith("-"):
            lines = on_this_machine(file.read_text(), root).splitlines()
            pairs += [line.strip() for line in lines if "=" in line and not line.startswith("#")]
    return dict(pair.partition("=")[::2] for pair in pairs)


class Init:
    """The units of a host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wants = root / "etc/systemd/system/multi-user.target.wants"
        self._units: dict[str, Unit] = {}

    def unit(self, name: str) -> Unit:
        name = name.removesuffix(".service")
        return self._units.setdefault(name, Unit(name, self.root))

    def boot(self) -> None:
        self.wants.mkdir(parents=True, exist_ok=True)
        for link in sorted(self.wants.glob("*.service")):
            self.unit(link.stem).start()

    def do(self, verb: str, units: list[str]) -> tuple[int, str]:
        if verb == "daemon-reload":
            return 0, ""
        found = [self.unit(name) for name in units]
        missing = [unit.name for unit in found if not unit.file.exists()]
        if missing and verb not in ("is-active", "is-enabled", "show"):
            return NOT_FOUND if verb == "status" else 5, f"Unit {missing[0]}.service not found."
        act: Callable[[list[Unit]], tuple[int, str]] = getattr(self, f"do_{verb.replace('-', '_')}")
        return act(found)

    def do_start(self, units: list[Unit]) -> tuple[int, str]:
        problems = [problem for unit in units if (problem := unit.start())]
        return (1, "\n".join(problems)) if problems else (0, "")

    def do_stop(self, units: list[Unit]) -> tuple[int, str]:
        for unit in units:
            unit.stop()
        return 0, ""

    def do_restart(self, units: list[Unit]) -> tuple[int, str]:
        self.do_stop(units)
        return self.do_start(units)

    def do_enable(self, units: list[Unit]) -> tuple[int, str]:
        for unit in units:
            link = self.wants / unit.file.name
            if not link.is_symlink():
                link.symlink_to(Path("..") / unit.file.name)
        return 0, ""

    def do_disable(self, units: list[Unit]) -> tuple[int, str]:
        for unit in units:
            (self.wants / unit.file.name).unlink(missing_ok=True)
        return 0, ""

    def do_is_active(self, units: list[Unit]) -> tuple[int, str]:
        states = [unit.state for unit in units]
        return 0 if "active" in states else NOT_RUNNING, "\n".join(states)

    def do_is_enabled(self, units: list[Unit]) -> tuple[int, str]:
        states = [(self.wants / unit.file.name).is_symlink() for unit in units]
        text = "\n".join("enabled" if state else "disabled" for state in states)
        return 0 if any(states) else 1, text

    def do_show(self, units: list[Unit]) -> tuple[int, str]:
        blocks = [
            f"Id={unit.name}.service\nLoadState={unit.load_state}\nActiveState={unit.state}\nNRestarts={unit.restarts}\n"
            f"MainPID={unit.pid}"
            for unit in units
        ]
        return 0, "\n\n".join(blocks)

    def do_cat(self, units: list[Unit]) -> tuple[int, str]:
        return 0, "\n".join(f"# {unit.file}\n{unit.text}" for unit in units)

    def do_status(self, units: list[Unit]) -> tuple[int, str]:
        states = [f"{unit.name}.service: {unit.state}" for unit in units]
        running = all(unit.state == "active" for unit in units)
        return 0 if running else NOT_RUNNING, "\n".join(states)


def serve(init: Init) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(SOCKET)
        server.listen(16)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_answer, args=(init, connection), daemon=True).start()


def _answer(init: Init, connection: socket.socket) -> None:
    with connection, connection.makefile("rwb") as file:
        request: dict[str, Any] = json.loads(file.readline())
        try:
            status, text = init.do(request["verb"], request["units"])
        except (AttributeError, OSError, KeyError) as error:
            status, text = 1, f"{request['verb']}: {type(error).__name__}: {error}"
        file.write(json.dumps({"status": status, "text": text}).encode() + b"\n")
        file.flush()


def main() -> None:
    root = Path(sys.argv[1])
    os.environ["ADDRESS"] = sys.argv[2]
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    init = Init(root)
    init.boot()
    serve(init)


if __name__ == "__main__":
    main()
