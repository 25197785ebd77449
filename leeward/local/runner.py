"""The Lambda runner: a pool of sandboxes per function, and the queue of asynchronous events.

Contract, as AWS's:
- A sandbox runs one invocation at a time; a second at the same time gets a sandbox of its own,
  up to the function's reserved concurrency, beyond which the caller is told TooManyRequests.
- New code or new configuration means new sandboxes.
- An asynchronous event whose function fails is tried twice more; after that it is in `lost`.
"""

from __future__ import annotations

import base64
import itertools
import json
import resource
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from chalicelib.errors import NotReady, Throttled
from leeward.local.code_cache import UNPACK, Held, Libraries, hold, libraries_of, remove_old
from leeward.local.iam import Judgement, Need
from leeward.local.reaper import Reaper
from leeward.local.sandbox import Function, Outcome, Sandbox, base_environment
from leeward.local.spawner import Spawner
from leeward.packaging.build_cache import CACHE

CALLS_KEPT = 100_000
SHARED_BYTES = 1 << 20
RETRY_SECONDS = (1.0, 2.0)
"""Waits before the two retries of an asynchronous event; AWS waits 60 and 120."""


@dataclass(frozen=True)
class Call:
    """One AWS call that a function made: `service` and `operation` as botocore names them.

    `needs` are the rights it needed, `denied` says which of them the function's role lacks;
    `sandbox` names the one that made it. `region`: which was called, "" for the function's own.
    """

    function: str
    service: str
    operation: str
    parameters: dict[str, str]
    needs: tuple[Need, ...]
    denied: str | None = None
    sandbox: str = ""
    region: str = ""


@dataclass
class _Pool:
    idle: list[Sandbox] = field(default_factory=list)
    busy: list[Sandbox] = field(default_factory=list)


# macOS allows 256 unless asked; each sandbox holds several, and most Macs refuse more than this.
OPEN_FILES = 10_240


