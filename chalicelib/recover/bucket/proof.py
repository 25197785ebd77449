"""Proves that readers of a bucket get what they got at a moment, from its versions alone.

The proof shares no decision with the undo: it reads all versions again, from the first key to the
last in ranges that meet, whatever folders there are; takes for each key the entry of the moment and
the entry of now, and compares the two: the same version, or the same size and the same etag or
checksum; where the server has neither, both are read. It is proven only when
it ran to the end, every key agrees, no history has a gap, and the versions of the moment are those
that were there before the undo.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from chalicelib.errors import LeewardError
from chalicelib.plan.records import Record
from chalicelib.ports.buckets import Bucket, ObjectRow, VersionRow
from chalicelib.recover.bucket.flight import IN_FLIGHT, Flight
from chalicelib.recover.bucket.history import KeyHistory, for_each_range, read_histories
from chalicelib.recover.bucket.outcome import FATAL
from chalicelib.recover.bucket.same_content import Place, heads_of, read_and_compare, same_bytes
from chalicelib.recover.bucket.survey import StateMeter, StateSum, Tell
from chalicelib.recover.bucket.undo import UndoRules

NAMED = 100
"""Differences that are named; all are counted."""
READ_LIMIT_BYTES = 10**9
"""Read at most, unless told otherwise: what is read leaves AWS, which costs, and takes its time."""


@dataclass(frozen=True)
class Difference(Record):
    """One key that is not as it was, or may not be.

    `why`: missing, not-then, other-content, history-gap, not-compared (only reading could tell, and
    the limit was reached), or the code of the error that kept it from being compared.
    """

    key: str
    why: str


@dataclass(frozen=True)
class UndoProof(Record):
    """`keys` were looked at, `objects` of them existed then; `read`: compared by reading both.

    `complete`: the versions of the moment are still those that were surveyed.
    """

    keys: int
    objects: int
    differing: int
    differences: tuple[Difference, ...]
    read: int
    complete: bool

    @property
    def ok(self) -> bool:
        return self.complete and self.differing == 0


async def verify_undo(
    bucket: Bucket,
    rules: UndoRules,
    expected: StateSum,
    *,
    prefix: str = "",
    cuts: tuple[str, ...] = (),
    read_limit_bytes: int = READ_LIMIT_BYTES,
    in_flight: int = IN_FLIGHT,
    tell: Tell | None = None,
) -> UndoProof:
    """Compare each key below the prefix with what it was at `rules.to_at`, but those aside.

    Args:
        expected: the state of the moment as it was surveyed before the undo.
        cuts: keys in order; what lies between two is listed beside the others.
        read_limit_bytes: of both objects, where nothing else can tell whether they are the same.
    """
    state = StateMeter()
    async with Flight(in_flight) as flight:
        proof = _Proof(flight, read_limit_bytes, tell)

        async def look(histories: AsyncIterator[KeyHistory]) -> None:
            async for history in histories:
                state.add(history)
                if history.key not in rules.aside:
                    await _look(proof, bucket, history)

        await for_each_range(bucket, prefix, rules.to_at, cuts, look)
    return proof.end(state.sum() == expected)


async def verify_copy(
    bucket: Bucket,
    target: Bucket,
    rules: UndoRules,
    expected: StateSum,
    *,
    prefix: str = "",
    read_limit_bytes: int = READ_LIMIT_BYTES,
    in_flight: int = IN_FLIGHT,
    tell: Tell | None = None,
) -> UndoProof:
    """Compare each object of the moment with the one in `target`, which must hold no other."""
    state = StateMeter()
    async with Flight(in_flight) as flight:
        proof = _Proof(flight, read_limit_bytes, tell)
        histories = _counted(read_histories(bucket, prefix, rules.to_at), state)
        async for key, history, row in beside(histories, target.list(prefix)):
            if key in rules.aside:
                continue
            wanted = history.wanted if history else None
            if history and history.gaps:
                proof.differ(key, "history-gap")
            elif wanted is None or row is None:
                proof.differ(key, "missing" if row is None else "not-then")
            else:
                places = (Place(bucket, key, wanted.version_id), Place(target, key))
                await proof.compare(places, wanted, row)
    return proof.end(state.sum() == expected)


async def beside(
    histories: AsyncIterator[KeyHistory], rows: AsyncIterator[ObjectRow]
) -> AsyncIterator[tuple[str, KeyHistory | None, ObjectRow | None]]:
    """(key, what stood there, what is there) in the order of the keys; never neither.

    A key without an object then is told only when one is there now, or its history has a gap.
    """
    row = await anext(rows, None)
    async for history in histories:
        while row is not None and row.key < history.key:
            yield row.key, None, row
            row = await anext(rows, None)
        if row is not None and row.key == history.key:
            yield row.key, history, row
            row = await anext(rows, None)
        elif history.wanted is not None or history.gaps:
            yield history.key, history, None
    while row is not None:
        yield row.key, None, row
        row = await anext(rows, None)


async def _counted(
    histories: AsyncIterator[KeyHistory], state: StateMeter
) -> AsyncIterator[KeyHistory]:
    async for history in histories:
        state.add(history)
        yield history


async def _look(proof: _Proof, bucket: Bucket, history: KeyHistory) -> None:
    wanted, live = history.wanted, history.live
    if history.gaps:
        proof.differ(history.key, "history-gap")
    elif wanted is None and live is None:
        proof.agree(None)
    elif wanted is None or live is None:
        proof.differ(history.key, "missing" if live is None else "not-then")
    elif wanted.version_id == live.version_id:
        proof.agree(wanted)
    else:
        places = (
            Place(bucket, history.key, wanted.version_id),
            Place(bucket, history.key, live.version_id),
        )
        await proof.compare(places, wanted, live)


class _Proof:
    def __init__(self, flight: Flight, read_limit_bytes: int, tell: Tell | None) -> None:
        self._flight, self._tell = flight, tell
        self._readable_bytes = read_limit_bytes
        self._keys = self._objects = self._differing = self._read = 0
        self._named: list[Difference] = []

    def end(self, complete: bool) -> UndoProof:
        named = tuple(sorted(self._named, key=lambda it: it.key))
        return UndoProof(self._keys, self._objects, self._differing, named, self._read, complete)

    def agree(self, wanted: VersionRow | None) -> None:
        self._objects += wanted is not None
        self._count()

    def differ(self, key: str, why: str) -> None:
        self._differing += 1
        if len(self._named) < NAMED:
            self._named.append(Difference(key, why))
        self._count()

    async def compare(
        self, places: tuple[Place, Place], wanted: VersionRow, found: VersionRow | ObjectRow
    ) -> None:
        """By the listing where it tells, else by asking, in its turn."""
        if wanted.size_bytes != found.size_bytes:
            self.differ(wanted.key, "other-content")
        elif wanted.etag and wanted.etag == found.etag:
            self.agree(wanted)
        else:
            await self._flight.start(self._ask(places, wanted))

    async def _ask(self, places: tuple[Place, Place], wanted: VersionRow) -> None:
        try:
            same = same_bytes(*await heads_of(*places))
            if same is None and not self._may_read(wanted.size_bytes):
                self.differ(wanted.key, "not-compared")
                return
            if same is None:
                same = await read_and_compare(*places)
        except LeewardError as error:
            if error.instance_code in FATAL:
                raise
            self.differ(wanted.key, error.instance_code)
            return
        if same:
            self.agree(wanted)
        else:
            self.differ(wanted.key, "other-content")

    def _may_read(self, size_bytes: int) -> bool:
        if 2 * size_bytes > self._readable_bytes:
            return False
        self._readable_bytes -= 2 * size_bytes
        self._read += 1
        return True

    def _count(self) -> None:
        self._keys += 1
        if self._tell is not None:
            self._tell(self._keys)
