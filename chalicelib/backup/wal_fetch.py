"""One WAL tick: everything the server has flushed goes into the object store.

Order: object, then the slot. What the slot was told may be removed by the server is durable here;
a crash between the two sends the same bytes again. Memory is one segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import zstandard

from chalicelib.backup.base_backup import (
    is_set_back,
    require_same_history,
    require_same_system,
    take_backup,
)
from chalicelib.errors import Damaged, LeewardError, Refused, Unavailable
from chalicelib.plan.records import (
    DatabasePoint,
    WalFinding,
    WalTick,
    canonical_json,
    digest_of,
    format_lsn,
    format_time,
)
from chalicelib.plan.wal import (
    follow,
    history_key,
    partial_key,
    segment_key,
    segment_name,
    segment_start,
)
from chalicelib.ports import (
    Catalogue,
    Clock,
    ObjectStore,
    ReplicationSource,
    SlotStatus,
    SourceFacts,
    WalStream,
)

ZSTD_LEVEL = 1
ZEROS = bytes(1 << 20)


def slot_name(component: str) -> str:
    """PostgreSQL allows lower case letters, digits and underscores, 63 at most."""
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in component.lower())
    return f"leeward_{plain}"[:63]


@dataclass(frozen=True)
class Progress:
    """Where the stored WAL ends. `partial` is the key of the last, incomplete segment, or "".

    `relations` is the digest of the newest relation map, `tablespaces` those it was made with,
    None when that is not known.
    """

    system_id: str
    timeline: int
    end_lsn: int
    partial: str = ""
    relations: str = ""
    tablespaces: list[int] | None = None


def fetch_wal(
    source: ReplicationSource,
    store: ObjectStore,
    catalogue: Catalogue,
    *,
    component: str,
    clock: Clock,
    slot: str = "",
) -> WalTick:
    """Store the WAL up to a heartbeat written now, and the relation map if it changed.

    A gap, a lost slot or another cluster behind the address is a finding of the tick, not an
    error: what can still be stored is stored, and `repair_gap` is due.

    Raises:
        NotReady, Unavailable: as ReplicationSource and ObjectStore; nothing is lost, try again.
    """
    started_at = clock.now()
    tick = _Tick(source, store, component, slot or slot_name(component))
    progress = _known_progress(catalogue, tick.facts)
    if tick.belongs_to(progress):
        progress = tick.run(progress)
        progress = tick.store_relations(progress, started_at)
        catalogue.note_wal_progress({**_plain(progress), "ticked_at": format_time(started_at)})
    return tick.report(progress, started_at, clock.now())


def repair_gap(
    source: ReplicationSource,
    store: ObjectStore,
    catalogue: Catalogue,
    *,
    component: str,
    clock: Clock,
    slot: str = "",
) -> DatabasePoint:
    """After a gap: a new slot, a full backup, and the WAL that makes it restorable.

    Raises:
        Refused: code "other-system" or "other-history"; two clusters never share a component.
    """
    facts, inventory = source.facts(), catalogue.inventory()
    require_same_system(inventory.points, facts)
    require_same_history(inventory, source, facts)
    name = slot or slot_name(component)
    source.drop_slot(name)
    source.create_slot(name)
    point = take_backup(source, store, catalogue, component=component, kind="full", clock=clock)
    start = segment_start(point.start_lsn, point.segment_bytes)
    catalogue.note_wal_progress(_plain(Progress(point.system_id, point.timeline, start)))
    fetch_wal(source, store, catalogue, component=component, clock=clock, slot=name)
    return point


def _plain(progress: Progress) -> dict[str, Any]:
    return {**progress.__dict__}


def _known_progress(catalogue: Catalogue, facts: SourceFacts) -> Progress | None:
    """What the last tick noted, or what the store itself shows when that note is lost."""
    noted = catalogue.wal_progress()
    if noted:
        return Progress(**{name: noted[name] for name in Progress.__dataclass_fields__})
    inventory = catalogue.inventory()
    # Of the store's youngest timeline, not the server's: that it left it must not go unnoticed.
    timelines = (item.timeline for item in inventory.wal.segments)
    stored = follow(inventory.wal, max(timelines, default=facts.timeline))
    systems = {point.system_id for point in inventory.points}
    if not stored:
        return None
    last = stored[-1]
    system_id = systems.pop() if systems else facts.system_id
    return Progress(system_id, last.timeline, last.end_lsn, last.key if last.partial else "")


class _Tick:
    def __init__(
        self, source: ReplicationSource, store: ObjectStore, component: str, slot: str
    ) -> None:
        self._source, self._store, self._component, self._slot = source, store, component, slot
        self.facts = source.facts()
        self._segment_bytes = self.facts.segment_bytes
        self._status = SlotStatus(slot, None, "", None)
        self._segments = 0
        self._findings: list[WalFinding] = []

    def belongs_to(self, before: Progress | None) -> bool:
        """Whether this server's WAL continues what is stored. A finding when it does not."""
        facts = self.facts
        if before and before.system_id != facts.system_id:
            found = f"expected cluster {before.system_id}, found {facts.system_id}"
            self._find("other-system", found)
        elif before and before.timeline > facts.timeline:
            found = f"expected timeline {before.timeline} or later, found {facts.timeline}"
            self._find("other-history", found)
        elif before and before.timeline == facts.timeline and self._is_set_back(before.end_lsn):
            found = f"expected WAL from {format_lsn(before.end_lsn)} on, the server was set back"
            self._find("other-history", found)
        return not self._findings

    def _is_set_back(self, end_lsn: int) -> bool:
        return is_set_back(self._source, self.facts, end_lsn)

    def run(self, before: Progress | None) -> Progress:
        """Returns the new progress; the old one when there is nothing that can be stored."""
        self._status = self._own_slot(expected=before is not None)
        if self._status.restart_lsn is None or self._status.wal_status == "lost":
            self._find("slot-lost", f"slot {self._slot} has lost its WAL")
            return before or Progress(self.facts.system_id, self.facts.timeline, 0)
        until = self._source.tick()
        reached = self._catch_up(before, until)
        self._status = self._source.slot(self._slot) or self._status
        return reached

    def _own_slot(self, *, expected: bool) -> SlotStatus:
        status = self._source.slot(self._slot)
        if status is not None:
            return status
        if expected:
            self._find("slot-missing", f"slot {self._slot} was gone; made again", gap=False)
        return self._source.create_slot(self._slot)

    def _catch_up(self, before: Progress | None, until: int) -> Progress:
        """From where the store ends; from where the slot begins when the server cannot."""
        kept_from = segment_start(self._status.restart_lsn or 0, self._segment_bytes)
        fresh = Progress(self.facts.system_id, self.facts.timeline, kept_from)
        if before is None or not before.end_lsn:
            return self._reach(fresh, until) or fresh
        reached = self._reach(before, until)
        if reached is None and kept_from > segment_start(before.end_lsn, self._segment_bytes):
            reached = self._reach(fresh, until)
        return reached or before

    def _reach(self, progress: Progress, until: int) -> Progress | None:
        """None, and a finding, when the server no longer has the WAL."""
        start = segment_start(progress.end_lsn, self._segment_bytes)
        try:
            return self._follow_timelines(progress, start, until)
        except Damaged as missing:
            self._find("wal-gap", missing.message)
            return None

    def _follow_timelines(self, progress: Progress, start: int, until: int) -> Progress:
        if progress.timeline < self.facts.timeline:
            self._store_history(self.facts.timeline)
            found = f"timeline {progress.timeline} became {self.facts.timeline}"
            self._find("timeline-switch", found, gap=False)
        while True:
            with self._source.stream_wal(
                self._slot, start_lsn=start, timeline=progress.timeline
            ) as stream:
                progress = self._store_stream(stream, progress, start, until)
                ended = stream.ended
            if ended is None:
                return progress
            start = segment_start(ended.switch_lsn, self._segment_bytes)
            progress = replace(progress, timeline=ended.next_timeline, partial="")

    def _store_stream(
        self, stream: WalStream, progress: Progress, start: int, until: int
    ) -> Progress:
        buffer = bytearray()
        for lsn, data in stream:
            if lsn != start + len(buffer):
                raise Unavailable(
                    f"expected WAL at {format_lsn(start + len(buffer))}, "
                    f"the server sent {format_lsn(lsn)}",
                    code="protocol",
                    hint="Try again.",
                )
            buffer += data
            while len(buffer) >= self._segment_bytes:
                progress = self._store_segment(stream, progress, start, buffer)
                start += self._segment_bytes
                del buffer[: self._segment_bytes]
            if start + len(buffer) >= until:
                break
        return self._store_partial(stream, progress, start, buffer)

    def _store_segment(
        self, stream: WalStream, progress: Progress, start: int, buffer: bytearray
    ) -> Progress:
        timeline = progress.timeline
        segment = memoryview(buffer)[: self._segment_bytes]
        content = _compress(segment, self._segment_bytes)
        segment.release()
        self._store.put(segment_key(timeline, start, self._segment_bytes), content)
        end = start + self._segment_bytes
        stream.confirm(end)
        self._segments += 1
        for partial in self._partials(timeline, start):
            self._store.delete(partial)
        return replace(progress, end_lsn=end, partial="")

    def _store_partial(
        self, stream: WalStream, progress: Progress, start: int, buffer: bytearray
    ) -> Progress:
        end = start + len(buffer)
        if not buffer or end <= progress.end_lsn and progress.partial:
            return progress
        key = partial_key(progress.timeline, end, self._segment_bytes)
        self._store.put(key, _compress(buffer, self._segment_bytes))
        stream.confirm(end)
        if progress.partial and progress.partial != key:
            self._store.delete(progress.partial)
        return replace(progress, end_lsn=end, partial=key)

    def _partials(self, timeline: int, start: int) -> Iterator[str]:
        name = segment_name(timeline, start, self._segment_bytes)
        for row in list(self._store.list(f"wal/{timeline:08X}/{name}.")):
            if row.key.endswith(".partial.zst"):
                yield row.key

    def _store_history(self, timeline: int) -> None:
        try:
            self._store.put(
                history_key(timeline), self._source.timeline_history(timeline), if_absent=True
            )
        except Refused as refused:
            if refused.instance_code != "exists":
                raise

    def store_relations(self, progress: Progress, at: datetime) -> Progress:
        """The relation map, when it is another than the last. Row counts alone are no change."""
        try:
            content = self._source.relations()
        except LeewardError as error:
            self._find("relation-map-failed", error.message, gap=False)
            return progress
        self._compare_tablespaces(progress.tablespaces, content["tablespaces"])
        digest = digest_of(_without_rows(content))
        if digest != progress.relations:
            content = {"taken_at": format_time(at), **content}
            self._store.put(f"relations/{at:%Y%m%dT%H%M%S.%fZ}.json", canonical_json(content))
        return replace(progress, relations=digest, tablespaces=content["tablespaces"])

    def _compare_tablespaces(self, before: list[int] | None, now: list[int]) -> None:
        """Replaying CREATE TABLESPACE needs the source's own folder, which no worker has."""
        created = set(now) - set(now if before is None else before)
        if created:
            found = f"tablespaces {sorted(created)} are in no backup yet"
            self._find("tablespace-created", found)

    def report(
        self, progress: Progress | None, started_at: datetime, ended_at: datetime
    ) -> WalTick:
        return WalTick(
            component=self._component,
            ticked_at=started_at,
            segments=self._segments,
            end_lsn=progress.end_lsn if progress else 0,
            timeline=self.facts.timeline,
            slot_status=self._status.wal_status,
            safe_bytes=self._status.safe_bytes,
            findings=tuple(self._findings),
            seconds=(ended_at - started_at).total_seconds(),
        )

    def _find(self, code: str, found: str, *, gap: bool = True) -> None:
        self._findings.append(WalFinding(code, found, gap))


def _without_rows(content: dict[str, Any]) -> dict[str, Any]:
    databases = {
        name: {number: {**entry, "rows": None} for number, entry in files.items()}
        for name, files in content["databases"].items()
    }
    return {**content, "databases": databases}


def _compress(data: bytearray | memoryview, full_bytes: int) -> bytes:
    """Filled up with zeros to the full length, as PostgreSQL reads a segment: a partial one that
    is renamed to the segment's name can be replayed."""
    stream = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compressobj(
        size=full_bytes
    )
    pieces = [stream.compress(data)]
    for start in range(len(data), full_bytes, len(ZEROS)):
        pieces.append(stream.compress(ZEROS[: full_bytes - start]))
    return b"".join([*pieces, stream.flush()])
