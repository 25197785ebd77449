"""Copies in parts that take longer than one process may live: how far each is, kept in notes.

The parts lie with the target as an unfinished upload; the note names them. It is written after S3
confirmed what it tells, so that a process which dies costs the parts since the last note, and it is
of one version of the source: when that is another by now, the upload is aborted and begun again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from chalicelib.errors import LeewardError
from chalicelib.plan.record import format_time, parse_time
from chalicelib.ports import Clock, ObjectStore

SAVE_EVERY = timedelta(minutes=2)
# As long as other unfinished uploads are: see backup/long_copies.py.
KEPT = timedelta(days=7)
VERSION = 1


@dataclass
class Upload:
    """One copy on its way. `of`: what tells one version of the source, and how it is cut, from
    another. `parts`: number -> what S3 said of it."""

    key: str
    upload_id: str
    of: Mapping[str, str | int]
    begun_at: datetime
    noted_at: datetime
    parts: dict[int, dict[str, str]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        at = {"begun_at": format_time(self.begun_at), "noted_at": format_time(self.noted_at)}
        return json.dumps({"format": VERSION, **asdict(self), **at}).encode()

    @classmethod
    def from_bytes(cls, note: bytes) -> Upload:
        found = json.loads(note)
        return cls(
            key=found["key"],
            upload_id=found["upload_id"],
            of=found["of"],
            begun_at=parse_time(found["begun_at"]),
            noted_at=parse_time(found["noted_at"]),
            parts={int(number): part for number, part in found["parts"].items()},
        )


class CopyTurns:
    """The notes of copies into one bucket.

    Args:
        notes: a store of Leeward's own.
        bucket: the target's name.
        until: aware UTC; no part is begun after it.
    """

    def __init__(
        self,
        notes: ObjectStore,
        bucket: str,
        clock: Clock,
        until: datetime,
        *,
        save_every: timedelta = SAVE_EVERY,
    ) -> None:
        self._notes, self._clock, self._until = notes, clock, until
        # No location has such a name: their notes lie beside these.
        self._folder = f"copying/bucket={bucket}/"
        self._save_every = save_every
        self._saving = asyncio.Lock()

    @property
    def over(self) -> bool:
        return self._clock.now() >= self._until

    def begin(self, key: str, upload_id: str, of: Mapping[str, str | int]) -> Upload:
        now = self._clock.now()
        return Upload(key, upload_id, of, now, now)

    async def find(self, key: str) -> Upload | None:
        return await asyncio.to_thread(self._read, self._name(key))

    async def save_now_and_then(self, upload: Upload) -> None:
        if self._clock.now() - upload.noted_at >= self._save_every:
            await self.save(upload)

    async def save(self, upload: Upload) -> None:
        """One at a time: an older note never follows a newer one."""
        async with self._saving:
            upload.noted_at = self._clock.now()
            note = upload.to_bytes()
            await asyncio.to_thread(self._notes.put, self._name(upload.key), note)

    async def forget(self, upload: Upload) -> None:
        """The note of another upload of the same key stays: somebody began it meanwhile."""
        known = await self.find(upload.key)
        if known is not None and known.upload_id == upload.upload_id:
            await asyncio.to_thread(self._notes.delete, self._name(upload.key))

    async def old(self, kept: timedelta = KEPT) -> list[Upload]:
        """Those that nobody went on with."""
        before = self._clock.now() - kept
        names = await asyncio.to_thread(lambda: [it.key for it in self._notes.list(self._folder)])
        found = [await asyncio.to_thread(self._read, name) for name in names]
        return [it for it in found if it is not None and it.noted_at <= before]

    def _name(self, key: str) -> str:
        return self._folder + hashlib.sha256(key.encode()).hexdigest()

    def _read(self, name: str) -> Upload | None:
        try:
            return Upload.from_bytes(self._notes.get(name))
        except LeewardError as error:
            if error.instance_code != "object-missing":
                raise
            return None
