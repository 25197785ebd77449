"""Sandboxes that are forked end as processes do, whoever ends first."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from leeward.local.reaper import Reaper
from leeward.local.spawner import LOST, Forked, Spawner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are forked on Linux")
APP = """
import os, time
def leave(event, context):
    os._exit(7)
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

    def __init__(self, spawner: Spawner, code: Path) -> None:
        environment = {
            "_HANDLER": "app.leave", "LAMBDA_TASK_ROOT": str(code), "TZ": "UTC",
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
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_the_status_with_which_it_ended_is_known(spawner: Spawner, tmp_path: Path) -> None:
    box = Box(spawner, tmp_path)
    assert box.ready() == b'{"ready": true}\n'
    assert box.process.poll() is None
    box.channel.sendall(b'{"id": "1", "event": {}, "arn": "", "deadline": 0}\n')
    assert box.process.wait() == 7


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
