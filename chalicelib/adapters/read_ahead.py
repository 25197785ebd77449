"""An object read as ranges, a few of them on their way before they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

MIB = 1 << 20
CHUNK_BYTES = MIB
RANGE_BYTES = 8 * MIB
RANGES_AHEAD = 3

T = TypeVar("T")


def read_ranges(
    size: int,
    fetch: Callable[[int, int], bytearray],
    *,
    range_bytes: int = RANGE_BYTES,
    begin: int = 0,
) -> Iterator[bytes]:
    """The bytes [begin, size) in chunks of at most 1 MiB; memory is four ranges.

    Args:
        fetch: start, end -> exactly the bytes [start, end); called from several threads.
    """
    for data in fetch_ahead(size, fetch, range_bytes=range_bytes, begin=begin):
        yield from _slices(data)


def fetch_ahead(
    size: int,
    fetch: Callable[[int, int], T],
    *,
    range_bytes: int = RANGE_BYTES,
    begin: int = 0,
    first: Iterable[T] = (),
) -> Iterator[T]:
    """What `fetch` makes of each range, in order.

    Where the iterator is left, what is on its way is waited for by nobody: whichever thread
    collects the garbage drops it, and one that is just being started can join none.

    Args:
        first: of what is before `begin`: given out while the ranges after it are on their way.
    """
    starts = iter(range(begin, size, range_bytes))
    threads = ThreadPoolExecutor(RANGES_AHEAD)

    def ask(start: int) -> Future[T]:
        return threads.submit(fetch, start, min(start + range_bytes, size))

    try:
        waiting = deque(map(ask, islice(starts, RANGES_AHEAD)))
        yield from first
        for start in starts:
            waiting.append(ask(start))
            yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _slices(data: bytearray) -> Iterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(data), CHUNK_BYTES):
        yield bytes(view[start : start + CHUNK_BYTES])
