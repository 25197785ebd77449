"""Is the replica of a bucket still what its inventory says? Streamed: memory does not grow with it.

Without reading, two sequences in byte order are laid side by side: the inventory of a recovery
point, and the replica's own listing (replica_rows.py). For reading, a run takes some slots
(slots.py), in turn. What the inventory says nothing of is not judged by it, and is told.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime

from chalicelib.errors import LeewardError
from chalicelib.plan.inventory import InventoryEntry
from chalicelib.plan.records import Record, RecoveryPoint
from chalicelib.ports import Clock
from chalicelib.ports.lasting import RunningDigest
from chalicelib.verify.copies.begun import SPARE_SECONDS, Begun
from chalicelib.verify.copies.check_run import CheckProgress
from chalicelib.verify.copies.findings import DEADLINE, Finding, Unreached, judge_error
from chalicelib.verify.copies.replica_contents import ReplicaContents, ReplicaRow
from chalicelib.verify.copies.replica_rows import NEWER, judge_row, tell_entry
from chalicelib.verify.copies.rotation import CheckPolicy
from chalicelib.verify.copies.slots import Slots, slot_of

READS_AT_ONCE = 32
# A replica that is lost as a whole would otherwise be a finding for each of its objects.
MOST_FINDINGS = 1000
TOLD_EVERY = 100


@dataclass(frozen=True)
class ReplicaResult(Record):
    """`ok`: every object of the inventory is there as it says, and all that was to be read was;
    a replica in which everything is newer than its inventory was not `judged` at all.

    `newer`: objects that came after the inventory, which it says nothing of; `unnamed`: keys in
    another cloud that stand before or right behind those that it names. `unproven`: objects
    that were read whole and of which no digest was recorded to compare them with. `unreached` as
    in CheckResult; `more` findings than those that stand here.
    """

    location: str
    component: str
    point_id: str
    checked_at: datetime
    seconds: float
    objects: int
    total_bytes: int
    read: int
    read_bytes: int
    newer: int
    unproven: int
    needed_bytes: int
    oldest_unread_at: datetime | None
    findings: tuple[Finding, ...]
    more: int
    unreached: tuple[Unreached, ...]
    unnamed: int = 0

    @property
    def judged(self) -> bool:
        """Something was held against the inventory, or there is nothing."""
        return self.objects > 0 or not (self.newer or self.unnamed)

    @property
    def ok(self) -> bool:
        return not self.findings and not self.unreached and self.judged

    @property
    def oldest_unread_seconds(self) -> float | None:
        """As of a CheckResult."""
        if self.oldest_unread_at is None:
            return None
        return (self.checked_at - self.oldest_unread_at).total_seconds()


async def check_replica(
    entries: Iterable[InventoryEntry],
    contents: ReplicaContents,
    slots: Slots,
    policy: CheckPolicy,
    *,
    point: RecoveryPoint,
    location: str,
    component: str,
    clock: Clock,
    until: datetime | None = None,
    tell: Callable[[CheckProgress], None] = lambda _: None,
) -> tuple[ReplicaResult, Slots]:
    """Compare every object of an inventory with the replica, and read the slots that are due.

    Args:
        entries: of `inventory_entries`, in byte order.
        point: whose inventory it is.
        until: nothing is begun after it, and no reading is waited for.
        tell: told now and then; `to_read_bytes` is estimated from the point's size.
    Raises:
        Unavailable, Refused, NotReady: the replica cannot be listed; nothing is known of it.
        Damaged: the inventory cannot be read.
    """
    run = _Run(contents, slots, policy, point, clock, until, tell)
    async with aclosing(contents.rows()) as rows:
        async for entry, found in _side_by_side(entries, rows, run.pass_over):
            await run.compare(entry, found)
    await run.finish()
    return run.result(location, component), run.slots_after()


async def _side_by_side(
    entries: Iterable[InventoryEntry],
    rows: AsyncGenerator[ReplicaRow, None],
    pass_over: Callable[[ReplicaRow], None],
) -> AsyncGenerator[tuple[InventoryEntry, list[ReplicaRow]], None]:
    """Each entry with the versions that the replica has of its key."""
    row = await anext(rows, None)
    for entry in entries:
        while row is not None and row.key < entry.key:
            pass_over(row)
            row = await anext(rows, None)
        found: list[ReplicaRow] = []
        while row is not None and row.key == entry.key:
            found.append(row)
            row = await anext(rows, None)
        yield entry, found
    if row is not None:
        pass_over(row)


@dataclass
class _Run:
    contents: ReplicaContents
    slots: Slots
    policy: CheckPolicy
    point: RecoveryPoint
    clock: Clock
    until: datetime | None
    tell: Callable[[CheckProgress], None]
    reading: dict[asyncio.Task[None], tuple[InventoryEntry, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unreached: list[Unreached] = field(default_factory=list)
    not_whole: set[int] = field(default_factory=set)
    objects: int = 0
    total_bytes: int = 0
    read: int = 0
    read_bytes: int = 0
    newer: int = 0
    unnamed: int = 0
    unproven: int = 0
    oldest: datetime | None = None
    over: bool = False
    received_bytes: int = 0
    begun: dict[str, Begun] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    since: dict[int, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.started_at = self.clock.now()
        self.slots = self.slots.as_of(self.started_at)
        self.due = self.slots.due(self.policy)

    def pass_over(self, row: ReplicaRow) -> None:
        """Of what keeps versions there are those of deleted keys, which nobody names any more."""
        self.unnamed += not self.contents.keeps_versions

    async def compare(self, entry: InventoryEntry, found: list[ReplicaRow]) -> None:
        row = self._same(entry, found or [await self.contents.look(entry.key)])
        if row is None:
            return
        self.objects += 1
        self.total_bytes += entry.size_bytes
        if self.objects % TOLD_EVERY == 1:
            self._receive(0)
        slot = slot_of(entry.key, len(self.slots.read_at))
        if slot in self.due:
            await self._begin(entry, slot)
        else:
            self._note_age(entry, slot)

    def _same(
        self, entry: InventoryEntry, found: list[ReplicaRow] | list[ReplicaRow | None]
    ) -> ReplicaRow | None:
        """The row that the entry speaks of, when it is as it says."""
        rows = [row for row in found if row is not None]
        if self.contents.keeps_versions:
            rows = [row for row in rows if row.version == entry.version]
        if not rows:
            self._find(Finding("missing", entry.key, self.point.id, tell_entry(entry), "none"))
            return None
        versioned, now = self.contents.keeps_versions, self.started_at
        judged = judge_row(entry, rows[0], self.point, versioned=versioned, now=now)
        if isinstance(judged, Finding):
            self._find(judged)
        self.newer += judged == NEWER
        return None if judged else rows[0]

    async def _begin(self, entry: InventoryEntry, slot: int) -> None:
        if len(self.reading) >= READS_AT_ONCE and not self._is_over():
            await self._wait(asyncio.FIRST_COMPLETED)
        if self._is_over():
            self._give_up(entry, slot)
            return
        self.reading[asyncio.create_task(self._read(entry, slot))] = (entry, slot)

    async def _wait(self, until: str) -> None:
        ended, _ = await asyncio.wait(self.reading, timeout=self._left(), return_when=until)
        self.over = not ended
        for task in ended:
            del self.reading[task]
            task.result()

    async def _read(self, entry: InventoryEntry, slot: int) -> None:
        digest, size_bytes = hashlib.sha256(), 0
        try:
            if entry.size_bytes >= self.policy.long_bytes:
                await self._read_long(entry, slot)
                return
            async with aclosing(self.contents.read(entry)) as chunks:
                async for chunk in chunks:
                    digest.update(chunk)
                    size_bytes += len(chunk)
                    self._receive(len(chunk))
        except LeewardError as error:
            self._note_failure(entry, slot, error)
            return
        self._judge(entry, slot, size_bytes, digest.hexdigest())

    async def _read_long(self, entry: InventoryEntry, slot: int) -> None:
        """From where an earlier check put it down; it is put down before the time is over."""
        version = await self.contents.version(entry)
        begun = self.slots.begun.get(entry.key)
        if begun is None or begun.version != version or not begun.readable:
            begun = Begun(version, 0, "", self.started_at)
        digest, position = RunningDigest(state=begun.state), begun.position
        async with aclosing(self.contents.read_on(entry, position, version)) as chunks:
            async for chunk in chunks:
                digest.update(chunk)
                position += len(chunk)
                self._receive(len(chunk))
                left = self._left()
                if left is not None and left <= SPARE_SECONDS and position < entry.size_bytes:
                    self.begun[entry.key] = replace(begun, position=position, state=digest.state())
                    self.not_whole.add(slot)
                    self._note_age(entry, slot)
                    return
        self.ended.add(entry.key)
        self.since[slot] = min(begun.begun_at, self.since.get(slot, self.started_at))
        self._judge(entry, slot, position, digest.hexdigest())

    def _receive(self, size_bytes: int) -> None:
        self.received_bytes += size_bytes
        share = self.point.source_bytes * len(self.due) // len(self.slots.read_at)
        to_read = max(share, self.received_bytes)
        self.tell(CheckProgress(self.objects, self.objects, self.received_bytes, to_read))

    def _judge(self, entry: InventoryEntry, slot: int, size_bytes: int, sha256: str) -> None:
        self.read += 1
        self.read_bytes += size_bytes
        self.unproven += not entry.sha256
        if size_bytes != entry.size_bytes or sha256 != (entry.sha256 or sha256):
            told = f"{size_bytes} bytes, sha-256 {sha256}"
            self._find(Finding("damaged", entry.key, self.point.id, tell_entry(entry), told))
            self.not_whole.add(slot)

    def _note_failure(self, entry: InventoryEntry, slot: int, error: LeewardError) -> None:
        self.not_whole.add(slot)
        self._note_age(entry, slot)
        found = judge_error(entry.key, self.point.id, error)
        if isinstance(found, Unreached):
            self.unreached.append(found)
        else:
            self._find(found)

    def _give_up(self, entry: InventoryEntry, slot: int) -> None:
        if slot not in self.not_whole:
            self.unreached.append(
                Unreached(entry.key, DEADLINE, "reading its slot stopped here; it is read again")
            )
        self.not_whole.add(slot)
        self._note_age(entry, slot)

    def _note_age(self, entry: InventoryEntry, slot: int) -> None:
        at, written_at = self.slots.read_at[slot], min(entry.modified_at, self.started_at)
        known_at = max(at, written_at) if at else written_at
        self.oldest = min(self.oldest or known_at, known_at)

    def _left(self) -> float | None:
        if self.until is None:
            return None
        return max(0.0, (self.until - self.clock.now()).total_seconds())

    def _is_over(self) -> bool:
        return self.over or self._left() == 0.0

    def _find(self, finding: Finding) -> None:
        self.findings.append(finding)

    async def finish(self) -> None:
        if self.reading:
            await self._wait(asyncio.ALL_COMPLETED)
        late = dict(self.reading)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for entry, slot in late.values():
            self._give_up(entry, slot)

    def slots_after(self) -> Slots:
        read_at = list(self.slots.read_at)
        for slot in self.due - self.not_whole:
            read_at[slot] = self.since.get(slot, self.started_at)
        known = {**self.slots.begun, **self.begun}
        return Slots(
            tuple(read_at),
            self.total_bytes // len(read_at),
            {key: it for key, it in known.items() if key not in self.ended},
        )

    def result(self, location: str, component: str) -> ReplicaResult:
        oldest = self.oldest or (self.started_at if self.objects else None)
        age = self.started_at - oldest if oldest else None
        if age is not None and age > self.policy.read_within:
            promised = f"read within {self.policy.read_within}"
            self._find(Finding("unread-too-long", "", self.point.id, promised, f"unread for {age}"))
        return ReplicaResult(
            location=location,
            component=component,
            point_id=self.point.id,
            checked_at=self.started_at,
            seconds=round((self.clock.now() - self.started_at).total_seconds(), 3),
            objects=self.objects,
            total_bytes=self.total_bytes,
            read=self.read,
            read_bytes=self.read_bytes,
            newer=self.newer,
            unproven=self.unproven,
            needed_bytes=-(-self.total_bytes // len(self.slots.read_at)),
            oldest_unread_at=oldest,
            findings=tuple(self.findings[:MOST_FINDINGS]),
            more=max(0, len(self.findings) - MOST_FINDINGS),
            unreached=tuple(self.unreached),
            unnamed=self.unnamed,
        )
