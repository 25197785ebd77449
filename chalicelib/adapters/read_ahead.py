"""An object read as ranges, a few of them on their way before they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

MIB = 1 << 20
CHUNK_BYTES = MIB
RANGE_BYTES = 8 * MIB
RANGES_AHEAD = 3


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
    with ThreadPoolExecutor(RANGES_AHEAD) as threads:
        waiting: deque[Future[bytearray]] = deque()
        for start in range(begin, size, range_bytes):
            waiting.append(threads.submit(fetch, start, min(start + range_bytes, size)))
            if len(waiting) > RANGES_AHEAD:
                yield from _slices(waiting.popleft().result())
        while waiting:
            yield from _slices(waiting.popleft().result())


def _slices(data: bytearray) -> Iterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(data), CHUNK_BYTES):
        yield bytes(view[start : start + CHUNK_BYTES])
