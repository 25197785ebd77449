"""A base backup from a running server into an object store, in constant memory.

Order: archives, PostgreSQL's manifest, Leeward's manifest, catalogue. A point exists when its
manifest does, so what a crash leaves before that is no point.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import zstandard

from chalicelib.backup.point_objects import PointObjects, free_point_id
from chalicelib.errors import Refused
from chalicelib.plan.records import DatabasePoint, DatabasePointKind, format_lsn
from chalicelib.ports import (
    BaseBackup,
    Catalogue,
    Clock,
    Inventory,
    ObjectStore,
    ObjectWriter,
    ReplicationSource,
    SourceFacts,
)

INCREMENTAL_SINCE = 170000
MANIFEST_NAME = "backup_manifest"


def take_backup(
    source: ReplicationSource,
    store: ObjectStore,
    catalogue: Catalogue,
    *,
    component: str,
    kind: DatabasePointKind,
    clock: Clock,
) -> DatabasePoint:
    """Take one recovery point and enter it into the catalogue.

    An incremental that cannot be had becomes a full one; the point's `note` says why. Pages that
    fail their checksum are named in the point, which is stored and never counts as clean.

    Args:
        store: the component's own objects.
    Raises:
        Refused: code "other-system", when the component's points are of another cluster;
            "other-history", when the server was set back.
        NotReady, Unavailable: as ReplicationSource.
    """
    source.check_ready()
    facts = source.facts()
    inventory = catalogue.inventory()
    points = inventory.points
    require_same_system(points, facts)
    require_same_history(inventory, source, facts)
    parent, manifest, note = None, None, ""
    if kind == "incremental":
        parent, note = choose_parent(points, facts)
    if parent is not None:
        manifest, note = _read_parent_manifest(store, parent)
    if parent is not None and manifest is not None:
        try:
            return _take(source, store, catalogue, _Job(component, facts, clock, parent, manifest))
        except Refused as refused:
            if refused.instance_code != "no-incremental":
                raise
            note = refused.message
    return _take(source, store, catalogue, _Job(component, facts, clock, note=note))


def require_same_system(points: tuple[DatabasePoint, ...], facts: SourceFacts) -> None:
    """Two clusters under one component would overwrite each other's WAL.

    Raises Refused (code "other-system").
    """
    others = {point.system_id for point in points} - {facts.system_id}
    if others:
        raise Refused(
            f"expected the cluster {', '.join(sorted(others))}, found {facts.system_id}",
            code="other-system",
            hint="Give the new cluster a component of its own in the plan, and say since when "
            "this one is retired: docs/operator-role.md.",
        )


def require_same_history(
    inventory: Inventory, source: ReplicationSource, facts: SourceFacts
) -> None:
    """What a server writes after it was set back bears the names of WAL that is stored already.

    Raises Refused (code "other-history").
    """
    ends = [it.end_lsn for it in inventory.wal.segments if it.timeline == facts.timeline]
    if ends and is_set_back(source, facts, max(ends)):
        raise Refused(
            f"expected WAL from {format_lsn(max(ends))} on, the server is at "
            f"{format_lsn(facts.flush_lsn)} of the same timeline: it was set back",
            code="other-history",
            hint="Give the server a component of its own in the plan, and say since when this "
            "one is retired: docs/operator-role.md. What is stored stays good.",
        )


def is_set_back(source: ReplicationSource, facts: SourceFacts, end_lsn: int) -> bool:
    """Whether a server has less WAL of its timeline than is stored of it. It is asked once more:
    since `facts` were read, another worker may have stored what it wrote meanwhile."""
    return facts.flush_lsn < end_lsn and source.facts().flush_lsn < end_lsn


def choose_parent(
    points: tuple[DatabasePoint, ...], facts: SourceFacts
) -> tuple[DatabasePoint | None, str]:
    """The newest point that an incremental can build on, or why there is none.

    Source: PostgreSQL 17, "Making an Incremental Backup".
    """
    if facts.server_version < INCREMENTAL_SINCE:
        return None, f"full: postgresql {facts.server_version // 10000} has no incrementals"
    if not facts.summarizes_wal:
        return None, "full: summarize_wal is off on the server"
    fitting = [
        point
        for point in points
        if not point.checksum_failures
        and point.timeline == facts.timeline
        and point.server_version // 10000 == facts.server_version // 10000
    ]
    if not fitting:
        return None, "full: there is no clean point of this timeline to build on"
    return max(fitting, key=lambda point: point.end_lsn), ""


@dataclass(frozen=True)
class _Job:
    component: str
    facts: SourceFacts
    clock: Clock
    parent: DatabasePoint | None = None
    parent_manifest: bytes | None = None
    note: str = ""

    @property
    def kind(self) -> DatabasePointKind:
        return "full" if self.parent is None else "incremental"


def _take(
    source: ReplicationSource, store: ObjectStore, catalogue: Catalogue, job: _Job
) -> DatabasePoint:
    taken_at = job.clock.now()
    point_id = free_point_id(store, job.clock, "full" if job.kind == "full" else "incr")
    with PointObjects(store, point_id) as objects, _PointSink(objects) as sink:
        backup = source.base_backup(
            sink, label=f"leeward {point_id}", parent_manifest=job.parent_manifest
        )
        finished_at = job.clock.now()
        sink.finish()
    point = DatabasePoint(
        id=point_id,
        component=job.component,
        kind=job.kind,
        taken_at=taken_at,
        finished_at=finished_at,
        objects=objects.stored,
        source_bytes=_count_bytes(bytes(sink.manifest)),
        encryption=store.encryption,
        parent_id=job.parent.id if job.parent else None,
        note=job.note,
        **_facts_of(job.facts, backup),
    )
    catalogue.add(point)
    return point


def _facts_of(facts: SourceFacts, backup: BaseBackup) -> dict[str, Any]:
    return {
        "system_id": facts.system_id,
        "server_version": facts.server_version,
        "segment_bytes": facts.segment_bytes,
        "timeline": backup.timeline,
        "start_lsn": backup.start_lsn,
        "end_lsn": backup.end_lsn,
        "checksum_failures": backup.checksum_failures,
    }


def _read_parent_manifest(store: ObjectStore, parent: DatabasePoint) -> tuple[bytes | None, str]:
    wanted = next(item for item in parent.objects if item.key.endswith(f"/{MANIFEST_NAME}"))
    content = store.get(wanted.key)
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        return None, f"full: the manifest of {parent.id} is not what was stored"
    return content, ""


def _count_bytes(manifest: bytes) -> int:
    return sum(int(file["Size"]) for file in json.loads(manifest)["Files"])


@dataclass
class _PointSink:
    """The port BackupSink on the objects of a point: each archive becomes <name>.zst, one after the
    other, of which each lets go of its buffers before the next; there may be many tablespaces."""

    objects: PointObjects
    manifest: bytearray = field(default_factory=bytearray)
    _open: ExitStack = field(default_factory=ExitStack)
    _writer: ObjectWriter | None = None
    _compressor: Any = None

    def __enter__(self) -> _PointSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def begin_archive(self, name: str, *, compressed: bool) -> None:
        self._end_archive()
        opened = self.objects.store.open_writer(self.objects.key(f"{name}.zst"))
        self._writer = self._open.enter_context(opened)
        self._compressor = None if compressed else zstandard.ZstdCompressor(level=1).compressobj()

    def write(self, data: memoryview) -> None:
        assert self._writer is not None, "the server begins an archive before its data"
        self._writer.write(self._compressor.compress(data) if self._compressor else data)

    def write_manifest(self, data: memoryview) -> None:
        self.manifest += data

    def finish(self) -> None:
        self._end_archive()
        self.objects.put(MANIFEST_NAME, bytes(self.manifest))

    def _end_archive(self) -> None:
        if self._writer is None:
            return
        if self._compressor is not None:
            self._writer.write(self._compressor.flush())
        self.objects.commit(self._writer)
        self._writer = None
        self._open.close()
