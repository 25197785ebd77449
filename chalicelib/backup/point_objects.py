"""The objects of a recovery point while it is taken: streams of zstd, removed when it fails."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

import zstandard

from chalicelib.plan.records import StoredObject, canonical_json
from chalicelib.ports import Clock, ObjectStore, ObjectWriter

LEVEL = 3
LOOK_AGAIN_SECONDS = 0.2


def free_point_id(store: ObjectStore, clock: Clock, ending: str) -> str:
    """Ids have whole seconds and are never used twice, not even after a failed backup."""
    while True:
        point_id = f"{clock.now():%Y%m%dT%H%M%SZ}-{ending}"
        if not any(store.list(f"points/{point_id}/")):
            return point_id
        clock.sleep(LOOK_AGAIN_SECONDS)


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
        if kind is not None:
            for item in self._stored:
                self.store.delete(item.key)

    def open(self, name: str) -> ObjectWriter:
        return self._open.enter_context(self.store.open_writer(self._key(name)))

    def open_packed(self, name: str) -> PackedWriter:
        return PackedWriter(self.open(name))

    def commit(self, writer: ObjectWriter | PackedWriter) -> None:
        self._stored.append(writer.commit())

    def put_json(self, name: str, value: object) -> None:
        self._stored.append(self.store.put(self._key(name), canonical_json(value)))

    @property
    def stored(self) -> tuple[StoredObject, ...]:
        return tuple(self._stored)

    def _key(self, name: str) -> str:
        return f"points/{self.point_id}/{name}"
