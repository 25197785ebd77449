"""Ctrl-C in the middle: exit status 130, what is left in a line, nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from tests.commands import LEEWARD, NEXUS, ROOT, clean_environment


@pytest.fixture
def temp() -> Iterator[Path]:
    """TMPDIR of the command: PostgreSQL, as a user of its own, works in it too."""
    with tempfile.TemporaryDirectory(prefix="lw-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("seen", ["production", "DAMAGE"])
def test_ctrl_c_in_a_drill(temp: Path, seen: str) -> None:
    with subprocess.Popen(
        [LEEWARD, "drill", "database-corruption", "--plan", NEXUS, "--out", temp / "out"],
        cwd=ROOT,
        env=clean_environment(TMPDIR=str(temp)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as drill:
        try:
            assert drill.stdout
            wait_for_word(drill.stdout, seen)
            os.killpg(drill.pid, signal.SIGINT)  # what a terminal does: to the whole group
            _, errors = drill.communicate(timeout=30)
        finally:
            drill.kill()
    assert drill.returncode == 130
    assert errors.strip() == (
        "STOPPED leeward drill: what it started is ended and removed; run it again"
    )
    assert [path.name for path in temp.iterdir()] == ["out"]
    assert processes_in(temp) == []


def test_a_drill_is_left_open_on_request_and_ctrl_c_is_its_end(temp: Path) -> None:
    words = [LEEWARD, "drill", "database-corruption", "--plan", NEXUS, "--out", temp / "out"]
    with subprocess.Popen(
        [*words, "--projects", "1000", "--keep"],
        cwd=ROOT,
        env=clean_environment(TMPDIR=str(temp)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as drill:
        try:
            assert drill.stdout
            assert drill.stderr
            wait_for_word(drill.stdout, "evidence  leeward evidence verify", seconds=180)
            link = drill.stderr.readline().removeprefix("dashboard  ").strip()
            assert b"This link signs you in once" in urllib3.request("GET", link).data
            wait_for_word(drill.stderr, "kept open")
            os.killpg(drill.pid, signal.SIGINT)
            drill.communicate(timeout=30)
        finally:
            drill.kill()
    assert drill.returncode == 0
    assert processes_in(temp) == []


def wait_for_word(lines: Iterator[str], word: str, *, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    for line in lines:
        if word in line:
            return
        assert time.monotonic() < deadline, f"no {word} within {seconds} s"
    raise AssertionError(f"the output ended without {word}")


def processes_in(folder: Path) -> list[str]:
    """Command lines that name the folder: servers, sandboxes, the reaper's charges."""
    listed = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(folder) in line]
