"""Unpacked code shared by clouds: made once, never half, never changed, gone when not needed."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from leeward.local.code_cache import EPOCH_SECONDS, KEPT_FOLDERS, hold, remove_old
from leeward.local.iam import judge
from leeward.local.reaper import Reaper
from leeward.local.runner import Runner
from tests.noise import noise

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


Unpack = Callable[..., Path]


@pytest.fixture
def unpacked(tmp_path: Path) -> Iterator[Unpack]:
    """Unpacks a package's files, each time in a cloud of its own; returns where they lie."""
    with ExitStack() as stack:
        reaper = Reaper()
        stack.callback(reaper.stop)
        reaper.start()

        def unpack(**files: bytes) -> Path:
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                for name, data in files.items():
                    archive.writestr(zipfile.ZipInfo(name.replace("__", "/")), data)
            code = packed.getvalue()
            runner = Runner(
                tmp_path / str(len(code)),
                reaper,
                environment=lambda _: {},
                on_log=lambda *_: None,
                judge=judge,
                cache=tmp_path / "cache",
            )
            (tmp_path / str(len(code))).mkdir()
            stack.callback(runner.stop)
            digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
            return runner.unpack(digest, code)

        yield unpack


LIBRARY = noise(1 << 20)


def test_packages_with_the_same_libraries_share_them(unpacked: Unpack) -> None:
    first = unpacked(lib__a=LIBRARY, lib__b=b"b", chalicelib__c=b"one", plan=b"1")
    second = unpacked(lib__a=LIBRARY, lib__b=b"b", chalicelib__c=b"another", plan=b"22")
    assert first != second
    assert (first / "lib").resolve() == (second / "lib").resolve()
    found = [
        {it: (folder / it).read_bytes() for it in ("lib/b", "chalicelib/c", "plan")}
        for folder in (first, second)
    ]
    assert found == [
        {"lib/b": b"b", "chalicelib/c": b"one", "plan": b"1"},
        {"lib/b": b"b", "chalicelib/c": b"another", "plan": b"22"},
    ]
    assert (second / "lib" / "a").read_bytes() == LIBRARY


def test_one_other_byte_in_a_library_is_another_library(unpacked: Unpack) -> None:
    first = unpacked(lib__a=LIBRARY, lib__b=b"b", plan=b"1")
    second = unpacked(lib__a=LIBRARY, lib__b=b"c", plan=b"22")
    assert [(it / "lib" / "b").read_bytes() for it in (first, second)] == [b"b", b"c"]


def test_packages_without_libraries_share_nothing(unpacked: Unpack) -> None:
    first, second = unpacked(app=LIBRARY), unpacked(app=LIBRARY + b"more")
    assert (first / "app").read_bytes() == LIBRARY
    assert (second / "app").read_bytes() == LIBRARY + b"more"


def test_a_library_that_was_written_to_in_use_serves_no_other(unpacked: Unpack) -> None:
    first = unpacked(lib__a=LIBRARY, plan=b"1")
    (first / "lib" / "a").write_bytes(b"another")
    second = unpacked(lib__a=LIBRARY, plan=b"22")
    assert (second / "lib" / "a").read_bytes() == LIBRARY
