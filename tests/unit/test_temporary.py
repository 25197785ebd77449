"""Where tests keep what they make."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests import temporary


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in memory's place, with room; nobody chose a TMPDIR."""
    monkeypatch.setattr(temporary, "MEMORY", tmp_path)
    monkeypatch.setattr(temporary, "ROOM_BYTES", 1)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    monkeypatch.delenv("TMPDIR")
    return tmp_path


def test_it_is_in_memory_where_there_is_room(memory: Path) -> None:
    temporary.keep_in_memory()
    folder = memory / f"leeward-tests-{os.geteuid()}"
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(folder)


def test_it_is_where_it_was_without_room(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "ROOM_BYTES", 1 << 60)
    temporary.keep_in_memory()
    assert "TMPDIR" not in os.environ


def test_a_place_that_somebody_chose_stays(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    temporary.keep_in_memory()
    assert os.environ["TMPDIR"] == "/var/tmp"
