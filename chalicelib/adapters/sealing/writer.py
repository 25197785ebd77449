"""Objects sealed while they are written, by one process or by several in turn."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, Self

from chalicelib.adapters.sealing.envelope import Sealer
from chalicelib.plan.records import StoredObject
from chalicelib.ports import LastingWriter, ObjectWriter
from chalicelib.ports.lasting import RunningDigest, pack, unpack


class SealingWriter:
    def __init__(self, key: str, writer: ObjectWriter, sealer: Sealer) -> None:
        self._key, self._writer, self._sealer = key, writer, sealer
        self._digest: Any = hashlib.sha256()
        self._size_bytes = 0
        self._begin()

    def _begin(self) -> None:
        self._writer.write(self._sealer.header)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._digest.update(data)
        self._size_bytes += len(data)
        for frame in self._sealer.update(data):
            self._writer.write(frame)

    def commit(self) -> StoredObject:
        self._writer.write(self._sealer.finish())
        self._writer.commit()
        return StoredObject(self._key, self._size_bytes, self._digest.hexdigest())


@dataclass(frozen=True)
class Checkpoint:
    """`held`: content that is not sealed yet; `inner`: how the store goes on."""

    key_id: str
    salt: bytes
    frames: int
    size_bytes: int
    sha256: str
    held: bytes
    inner: bytes

    @classmethod
    def read(cls, checkpoint: bytes) -> Self:
        facts, rest = unpack(checkpoint)
        return cls(
            facts["key_id"], b64decode(facts["salt"]), facts["frames"], facts["size"],
            facts["sha256"], rest[: facts["held"]], rest[facts["held"] :],
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        facts = {
            "key_id": self.key_id,
            "salt": b64encode(self.salt).decode(),
            "frames": self.frames,
            "size": self.size_bytes,
            "sha256": self.sha256,
            "held": len(self.held),
        }
        return pack(facts, self.held + self.inner)


class LastingSealingWriter(SealingWriter):
    """Goes on with `begun`, under the same salt and with the number of the next frame."""

    def __init__(
        self, key: str, writer: LastingWriter, sealer: Sealer, key_id: str, begun: Checkpoint | None
    ) -> None:
        self._lasting, self._key_id, self._begun = writer, key_id, begun
        super().__init__(key, writer, sealer)
        self._digest = RunningDigest(state=begun.sha256 if begun else "")
        self._size_bytes = begun.size_bytes if begun else 0

    def _begin(self) -> None:
        if self._begun is None:
            super()._begin()
        else:
            self._sealer.resume(self._begun.frames, self._begun.held)

    def checkpoint(self) -> bytes:
        frames, held = self._sealer.held()
        return Checkpoint(
            self._key_id, self._sealer.salt, frames, self._size_bytes, self._digest.state(),
            held, self._lasting.checkpoint(),
        ).to_bytes()  # fmt: skip
