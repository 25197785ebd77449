"""Sandboxes that are forked end as processes do, whoever ends first."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leeward.local.reaper import Reaper
from leeward.local.spawner import LOST, MOTHER, Forked, Spawner
from leeward.plan_file import load_plan

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are forked on Linux")
APP = """
import gc, os, time
def leave(event, context):
    os._exit(7)
def collects(event, context):
    return gc.isenabled()
"""
ROOT = Path(__file__).parents[2]
# What a sandbox would find in memory that depends on more than the package.
REMEMBERED = """
import json, runpy, sys
mother = runpy.run_path(sys.argv[1])
mother["import_libraries"]()
mother["read_models"]()
names = mother["APPLICATION"]
# What the plan's modules remember follows from the plan, which is the package's.
own = {name: module for name, module in sys.modules.items()
       if name.startswith("chalicelib") and not name.startswith("chalicelib.plan")}
calls = {f"{name}.{key}": it.cache_info().currsize for name, module in own.items()
         for key, it in vars(module).items()
         if hasattr(it, "cache_info") and it.__module__ == name}
import boto3
print(json.dumps({
    "missing": [name for name in names if name not in sys.modules],
    "too_early": [name for name in ("app", "chalicelib.telemetry") if name in sys.modules],
    "remembered": [name for name, size in calls.items() if size],
    "session": boto3.DEFAULT_SESSION is not None,
}))
"""


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    made = Reaper()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def spawner(tmp_path: Path, reaper: Reaper) -> Iterator[Spawner]:
    (tmp_path / "app.py").write_text(APP)
    made = Spawner(tmp_path, reaper)
    yield made
    made.stop()


class Box:
    """A forked sandbox and our ends of its sockets."""

    def __init__(self, spawner: Spawner, code: Path, function: str = "leave") -> None:
        environment = {
            "_HANDLER": f"app.{function}", "LAMBDA_TASK_ROOT": str(code), "TZ": "UTC",
            "AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_LAMBDA_LOG_GROUP_NAME": "g",
            "AWS_LAMBDA_LOG_STREAM_NAME": "s",
        }  # fmt: skip
        self.channel, channel = socket.socketpair()
        self.gate, gate = socket.socketpair()
        with channel, gate:
            found = spawner.spawn(environment, channel.fileno(), gate.fileno())
        assert found is not None
        self.process: Forked = found

    def ready(self) -> bytes:
        return self.channel.recv(100)


def until(probe: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not probe():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return listed.stdout.strip()[:1] not in ("", "Z")


def test_the_status_with_which_it_ended_is_known(spawner: Spawner, tmp_path: Path) -> None:
    box = Box(spawner, tmp_path)
    assert box.ready() == b'{"ready": true}\n'
    assert box.process.poll() is None
    box.channel.sendall(b'{"id": "1", "event": {}, "arn": "", "deadline": 0}\n')
    assert box.process.wait() == 7


def test_it_collects_its_garbage_as_any_interpreter(spawner: Spawner, tmp_path: Path) -> None:
    box = Box(spawner, tmp_path, "collects")
    assert box.ready() == b'{"ready": true}\n'
    box.channel.sendall(b'{"id": "1", "event": {}, "arn": "", "deadline": 0}\n')
    assert box.channel.recv(100) == b'{"result": "true"}\n'


def test_a_killed_one_leaves_the_others(spawner: Spawner, tmp_path: Path) -> None:
    first, second = Box(spawner, tmp_path), Box(spawner, tmp_path)
    assert first.ready() == second.ready() == b'{"ready": true}\n'
    first.process.kill()
    assert first.process.wait() == -9
    assert second.process.poll() is None
    second.channel.close()
    assert second.process.wait() == 0


def test_one_that_is_not_needed_any_more_ends_by_itself(spawner: Spawner, tmp_path: Path) -> None:
    box = Box(spawner, tmp_path)
    box.ready()
    box.channel.close()
    box.gate.close()
    assert box.process.wait() == 0
    assert box.process.stdout
    assert box.process.stdout.read() == b""


def test_without_a_mother_there_are_no_sandboxes_and_no_new_ones(
    spawner: Spawner, tmp_path: Path
) -> None:
    box = Box(spawner, tmp_path)
    box.ready()
    os.kill(spawner._mother.pid, 9)
    assert box.process.wait() == LOST
    until(lambda: not is_running(box.process.pid))
    mine, theirs = socket.socketpair()
    with mine, theirs:
        assert spawner.spawn({}, mine.fileno(), theirs.fileno()) is None


def test_nothing_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    code = f"""
import os, signal, sys
from pathlib import Path
from leeward.local.reaper import Reaper
from leeward.local.spawner import Spawner
from tests.contract.test_spawner import Box
reaper = Reaper()
reaper.start()
spawner = Spawner(Path({str(tmp_path)!r}), reaper)
box = Box(spawner, Path({str(tmp_path)!r}))
box.ready()
print(box.process.pid, spawner._mother.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    pids = [int(it) for it in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    until(lambda: not any(is_running(pid) for pid in pids))


def test_nothing_of_a_function_is_in_memory_before_its_sandbox_is_forked(tmp_path: Path) -> None:
    plan = load_plan(ROOT / "policies" / "plans" / "nexus-studio.yaml").plan
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_json()))
    found = subprocess.run(
        [sys.executable, "-c", REMEMBERED, str(MOTHER)],
        cwd=ROOT,
        env={"LAMBDA_TASK_ROOT": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == {
        "missing": [], "too_early": [], "remembered": [], "session": False
    }  # fmt: skip
