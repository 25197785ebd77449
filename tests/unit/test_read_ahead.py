"""Pieces made ahead of who takes them and written behind them, never far, in other threads."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from chalicelib.adapters.read_ahead import read_ranges
from chalicelib.errors import Damaged
from chalicelib.recover.database.archive import (
    COPY_BYTES,
    PIECES_AHEAD,
    PIECES_BEHIND,
    PIECES_KEPT,
    read_ahead,
    write_behind,
)


def numbered(made: list[int], count: int) -> Iterator[bytes]:
    for number in range(count):
        made.append(number)
        yield bytes([number])


def damaged(after: int) -> Iterator[bytes]:
    yield from numbered([], after)
    raise Damaged("expected more, found an end", hint="Use another.")


@pytest.mark.parametrize("count", [0, 1, PIECES_AHEAD, 100])
def test_all_pieces_come_in_order_from_another_thread(count: int) -> None:
    makers = set()

    def pieces() -> Iterator[bytes]:
        for piece in numbered([], count):
            makers.add(threading.current_thread())
            yield piece

    assert list(read_ahead(pieces())) == [bytes([number]) for number in range(count)]
    assert threading.current_thread() not in makers


@pytest.mark.parametrize("after", [0, 1, 100])
def test_what_was_whole_comes_before_the_error(after: int) -> None:
    """A damage at the end of a stream must not go unnoticed, nor hide what came before it."""
    ahead = read_ahead(damaged(after))
    assert [next(ahead) for _ in range(after)] == [bytes([number]) for number in range(after)]
    with pytest.raises(Damaged):
        next(ahead)


def test_pieces_leave_memory_late_and_leave_it() -> None:
    living: set[int] = set()

    class Piece(bytes):
        def __del__(self) -> None:
            living.discard(self[0])

    def pieces() -> Iterator[bytes]:
        for number in range(200):
            living.add(number)
            yield Piece([number])

    for taken, _ in enumerate(read_ahead(pieces()), 1):
        assert len(living) <= PIECES_KEPT + PIECES_AHEAD + 3
        oldest = max(0, taken + PIECES_AHEAD + 1 - PIECES_KEPT)
        assert living.issuperset(range(oldest, taken))
    del _
    assert not living


def test_no_more_is_made_than_is_told() -> None:
    made: list[int] = []
    pieces = read_ahead(numbered(made, 200))
    for taken in range(1, 50):
        next(pieces)
        assert len(made) <= taken + PIECES_AHEAD + 1
    pieces.close()  # type: ignore[attr-defined]
    assert len(made) < 200


def test_the_thread_ends_with_who_takes_no_more() -> None:
    makers = []

    def pieces() -> Iterator[bytes]:
        makers.append(threading.current_thread())
        yield from numbered([], 200)

    ahead = read_ahead(pieces())
    next(ahead)
    ahead.close()  # type: ignore[attr-defined]
    for thread in makers:
        thread.join(60)
    assert [thread.is_alive() for thread in makers] == [False]


@pytest.mark.parametrize("ahead", ["pieces", "ranges"])
def test_who_takes_no_more_waits_for_nobody(ahead: str) -> None:
    """The garbage collector may leave it in a thread that is being started, which then hung."""
    free = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"first"
        assert free.wait(60)

    def fetch(start: int, end: int) -> bytearray:
        assert not start or free.wait(60)
        return bytearray(end - start)

    left = read_ahead(pieces()) if ahead == "pieces" else read_ranges(9, fetch, range_bytes=1)
    next(left)
    leaving = threading.Thread(target=left.close)  # type: ignore[attr-defined]
    leaving.start()
    leaving.join(30)
    waited = leaving.is_alive()
    free.set()
    leaving.join(60)
    assert not waited


class Disk(io.BytesIO):
    """A file that notes who writes, waits while it is held, and is full at `room` bytes."""

    def __init__(self, room: int = 1 << 30) -> None:
        super().__init__()
        self.room, self.writers, self.free = room, set[threading.Thread](), threading.Event()
        self.free.set()

    def write(self, data: object) -> int:
        assert self.free.wait(60)
        self.writers.add(threading.current_thread())
        if self.tell() >= self.room:
            raise OSError("no space left")
        return super().write(data)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sizes",
    [[], [10], [COPY_BYTES], [10, 20], [7, COPY_BYTES, COPY_BYTES, 9], [COPY_BYTES] * 20 + [1]],
)
def test_all_pieces_are_written_in_order_when_the_last_was_taken(sizes: list[int]) -> None:
    pieces = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    with ThreadPoolExecutor(1) as writer, Disk() as disk:
        assert list(write_behind(iter(pieces), disk, writer)) == pieces
        assert disk.getvalue() == b"".join(pieces)
        here = threading.current_thread() in disk.writers
    assert here == (sizes[:1] in ([10], [7]))


def test_no_more_is_taken_than_may_wait_to_be_written() -> None:
    made: list[int] = []

    def pieces() -> Iterator[bytes]:
        for _ in numbered(made, 20):
            yield bytes(COPY_BYTES)

    def take_all() -> None:
        list(behind)

    with ThreadPoolExecutor(1) as writer, Disk() as disk:
        disk.free.clear()
        behind = write_behind(pieces(), disk, writer)
        for _ in range(PIECES_BEHIND):
            next(behind)
        taker = threading.Thread(target=take_all)
        taker.start()
        taker.join(0.1)
        assert len(made) <= PIECES_BEHIND + 1
        disk.free.set()
        taker.join(60)
        assert len(disk.getvalue()) == 20 * COPY_BYTES


@pytest.mark.parametrize("room", [0, COPY_BYTES, 5 * COPY_BYTES])
def test_what_a_write_raises_is_raised_and_nothing_is_written_after_it(room: int) -> None:
    """A full disk may show in the last write of all."""
    pieces = [bytes(COPY_BYTES)] * (room // COPY_BYTES + 1)
    with ThreadPoolExecutor(1) as writer, Disk(room) as disk:
        with pytest.raises(OSError, match="no space left"):
            list(write_behind(iter(pieces), disk, writer))
        assert writer.submit(disk.tell).result() == room


def test_a_damage_waits_for_the_writes_before_it() -> None:
    """The file may be closed then: its number is the next file's."""

    def pieces() -> Iterator[bytes]:
        yield from [bytes(COPY_BYTES)] * 2
        threading.Timer(0.05, disk.free.set).start()
        raise Damaged("expected more, found an end", hint="Use another.")

    with ThreadPoolExecutor(1) as writer, Disk() as disk:
        disk.free.clear()
        with pytest.raises(Damaged):
            list(write_behind(pieces(), disk, writer))
        assert len(disk.getvalue()) == 2 * COPY_BYTES
