"""Unpacked code shared by clouds: made once, never half, never changed, gone when not needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from leeward.local.code_cache import EPOCH_SECONDS, KEPT_FOLDERS, hold, remove_old

DIGEST = "0123456789abcdef"


class Unpacking:
    """Makes a folder of two files, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, folder: Path) -> None:
        self.times += 1
        (folder / "package").mkdir()
        for name, text in (("app.py", "x = 1\n"), ("package/more.py", "y = 2\n")):
            (folder / name).write_text(text)
            os.utime(folder / name, (EPOCH_SECONDS, EPOCH_SECONDS))


@pytest.fixture
def unpack() -> Unpacking:
    return Unpacking()


def test_the_second_cloud_finds_what_the_first_unpacked(tmp_path: Path, unpack: Unpacking) -> None:
    first, second = hold(tmp_path, DIGEST, unpack), hold(tmp_path, DIGEST, unpack)
    assert first
    assert second
    assert first.folder == second.folder
    assert unpack.times == 1
    assert (second.folder / "package/more.py").read_text() == "y = 2\n"


def write_into(folder: Path) -> None:
    (folder / "app.py").write_text("x = 3\n")


def add_to(folder: Path) -> None:
    (folder / "package" / "new.py").touch()


def remove_from(folder: Path) -> None:
    (folder / "app.py").unlink()


@pytest.mark.parametrize("change", [write_into, add_to, remove_from, shutil.rmtree])
def test_what_was_changed_is_made_anew(tmp_path: Path, unpack: Unpacking, change: object) -> None:
    before = hold(tmp_path, DIGEST, unpack)
    assert before
    assert callable(change)
    before.release()
    change(before.folder)
    after = hold(tmp_path, DIGEST, unpack)
    assert after
    assert unpack.times == 2
    assert (after.folder / "app.py").read_text() == "x = 1\n"
    assert sorted(it.name for it in after.folder.rglob("*.py")) == ["app.py", "more.py"]


def test_nothing_is_changed_beneath_a_cloud_that_uses_it(tmp_path: Path, unpack: Unpacking) -> None:
    used = hold(tmp_path, DIGEST, unpack)
    assert used
    add_to(used.folder)
    assert hold(tmp_path, DIGEST, unpack) is None
    assert (used.folder / "package" / "new.py").exists()


def test_a_process_that_died_in_the_middle_left_nothing_to_use(
    tmp_path: Path, unpack: Unpacking
) -> None:
    code = f"""
import os, signal
from pathlib import Path
from leeward.local.code_cache import hold
def unpack(folder):
    (folder / "app.py").touch()
    os.kill(os.getpid(), signal.SIGKILL)
hold(Path({str(tmp_path)!r}), {DIGEST!r}, unpack)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    held = hold(tmp_path, DIGEST, unpack)
    assert held
    assert unpack.times == 1
    assert (held.folder / "app.py").read_text() == "x = 1\n"


def test_old_folders_go_but_for_those_in_use(tmp_path: Path, unpack: Unpacking) -> None:
    held = {number: hold(tmp_path, f"{number:016x}", unpack) for number in range(KEPT_FOLDERS + 3)}
    for number, one in held.items():
        assert one
        os.utime(one.folder.with_suffix(".json"), (EPOCH_SECONDS + number,) * 2)
        if number != 1:
            one.release()
    remove_old(tmp_path)
    left = {int(it.name.removeprefix("code-"), 16) for it in tmp_path.iterdir() if it.is_dir()}
    assert left == {1, *range(3, KEPT_FOLDERS + 3)}
