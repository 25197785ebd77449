"""Listings page by page: the next page is on its way while one is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Protocol, TypeVar

from chalicelib.adapters.s3.place import Query
from chalicelib.errors import LeewardError, NotReady
from chalicelib.ports.buckets import ObjectRow


class Followed(Protocol):
    @property
    def following(self) -> list[tuple[str, str]] | None: ...


P = TypeVar("P", bound=Followed)


async def pages_of(
    fetch: Callable[[Query], Awaitable[P]],
    query: Query,
    first: Query,
    is_enough: Callable[[P], bool] = lambda page: False,
) -> AsyncGenerator[P, None]:
    """`is_enough`: nothing after this page is wanted, so that none is fetched ahead."""
    coming: asyncio.Future[P] = asyncio.ensure_future(fetch([*query, *first]))
    try:
        while (page := await coming).following is not None and not is_enough(page):
            coming = asyncio.ensure_future(fetch([*query, *page.following]))
            # It is sent now: who uses the page may let nothing else run before it is used up.
            await asyncio.sleep(0)
            yield page
        yield page
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError, LeewardError):
            await coming


def check_order(bucket: str, last: str, rows: Sequence[ObjectRow]) -> str:
    """The last key of a page whose keys all come after `last`, each after the one before it.

    Raises NotReady (code "listing-unordered").
    """
    keys = [last, *(row.key for row in rows)]
    for before, key in pairwise(keys):
        if not before < key:
            raise unordered(bucket, before, key)
    return keys[-1]


def unordered(bucket: str, last: str, key: str) -> NotReady:
    """Two listings that are compared key by key must have one order, or what is there is missed.

    Code points have the order of their UTF-8 bytes, so that Python's comparison serves.
    """
    return NotReady(
        f"expected {bucket} to be listed in byte order, found {key!r} after {last!r}",
        code="listing-unordered",
        hint="This server is not S3 enough: it cannot be synchronised by listings.",
    )
