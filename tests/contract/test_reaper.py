"""A signal that is meant for a group that is long gone ends nobody else's process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from leeward.local.reaper import Reaper, _running, end_group, is_watched, kill_group
from tests.clouds import wait_for

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
# Others start processes meanwhile, and may be given the number instead.
ATTEMPTS = 2000
# Beginnings are told in hundredths of a second; outside of a test minutes lie between the two.
TICKS_SECONDS = 0.05


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


@contextmanager
def ended_and_its_number_given_again(reaper: Reaper) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the number of another one, whose group was watched and is gone."""
    with sleeper() as first:
        reaper.watch_group(first.pid)
    time.sleep(TICKS_SECONDS)
    for _ in range(ATTEMPTS):
        LAST_PID.write_text(str(first.pid - 1))
        with sleeper() as second:
            if second.pid == first.pid:
                yield second
                return
    pytest.fail(f"the number {first.pid} was not given again")


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    made = Reaper()
    made.start()
    yield made
    made.stop()


def test_a_group_that_is_watched_ends_with_all_its_members(reaper: Reaper) -> None:
    script = "sleep 600 & exec sleep 600"
    with subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True) as process:
        reaper.watch_group(process.pid)
        end_group(process.pid)
        assert process.wait(60) < 0
        wait_for(lambda: not _running({process.pid}), "its other member runs on", seconds=60)


def test_members_of_a_leader_that_has_ended_are_ended(reaper: Reaper) -> None:
    script = "sleep 600 <&- >&- 2>&- & echo $!"
    with subprocess.Popen(
        ["/bin/sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE
    ) as process:
        reaper.watch_group(process.pid)
        assert process.stdout
        left = int(process.stdout.readline())
        process.wait(60)
        os.kill(left, 0)
        kill_group(process.pid)
        wait_for(lambda: not _running({process.pid}), "what it left runs on", seconds=60)


def test_a_group_that_nobody_watches_is_left_alone(reaper: Reaper) -> None:
    with sleeper() as process:
        end_group(process.pid)
        reaper.watch_group(process.pid)
        reaper.forget_group(process.pid)
        kill_group(process.pid)
        assert process.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process began")
@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="needs to choose the next number")
def test_a_number_that_was_given_again_is_somebody_elses(reaper: Reaper) -> None:
    """As after some minutes of a test suite that starts a hundred processes a second."""
    with ended_and_its_number_given_again(reaper) as innocent:
        assert not is_watched(innocent.pid)
        end_group(innocent.pid)
        kill_group(innocent.pid)
        assert innocent.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process began")
@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="needs to choose the next number")
def test_the_reaper_ends_no_process_that_was_given_the_number_since() -> None:
    """At the end of a cloud that forgot one of its groups."""
    reaper = Reaper()
    reaper.start()
    with ExitStack() as stack:
        innocent = stack.enter_context(ended_and_its_number_given_again(reaper))
        reaper.stop()
        assert innocent.poll() is None
