"""Two sorted listings read side by side, whatever their length, in constant memory.

A listing of up to SPLIT_AFTER keys is walked alone. What lies beyond is cut at folders found on
the way, and the cuts are walked at once, each of which may be cut again: requests are spent on
parallel listing only where there is something to gain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from chalicelib.backup.bucket.in_parts import Compared, may_be_older
from chalicelib.backup.bucket.replicas import Replica
from chalicelib.backup.bucket.sync_decision import (
    KeyDecision,
    SyncPolicy,
    decide_key,
    needs_memory,
)
from chalicelib.ports.buckets import Bucket, ObjectRow

SPLIT_AFTER = 16_000
CUTS = 32
# Folders that are asked for at one level, one page.
FOLDERS = 1000
# Keys of which more is asked at once.
ASKED_AT_ONCE = 64

Ask = Callable[[], Awaitable[KeyDecision]]
# None: there is nothing to wait for, as with almost every key of most syncs.
Take = Callable[[KeyDecision, ObjectRow | None], Awaitable[None] | None]


@dataclass
class Span:
    """Keys in (after, before); "" is no bound. `before` moves down when the rest is cut off."""

    after: str = ""
    before: str = ""

    def holds(self, key: str) -> bool:
        return not self.before or key < self.before


class Walk:
    """Gives each key's decision to `take`, from several walkers at once.

    `compared`: what the last good sync has compared; this one adds what it lists. `went_back`: keys
    whose object is an older version again (removed_versions.py), which no time of it tells.
    """

    def __init__(
        self,
        source: Bucket,
        replica: Replica,
        policy: SyncPolicy,
        take: Take,
        *,
        compared: Compared | None = None,
        went_back: frozenset[str] = frozenset(),
        split_after: int = SPLIT_AFTER,
    ) -> None:
        self._source, self._replica = source, replica
        self._policy, self._take = policy, take
        self._split_after = split_after
        self._gate = asyncio.Semaphore(policy.walkers)
        self._compared = compared or Compared()
        self._went_back = went_back
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self._walkers = asyncio.TaskGroup()

    async def run(self) -> None:
        """Returns when every key was taken. The first error ends all walkers."""
        try:
            async with self._walkers:
                self._start(Span())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def _start(self, span: Span) -> None:
        self._walkers.create_task(self._walk(span))

    async def _walk(self, span: Span) -> None:
        how = {"start_after": span.after, "end_before": span.before}
        prefix = self._policy.prefix
        async with (
            self._gate,
            aclosing(self._source.pages(prefix, **how)) as sources,
            aclosing(self._replica.pages(prefix, **how)) as targets,
        ):
            await self._merge(span, _Cursor(sources), _Cursor(targets))

    async def _merge(self, span: Span, sources: _Cursor, targets: _Cursor) -> None:
        await _both(sources.turn(), targets.turn())
        split_at, seen = self._split_after, 0
        source, target = _least(sources.row, targets.row)
        while (row := source or target) and span.holds(row.key):
            there = target
            if there is None and self._replica.hides(row.key):
                there = await self._replica.look(row.key)
            if (taken := self._decide(source, there)) is not None:
                await taken
            if source and not sources.step():
                await sources.turn()
            if target and not targets.step():
                await targets.turn()
            seen += 1
            if seen == split_at and self._replica.ranged:
                split_at *= 2
                await self._split(span, row.key)
            source, target = _least(sources.row, targets.row)

    def _decide(self, source: ObjectRow | None, target: ObjectRow | None) -> Awaitable[None] | None:
        decision = decide_key(source, target, self._policy)
        if target and source and source.key in self._went_back and decision.reason != "same-etag":
            decision = decision._replace(action="copy", reason="went-back")
        if source and decision.reason == "overwritten":
            return self._begin_asking(source, partial(self._look_again, source))
        if source and needs_memory(source, target):
            self._compared.add(source)
            if target and decision.reason == "copied-later" and not self._compared.knows(source):
                ask = partial(self._ask_versions, decision, source, target)
                return self._begin_asking(source, ask)
        return self._take(decision, source)

    async def _begin_asking(self, source: ObjectRow, ask: Ask) -> None:
        await self._asking.acquire()
        self._walkers.create_task(self._ask(source, ask))

    async def _ask(self, source: ObjectRow, ask: Ask) -> None:
        try:
            decision = await ask()
        finally:
            self._asking.release()
        if (taken := self._take(decision, source)) is not None:
            await taken

    async def _ask_versions(
        self, decision: KeyDecision, source: ObjectRow, target: ObjectRow
    ) -> KeyDecision:
        if await may_be_older(self._source, source, target):
            return decision._replace(action="copy", reason="may-be-older")
        return decision

    async def _look_again(self, source: ObjectRow) -> KeyDecision:
        """What an event is bringing right now may get its note a moment after its last byte."""
        return decide_key(source, await self._replica.look(source.key), self._policy)

    async def _split(self, span: Span, key: str) -> None:
        """A cut itself belongs to the span before it: listings begin after a key."""
        cuts = [cut for cut in await self._find_cuts(key) if span.holds(cut)]
        if not cuts:
            return
        ends = [*(f"{cut}\0" for cut in cuts[1:]), span.before]
        span.before = f"{cuts[0]}\0"
        for cut, end in zip(cuts, ends, strict=True):
            self._start(Span(cut, end))

    async def _find_cuts(self, key: str) -> list[str]:
        """Folders after `key`, in order: of the top level first, then of those it lies in."""
        found: set[str] = set()
        level = self._policy.prefix
        while len(found) < CUTS:
            async with aclosing(self._source.prefixes(level, start_after=key)) as folders:
                async for folder in folders:
                    found.add(folder)
                    if len(found) >= FOLDERS:
                        break
            folder, mark, _ = key[len(level) :].partition("/")
            if not mark:
                break
            level += folder + mark
        cuts = sorted(found)
        return cuts[:: max(1, len(cuts) // CUTS)]


class _Cursor:
    """The next row of a listing, None at its end. `turn` first."""

    def __init__(self, pages: AsyncIterator[Sequence[ObjectRow]]) -> None:
        self._pages = pages
        self._rows: Iterator[ObjectRow] = iter(())
        self.row: ObjectRow | None = None

    def step(self) -> bool:
        """To the next row of this page; False behind its last one."""
        self.row = next(self._rows, None)
        return self.row is not None

    async def turn(self) -> None:
        """To the first row of the next page, None when there is no other page."""
        while (rows := await anext(self._pages, None)) is not None:
            self._rows = iter(rows)
            if self.step():
                return
        self.row = None


async def _both(*first: Awaitable[None]) -> None:
    """Ends when both have, also when one failed: a listing at work cannot be closed."""
    for found in await asyncio.gather(*first, return_exceptions=True):
        if isinstance(found, BaseException):
            raise found


def _least(
    one: ObjectRow | None, other: ObjectRow | None
) -> tuple[ObjectRow | None, ObjectRow | None]:
    """Those of the next key, which one of them may lack.

    Code points have the order of their UTF-8 bytes.
    """
    if one is None or other is None or one.key == other.key:
        return one, other
    return (one, None) if one.key < other.key else (None, other)