def allow_open_files() -> None:
    """Let this process and those it starts open as many files as it may, up to OPEN_FILES."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Runner:
    """See the module. `environment` is added to every sandbox's own, and wins.

    `stops(region, service, operation)`: whether the service does not do that there now.
    `libraries`: a zip that is laid over an unpacked package, where Lambda's wheels do not run.
    `forks`: whether sandboxes may be forked; a cold start as AWS has it is measured without.
    """

    def __init__(
        self,
        folder: Path,
        reaper: Reaper,
        *,
        environment: Callable[[Path], dict[str, str]],
        on_log: Callable[[Function, str, str], None],
        judge: Callable[[Function, dict[str, Any]], Judgement],
        stops: Callable[[str, str, str], bool] = lambda *_: False,
        cache: Path = CACHE,
        libraries: Path | None = None,
    ) -> None:
        self._folder = folder
        allow_open_files()
        self._reaper = reaper
        self._environment = environment
        self._on_log = on_log
        self._judge = judge
        self._stops = stops
        self._cache = cache
        self._libraries = libraries
        self._pools: dict[str, _Pool] = {}
        self._lock = threading.Lock()
        self._unpacking = threading.Lock()
        self._code: dict[str, Path] = {}
        self._held: list[Held] = []
        self._spawners: dict[Path, Spawner] = {}
        self.forks = True
        # At which call of which event a sandbox dies, before the call takes effect.
        self.strikes: Callable[[Call, Any], bool] | None = None
        self._numbers = itertools.count(1)
        self._waiting = 0
        self._stopping = False
        self.calls: deque[Call] = deque(maxlen=CALLS_KEPT)
        self.lost: list[tuple[str, Any, str]] = []

    def invoke(self, function: Function, event: Any, *, limit: int | None = None) -> Outcome:
        """Run `event` in a sandbox and wait for its end.

        Raises:
            Throttled: `limit` invocations of the function run already.
        """
        sandbox, problem = self._take(function, limit)
        try:
            return problem or sandbox.invoke(event, str(uuid.uuid4()))
        finally:
            self._give_back(sandbox, reusable=problem is None)

    def invoke_later(self, function: Function, event: Any, *, retries: int = 2) -> None:
        """Queue `event`; returns at once."""
        with self._lock:
            self._waiting += 1
        work = threading.Thread(target=self._deliver, args=(function, event, retries), daemon=True)
        work.start()

    def wait_idle(self, seconds: float) -> bool:
        """True when no asynchronous event is queued or running any more."""
        deadline = time.monotonic() + seconds
        while self._waiting and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self._waiting

    def warm(self, functions: list[Function]) -> dict[str, Outcome]:
        """Start one sandbox for each function, all at once; returns those that failed to."""
        with ThreadPoolExecutor(max(len(functions), 1)) as pool:
            problems = list(pool.map(self._warm_one, functions))
        names = [function.name for function in functions]
        return {name: it for name, it in zip(names, problems, strict=True) if it}

    def kill(self, name: str, *, wait_seconds: float = 10.0) -> int:
        """Kill the sandbox that runs `name` now, waiting until one does; returns its pid.

        Raises:
            NotReady: none ran within `wait_seconds`.
        """
        deadline = time.monotonic() + wait_seconds
        while time.monotonic() < deadline:
            for sandbox in self.running(name):
                sandbox.kill()
                return sandbox.pid
            time.sleep(0.01)
        raise NotReady(
            f"no sandbox ran {name} within {wait_seconds:g} s",
            hint="Name a function that is being invoked.",
            code="no-sandbox",
        )

    def running(self, name: str) -> list[Sandbox]:
        """The sandboxes in which the function is being invoked now."""
        with self._lock:
            busy = [box for pool in self._pools.values() for box in pool.busy]
        return [box for box in busy if box.invoking and is_named(box.function.name, (name,))]

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            pools, self._pools = list(self._pools.values()), {}
        boxes = [box for pool in pools for box in (*pool.idle, *pool.busy)]
        with ThreadPoolExecutor(max(len(boxes), 1)) as killers:
            list(killers.map(Sandbox.kill, boxes))
        with self._unpacking:  # a zip that is being unpacked: nothing is left that writes
            for spawner in self._spawners.values():
                spawner.stop()
            for held in self._held:
                held.release()
            self._held.clear()

    def unpack(self, digest: str, code: bytes) -> Path:
        """The folder of an unpacked zip, once per content; `digest` is Lambda's CodeSha256.

        A large one is shared by the clouds of this machine (code_cache.py). Nothing comes to exist
        once the runner stops.
        """
        name = base64.b64decode(digest).hex()[:24]
        with self._unpacking:
            if name not in self._code and not self._stopping:
                self._code[name] = self._unpacked(name, code)
            return self._code.get(name, self._folder / "code" / name)

    def _unpacked(self, name: str, code: bytes) -> Path:
        unpack = partial(self._unpack_into, code=code)
        if len(code) >= SHARED_BYTES:
            held = self._hold(name, code)
            if held is not None:
                if sys.platform == "linux":
                    self._spawners[held.folder] = Spawner(held.folder, self._reaper)
                remove_old(self._cache)
                return held.folder
        folder = self._folder / "code" / name
        folder.mkdir(parents=True)
        unpack(folder)
        return folder

    def _hold(self, name: str, code: bytes) -> Held | None:
        """The shared folder of a zip, and that of its libraries, until the runner stops."""
        unpack = partial(self._unpack_into, code=code)
        libraries = _libraries_of(name, code)
        if libraries.folders and self._libraries is None:
            parts = ("", *libraries.folders)
            below = hold(self._cache, libraries.digest, partial(unpack, part=parts))
            if below is None:
                return None
            self._held.append(below)
            unpack = partial(unpack, part=(below.folder.name, *libraries.folders))
        held = hold(self._cache, name, unpack)
        if held is not None:
            self._held.append(held)
        return held

    def _unpack_into(self, folder: Path, *, code: bytes, part: tuple[str, ...] = ("",)) -> None:
        """Another process unpacks: it takes a second and a half of this one's time. Ctrl-C in a
        terminal does not reach it: `stop` waits for its end, the reaper ends it after a crash."""
        archive = self._folder / f"{folder.name}.zip"
        archive.write_bytes(code)
        over = [self._libraries] if self._libraries and len(code) >= SHARED_BYTES else []
        for source in (archive, *over):
            self._run([sys.executable, "-I", "-S", "-c", UNPACK, str(source), str(folder), *part])
        archive.unlink()

    def _run(self, command: list[str]) -> None:
        with subprocess.Popen(command, start_new_session=True) as process:
            self._reaper.watch_group(process.pid)
        self._reaper.forget_group(process.pid)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)

    def _take(self, function: Function, limit: int | None) -> tuple[Sandbox, Outcome | None]:
        with self._lock:
            if self._stopping:
                raise Throttled("the local cloud is stopping")
            pool = self._pools.setdefault(function.arn, _Pool())
            if limit is not None and len(pool.busy) >= limit:
                raise Throttled(f"{function.name} runs {limit} times already, its limit")
            while pool.idle:
                sandbox = pool.idle.pop()
                if sandbox.function == function and sandbox.alive:
                    pool.busy.append(sandbox)
                    return sandbox, None
                sandbox.kill()
            sandbox = self._new_sandbox(function)
            pool.busy.append(sandbox)
        return sandbox, sandbox.wait_ready()

    def _give_back(self, sandbox: Sandbox, *, reusable: bool) -> None:
        with self._lock:
            pool = self._pools.get(sandbox.function.arn)
            if pool and sandbox in pool.busy:
                pool.busy.remove(sandbox)
                if reusable and sandbox.alive:
                    pool.idle.append(sandbox)
                    return
        sandbox.kill()

    def _new_sandbox(self, function: Function) -> Sandbox:
        folder = self._folder / "sandboxes" / f"{function.name}-{next(self._numbers)}"
        folder.mkdir(parents=True)
        environment = base_environment(function, folder) | dict(function.environment)
        return Sandbox(
            function,
            folder,
            environment | self._environment(folder),
            reaper=self._reaper,
            on_log=lambda line: self._on_log(function, folder.name, line),
            gate=lambda call: self.check(function, folder.name, call),
            spawner=self._spawner_of(function),
        )

    def _spawner_of(self, function: Function) -> Spawner | None:
        return self._spawners.get(function.code) if self.forks and function.isolated else None

    def check(self, function: Function, sandbox: str, call: dict[str, Any]) -> str | None:
        """Why the AWS call is denied, None when it may be made; it is remembered either way."""
        judged = self._judge(function, call)
        made = Call(
            function=function.name,
            needs=judged.needs,
            denied=judged.denied,
            sandbox=sandbox,
            **call,
        )
        self.calls.append(made)
        if self.strikes:
            for box in self.running(function.name):
                if box.folder.name == sandbox and self.strikes(made, box.event):
                    box.kill()
        return judged.denied

    def _warm_one(self, function: Function) -> Outcome | None:
        sandbox, problem = self._take(function, None)
        self._give_back(sandbox, reusable=problem is None)
        return problem

    def _deliver(self, function: Function, event: Any, retries: int) -> None:
        error = ""
        for wait in (0.0, *RETRY_SECONDS[:retries]):
            time.sleep(wait)
            if self._stopping:
                break
            error = self._attempt(function, event)
            if not error:
                break
        with self._lock:
            self._waiting -= 1
            if error and not self._stopping:
                self.lost.append((function.name, event, error))

    def _attempt(self, function: Function, event: Any) -> str:
        if self._stops(function.region, "lambda", "InvokeAsync"):
            return f"Lambda of {function.region} is down"
        try:
            outcome = self.invoke(function, event)
        except Throttled as error:
            return error.message
        return json.loads(outcome.payload)["errorMessage"] if outcome.failed else ""


_known: dict[str, Libraries] = {}


def _libraries_of(name: str, code: bytes) -> Libraries:
    """Looked for once in a process: it reads the list of 6,000 files."""
    if name not in _known:
        _known[name] = libraries_of(code)
    return _known[name]


def is_named(name: str, wanted: tuple[str, ...]) -> bool:
    """ "leeward-primary-rebuild" is named by itself and by "rebuild"."""
    return any(name == it or name.endswith(f"-{it}") for it in wanted)
