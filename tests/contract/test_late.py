"""A worker that is late, as a process of its own: it ends, whatever it waits for."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

WORKER = """
    import sys, threading, time
    from types import SimpleNamespace
    from chalicelib.adapters.clock import SystemClock
    from chalicelib.services.steps.late import ends_when_late

    class State:
        def create(self, partition, sort, item):
            print(partition, sort, item["within"], flush=True)
            if "silent" in sys.argv:
                threading.Event().wait()

    event = {"run_id": "run-1", "step": "restore", "within": float(sys.argv[1])}
    with ends_when_late(event, desk=SimpleNamespace(state=State(), clock=SystemClock())):
        sys.argv[2] == "hang" and threading.Event().wait()
        print("done", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def work(*words: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-c", dedent(WORKER), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.splitlines()


def test_it_leaves_word_and_ends() -> None:
    assert work("0.5", "hang", "0") == (1, ["run#run-1 late#restore 0.5"])


def test_it_ends_though_the_table_is_silent_too() -> None:
    assert work("0.5", "hang", "0", "silent") == (1, ["run#run-1 late#restore 0.5"])


def test_a_worker_in_time_is_left_alone_also_later() -> None:
    assert work("2", "work", "3") == (0, ["done"])
