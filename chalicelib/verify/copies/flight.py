"""Work on many objects, a few at a time, that ends when its time is over even if a part hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import TypeVar

from chalicelib.errors import LeewardError
from chalicelib.ports import Clock

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class TimeLimit:
    """`over` is set when nobody waits any more: work that is still running stops at once."""

    clock: Clock
    until: datetime | None = None
    over: threading.Event = field(default_factory=threading.Event)

    def left_seconds(self) -> float | None:
        if self.until is None:
            return None
        return max(0.0, (self.until - self.clock.now()).total_seconds())

    @property
    def passed(self) -> bool:
        return self.until is not None and self.left_seconds() == 0.0


def in_flight(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    threads: int,
    limit: TimeLimit,
    is_heavy: Callable[[Item], bool] = lambda item: False,
    heavy_threads: int = 1,
) -> Iterator[tuple[Item, Result | LeewardError | None]]:
    """Each item once, as it ends, with its result, the error it raised, or None: not reached.

    A thread that hangs is left behind; it ends with the time limit of what it waits for.

    Args:
        is_heavy: what has threads of its own, `heavy_threads`.
    """
    pools = ThreadPoolExecutor(threads), ThreadPoolExecutor(heavy_threads)
    most = 2 * (threads + heavy_threads)
    running: dict[Future[Result], Item] = {}
    ended: SimpleQueue[Future[Result]] = SimpleQueue()
    try:
        for item in items:
            if limit.over.is_set() or limit.passed:
                yield item, None
                continue
            begun = pools[is_heavy(item)].submit(work, item)
            running[begun] = item
            begun.add_done_callback(ended.put)
            if len(running) >= most:
                yield from _next_ended(ended, running, limit)
        while running:
            yield from _next_ended(ended, running, limit)
    finally:
        if running:
            limit.over.set()
        for pool in pools:
            pool.shutdown(wait=not limit.over.is_set(), cancel_futures=True)


def _next_ended(
    ended: SimpleQueue[Future[Result]], running: dict[Future[Result], Item], limit: TimeLimit
) -> Iterator[tuple[Item, Result | LeewardError | None]]:
    """One that ended; all that are running, as not reached, when the time is over before."""
    try:
        one = ended.get(timeout=limit.left_seconds())
    except Empty:
        limit.over.set()
        abandoned = list(running.values())
        running.clear()
        yield from ((item, None) for item in abandoned)
        return
    item = running.pop(one)
    try:
        yield item, one.result()
    except LeewardError as error:
        yield item, error
