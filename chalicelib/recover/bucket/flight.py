"""Many requests on their way at once, never more than a number of them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from chalicelib.errors import LeewardError

IN_FLIGHT = 512
"""At 80 ms a copy 6,400 a second: S3 gives 3,500 to each prefix, and says when it is too much."""


class Flight:
    """`start` waits for a free place; leaving the block waits for all.

    The first error that a job raises ends the others and comes out of the block as it is.
    """

    def __init__(self, limit: int = IN_FLIGHT) -> None:
        self._limit = limit
        self._places = asyncio.Semaphore(limit)
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as found:
            ours, others = found.split(LeewardError)
            if ours is None or others is not None:
                raise
            raise _first(ours) from None

    async def start(self, job: Coroutine[Any, Any, None]) -> None:
        try:
            await self._places.acquire()
        except BaseException:
            job.close()
            raise
        task = self._group.create_task(job)
        task.add_done_callback(lambda _: self._places.release())

    async def land(self) -> None:
        """Wait until nothing is on its way."""
        for _ in range(self._limit):
            await self._places.acquire()
        for _ in range(self._limit):
            self._places.release()


def _first(group: BaseExceptionGroup[LeewardError]) -> LeewardError:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
