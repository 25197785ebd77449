"""What is kept in build/cache: made once, and not for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from leeward.packaging import build_cache
from leeward.packaging.build_cache import KEPT_FOLDERS, READ_SECONDS, cached


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build_cache, "CACHE", tmp_path)
    return tmp_path


def fill(folder: Path) -> None:
    (folder / "made").write_text("whole")


def refuse(folder: Path) -> None:
    pytest.fail(f"{folder} was made again")


def made(number: int, *, age_seconds: float, kind: str = "zip") -> Path:
    folder = cached(kind, f"{number:024}", fill)
    asked_at = time.time() - age_seconds
    os.utime(folder, (asked_at, asked_at))
    return folder


def test_a_folder_is_made_once() -> None:
    first = cached("zip", "a" * 64, fill)
    assert cached("zip", "a" * 64, refuse) == first
    assert (first / "made").read_text() == "whole"


def test_the_newest_stay_and_the_others_go(cache: Path) -> None:
    ages = [READ_SECONDS + 60 * number for number in range(1, KEPT_FOLDERS + 4)]
    folders = [made(number, age_seconds=age) for number, age in reversed([*enumerate(ages)])]
    other = made(99, age_seconds=10 * READ_SECONDS, kind="template")
    newest = cached("zip", "f" * 24, fill)
    kept = [*folders[::-1][: KEPT_FOLDERS - 1], newest, other]
    assert {it for it in cache.iterdir() if it.is_dir()} == set(kept)


def test_one_that_is_asked_for_again_is_new_again() -> None:
    old = made(0, age_seconds=9 * READ_SECONDS)
    for number in range(1, KEPT_FOLDERS):
        made(number, age_seconds=2 * READ_SECONDS)
    assert cached("zip", f"{0:024}", refuse) == old
    cached("zip", "f" * 24, fill)
    assert cached("zip", f"{0:024}", refuse) == old


def test_what_somebody_may_still_read_stays() -> None:
    folders = [made(number, age_seconds=1.0) for number in range(KEPT_FOLDERS + 3)]
    assert all((it / "made").exists() for it in folders)
