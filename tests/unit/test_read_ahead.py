"""Pieces made in a thread of their own, ahead of who takes them, and never far ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from chalicelib.errors import Damaged
from chalicelib.recover.database.archive import PIECES_AHEAD, read_ahead


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
    assert [thread.is_alive() for thread in makers] == [False]
