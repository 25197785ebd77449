"""Folders that are written to while a point of them is taken."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from chalicelib.recover.folder.restore import verify_files
from tests.shelves import BIG, CLOCK, Shelf, take_meddled
from tests.shelves import shelf as shelf


@pytest.mark.parametrize("size", [4096, len(BIG)])
def test_a_file_that_never_holds_still_is_named(shelf: Shelf, tmp_path: Path, size: int) -> None:
    path = shelf.source / "busy"
    path.write_bytes(BIG[:size])

    def scribble() -> None:
        with path.open("r+b") as file:
            file.write(os.urandom(16))

    point = take_meddled(shelf, scribble)
    assert "1 files changed while they were read: 'busy'" in point.note
    found = shelf.restore(tmp_path / "back")
    assert (found.torn_files, found.torn) == (1, ("busy",))
    assert (tmp_path / "back" / "busy").stat().st_size == size
    assert "1 changed" in verify_files(shelf.store, point, clock=CLOCK).found


@pytest.mark.parametrize("size", [4096, len(BIG)])
def test_a_file_that_holds_still_at_the_second_look_is_whole(
    shelf: Shelf, tmp_path: Path, size: int
) -> None:
    path = shelf.source / "busy"
    path.write_bytes(BIG[:size])
    left = [b"once"]

    def scribble() -> None:
        if left:
            with path.open("r+b") as file:
                file.write(left.pop())

    assert take_meddled(shelf, scribble).note == ""
    shelf.restore(tmp_path / "back")
    assert (tmp_path / "back" / "busy").read_bytes() == b"once" + BIG[4:size]


@pytest.mark.parametrize("size", [4096, len(BIG)])
def test_a_log_that_grows_is_kept_as_it_was(shelf: Shelf, tmp_path: Path, size: int) -> None:
    path = shelf.source / "app.log"
    path.write_bytes(BIG[:size])

    def append() -> None:
        with path.open("ab") as file:
            file.write(b"more\n")

    point = take_meddled(shelf, append)
    assert point.note == ""
    assert [it["state"] for it in shelf.listed(point) if it.get("path") == "app.log"] == ["grew"]
    shelf.restore(tmp_path / "back")
    assert (tmp_path / "back" / "app.log").read_bytes() == BIG[:size]


@pytest.mark.parametrize("size", [4096, len(BIG)])
def test_a_file_that_grows_and_is_written_over_is_torn(shelf: Shelf, size: int) -> None:
    path = shelf.source / "busy"
    path.write_bytes(BIG[:size])

    def rewrite() -> None:
        with path.open("r+b") as file:
            file.write(os.urandom(16))
            file.seek(0, os.SEEK_END)
            file.write(b"more")

    assert "'busy'" in take_meddled(shelf, rewrite).note


@pytest.mark.parametrize("size", [4096, len(BIG)])
def test_a_file_that_shrinks_is_torn_and_the_rest_is_whole(
    shelf: Shelf, tmp_path: Path, size: int
) -> None:
    (shelf.source / "a").write_bytes(BIG[:size])
    (shelf.source / "b").write_bytes(b"after")
    sizes = iter([size // 2, size // 3, size // 4, *range(100, 0, -1)])

    def shrink() -> None:
        os.truncate(shelf.source / "a", next(sizes))

    point = take_meddled(shelf, shrink)
    assert "'a'" in point.note
    shelf.restore(tmp_path / "back")
    assert "'b'" in point.note or (tmp_path / "back" / "b").read_bytes() == b"after"


def test_a_file_removed_meanwhile_is_counted(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.source / "a").write_text("a")
    (shelf.source / "b").write_text("b")
    point = take_meddled(shelf, lambda: (shelf.source / "b").unlink(missing_ok=True))
    assert point.note in ("", "1 files were removed meanwhile")
    shelf.restore(tmp_path / "back")
    assert [it.name for it in (tmp_path / "back").iterdir()] == ["a"]


def test_a_real_writer_beside_the_backup(shelf: Shelf, tmp_path: Path) -> None:
    """Whatever it does: what the list calls whole has the digest that the list has for it."""
    for number in range(20):
        (shelf.source / f"f{number}").write_bytes(os.urandom(200_000))
    done = threading.Event()

    def scribble() -> None:
        number = 0
        while not done.is_set():
            number += 1
            with (shelf.source / f"f{number % 20}").open("r+b") as file:
                file.write(os.urandom(200_000))

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        point = shelf.take()
    finally:
        done.set()
        writer.join()
    shelf.restore(tmp_path / "back")
    assert verify_files(shelf.store, point, clock=CLOCK).ok
