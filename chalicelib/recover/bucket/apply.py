"""Takes a bucket back: server-side copies and delete markers, many on their way at once.

Everything is decided from versions, of the survey or as they are now, so that a run that was killed
is finished by running it again, and what was done is not done twice. What was written since the
survey is no reason to list again: the proof lists, and is red. One key that fails is named and does
not stop the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from chalicelib.errors import LeewardError
from chalicelib.ports.bucket_rules import BucketControl
from chalicelib.ports.buckets import Bucket, Deleted, VersionRow
from chalicelib.recover.bucket.flight import IN_FLIGHT, Flight
from chalicelib.recover.bucket.history import KeyHistory, for_each_shard
from chalicelib.recover.bucket.outcome import Copies, OutcomeMeter, UndoOutcome
from chalicelib.recover.bucket.same_content import (
    Place,
    heads_of,
    same_bytes,
    same_description,
    same_tags,
)
from chalicelib.recover.bucket.survey import Tell, UndoPlan
from chalicelib.recover.bucket.undo import KeyUndo, UndoRules, decide_key

BATCH = 250
"""Keys of one DeleteObjects request: it takes up to 1,000, one after the other, so that four
requests side by side are done before one of a thousand."""
PAGE = 1000
"""Rows of one page, at most. Source: S3 API reference."""
Log = Callable[[KeyUndo], None]
"""Told of each key just before it is changed."""


async def apply_undo(
    bucket: Bucket,
    rules: UndoRules,
    *,
    prefix: str = "",
    plan: UndoPlan | None = None,
    thaw: BucketControl | None = None,
    in_flight: int = IN_FLIGHT,
    tell: Tell | None = None,
    log: Log | None = None,
) -> UndoOutcome:
    """Decide on each key below the prefix and do it.

    Args:
        plan: of the same bucket, rules and prefix; what it holds is done without listing again.
        thaw: is asked to restore what lies in an archive, which a later run copies; without it
            such keys are left and counted.
        tell: called with the number of keys that need nothing more.

    Raises:
        CheckFailed: code "too-many-failures"; what was done stays, and running again goes on.
        NotReady, Unavailable: the bucket cannot be listed, or no request can succeed.
    """
    meter = OutcomeMeter(tell)
    async with Flight(in_flight) as flight:
        run = _Run(bucket, rules, flight, meter, thaw, log)
        if plan is not None and plan.held is not None:
            await run.take_held(plan.held, plan.counts["leave"])
        else:
            await for_each_shard(bucket, prefix, rules.to_at, run.take_all)
        await run.flush()
    return meter.outcome()


class _Run:
    def __init__(
        self,
        bucket: Bucket,
        rules: UndoRules,
        flight: Flight,
        meter: OutcomeMeter,
        thaw: BucketControl | None,
        log: Log | None,
    ) -> None:
        self._bucket, self._rules, self._log = bucket, rules, log
        self._flight, self._meter = flight, meter
        self._copies = Copies(bucket.name, bucket, meter, thaw)
        self._mark: list[KeyUndo] = []
        self._unmark: list[KeyUndo] = []
        self._unmark_entries = 0

    async def take_held(self, undos: Sequence[KeyUndo], left: int) -> None:
        """The batches first: each is a long request, copies are many short ones."""
        if left:
            self._meter.done("left", keys=left)
        for undo in undos:
            if undo.action == "remove-markers":
                await self._take_unmarks([undo])
            elif undo.action == "put-marker":
                await self._take_mark(undo)
        await self._send_marks()
        await self._send_unmarks()
        for undo in undos:
            if undo.action not in ("remove-markers", "put-marker"):
                await self._take(undo)

    async def take_all(self, histories: AsyncIterator[KeyHistory]) -> None:
        """Of one stream of the listing."""
        held = _HeldBack()
        async for history in histories:
            await self._take_unmarks(held.pass_by(history.entries))
            undo = decide_key(history, self._rules)
            if undo.action == "remove-markers":
                held.add(undo)
            else:
                await self._take(undo)
        await self._take_unmarks(held.all())

    async def _take(self, undo: KeyUndo) -> None:
        if undo.action in ("leave", "unknown"):
            self._meter.done("left" if undo.action == "leave" else "unknown")
        elif undo.action == "put-marker":
            await self._take_mark(undo)
        elif undo.action == "compare":
            await self._flight.start(self._compare(undo))
        else:
            await self._flight.start(self._copy(undo))

    async def flush(self) -> None:
        """Send what waits for a full batch, and last what the copies found in archives."""
        await self._send_marks()
        await self._send_unmarks()
        await self._flight.land()
        await self._copies.flush()

    async def _take_mark(self, undo: KeyUndo) -> None:
        self._mark.append(undo)
        if len(self._mark) >= BATCH:
            await self._send_marks()

    async def _send_marks(self) -> None:
        waiting, self._mark = self._mark, []
        if waiting:
            await self._flight.start(self._put_markers(waiting))

    async def _take_unmarks(self, undos: Sequence[KeyUndo]) -> None:
        for undo in undos:
            self._unmark.append(undo)
            self._unmark_entries += len(undo.history.markers)
            if self._unmark_entries >= BATCH:
                await self._send_unmarks()

    async def _send_unmarks(self) -> None:
        waiting, self._unmark, self._unmark_entries = self._unmark, [], 0
        if waiting:
            await self._flight.start(self._remove_markers(waiting))

    async def _put_markers(self, undos: Sequence[KeyUndo]) -> None:
        self._say(undos)
        try:
            deleted = await self._bucket.put_markers([undo.key for undo in undos])
        except LeewardError as error:
            self._failed(undos, error)
            return
        self._note(undos, deleted, "marked")

    async def _remove_markers(self, undos: Sequence[KeyUndo]) -> None:
        """The oldest marker first: a key is deleted until its last marker goes."""
        self._say(undos)
        pairs = [(undo.key, one) for undo in undos for one in reversed(undo.history.markers)]
        try:
            deleted = await self._bucket.delete(pairs)
        except LeewardError as error:
            self._failed(undos, error)
            return
        self._note(undos, deleted, "unmarked")

    async def _compare(self, undo: KeyUndo) -> None:
        """An object of the same size may be the same: a copy that an earlier run made, say."""
        wanted, live = _object(undo.history.wanted), _object(undo.history.live)
        places = (
            Place(self._bucket, undo.key, wanted.version_id),
            Place(self._bucket, undo.key, live.version_id),
        )
        try:
            then, now = await heads_of(*places)
            same = same_bytes(then, now) and same_description(then, now)
            if same and then.tag_count:
                same = await same_tags(*places)
        except LeewardError as error:
            self._failed([undo], error)
            return
        if same:
            self._meter.done("same")
        else:
            await self._copy(undo)

    async def _copy(self, undo: KeyUndo) -> None:
        self._say([undo])
        await self._copies.copy(_object(undo.history.wanted))

    def _say(self, undos: Sequence[KeyUndo]) -> None:
        if self._log is not None:
            for undo in undos:
                self._log(undo)

    def _failed(self, undos: Sequence[KeyUndo], error: LeewardError) -> None:
        for undo in undos:
            self._meter.failed(undo.key, error)

    def _note(self, undos: Sequence[KeyUndo], deleted: Deleted, what: str) -> None:
        refused = {failure.key: failure for failure in deleted.failed}
        for undo in undos:
            failure = refused.get(undo.key)
            if failure is None:
                self._meter.done(what)
            else:
                self._meter.fail(undo.key, failure.code, failure.message)


class _HeldBack:
    """Keys whose markers are to be removed, held back until their listing cannot need them.

    A page is asked for by the last entry of the one before, and a page ahead. Where that entry is
    a marker which is gone by then, a server may answer with an empty page (moto does), and the
    rest of the bucket would be passed over. An entry is safe when a whole page came after it.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._fresh: list[KeyUndo] = []
        self._aging: list[KeyUndo] = []

    def add(self, undo: KeyUndo) -> None:
        self._fresh.append(undo)

    def pass_by(self, rows: int) -> list[KeyUndo]:
        """Those that are safe after so many rows more."""
        self._rows += rows
        if self._rows < PAGE:
            return []
        self._rows = 0
        ripe, self._aging, self._fresh = self._aging, self._fresh, []
        return ripe

    def all(self) -> list[KeyUndo]:
        """When the listing has ended."""
        return [*self._aging, *self._fresh]


def _object(row: VersionRow | None) -> VersionRow:
    assert row is not None, "only keys that had an object are copied"
    return row
