"""The objects of a recovery point while it is taken: streams of zstd, removed when it fails."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

import zstandard

from chalicelib.errors import LeewardError, Refused
from chalicelib.plan.manifest import BEGUN, point_key
from chalicelib.plan.records import StoredObject, canonical_json, format_time
from chalicelib.ports import Clock, ObjectStore, ObjectWriter

LEVEL = 3
LOOK_AGAIN_SECONDS = 0.2


def free_point_id(store: ObjectStore, clock: Clock, ending: str) -> str:
    """Ids have whole seconds, and no two points have the same.

    Of two that ask in one second, by a timer on two hosts, one is first: by `begun.json`, without
    which each would write over what the other stored, and remove it as its own.
    """
    while True:
        now = clock.now()
        point_id = f"{now:%Y%m%dT%H%M%SZ}-{ending}"
        if not any(store.list(f"points/{point_id}/")) and _is_first(store, point_id, now):
            return point_id
        clock.sleep(LOOK_AGAIN_SECONDS)


def _is_first(store: ObjectStore, point_id: str, now: datetime) -> bool:
    note = canonical_json({"begun_at": format_time(now), "writer": secrets.token_hex(8)})
    try:
        store.put(point_key(point_id, BEGUN), note, if_absent=True)
    except Refused as error:
        if error.instance_code != "exists":
            raise
        return False
    return True


class PackedWriter:
    """One zstd frame on its way into a store, with a checksum that `zstd -t` compares."""

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer
        # A thread of its own, as it takes as long as reading and hashing together.
        packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, threads=1)
        self._packer = packer.compressobj()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if packed := self._packer.compress(data):
            self._writer.write(packed)

    def commit(self) -> StoredObject:
        self._writer.write(self._packer.flush())
        return self._writer.commit()


@dataclass
class PointObjects:
    """`with PointObjects(store, id) as objects`: what was stored is removed if the block fails."""

    store: ObjectStore
    point_id: str
    _stored: list[StoredObject] = field(default_factory=list)
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._open.close()
        removed = [item.key for item in self._stored] if kind is not None else []
        # By who may not delete, as the function, it stays, and so when the store went away: what no
        # manifest names is no point, and a point that was entered is one.
        with suppress(LeewardError):
            for key in (*removed, self.key(BEGUN)):
                self.store.delete(key)

    def open(self, name: str) -> ObjectWriter:
        return self._open.enter_context(self.store.open_writer(self.key(name)))

    def open_packed(self, name: str) -> PackedWriter:
        return PackedWriter(self.open(name))

    def commit(self, writer: ObjectWriter | PackedWriter) -> None:
        self._stored.append(writer.commit())

    def put(self, name: str, content: bytes) -> None:
        self._stored.append(self.store.put(self.key(name), content))

    def put_json(self, name: str, value: object) -> None:
        self.put(name, canonical_json(value))

    @property
    def stored(self) -> tuple[StoredObject, ...]:
        return tuple(self._stored)

    def key(self, name: str) -> str:
        return point_key(self.point_id, name)
