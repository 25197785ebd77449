"""Copies of single objects that take longer than one process may live.

What was sent stays with the target as an unfinished upload; a note says how far it is. The note is
written after the target holds what it tells, so that a process which dies at any point costs the
work since the last note. An object appears in the target when all of it is there and its SHA-256,
continued over all processes, is the one expected.

Unfinished uploads cost as much as objects and nobody sees them: a note that was not touched for
KEPT is given up, and what was sent removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from chalicelib.errors import DigestMismatch, LeewardError, Unavailable
from chalicelib.plan.record import Record, StoredObject
from chalicelib.ports import (
    Clock,
    KeepsUploads,
    LastingWriter,
    ObjectStore,
    ReadsOn,
    RemovesUploads,
)
from chalicelib.ports.lasting import PUT_DOWN as PUT_DOWN
from chalicelib.ports.lasting import RunningDigest, pack, put_down, unpack

NOTES = "copying/"
# Below, an object is copied by one process: 15 minutes at 5 MB/s.
LONG_BYTES = 4 << 30
# A note is some MiB and stays in a locked bucket: 170 of them for 2 TB at 100 MB/s.
SAVE_EVERY = timedelta(minutes=2)
# Google and Azure forget an unfinished upload after a week.
# Source: "Resumable uploads"; "Put Block".
KEPT = timedelta(days=7)
GONE = "upload-gone"


@dataclass(frozen=True)
class Unfinished(Record):
    """One upload as its note tells it. `version`: of the source's object. Without a note neither
    that nor its whole size is known: "" and 0."""

    key: str
    size_bytes: int
    version: str
    sent_bytes: int
    begun_at: datetime
    noted_at: datetime


@dataclass(frozen=True)
class LongPlace:
    """Where notes of one target are kept, and how long a copy may work.

    notes: a store in which the content itself may lie, as a note holds some of it. name: of the
    target, one a place.
    """

    notes: ObjectStore
    name: str
    clock: Clock
    until: datetime | None = None
    long_bytes: int = LONG_BYTES
    save_every: timedelta = SAVE_EVERY

    def note_key(self, key: str) -> str:
        return f"{NOTES}{self.name}/{hashlib.sha256(key.encode()).hexdigest()}"

    @property
    def over(self) -> bool:
        return self.until is not None and self.clock.now() >= self.until


class LongCopy:
    """One object on its way; enter it, `take` what follows `position`, `finish` it.

    Leaving it before `finish` keeps what was sent.
    """

    def __init__(
        self, place: LongPlace, target: KeepsUploads, key: str, size_bytes: int, version: str
    ) -> None:
        self._place, self._target = place, target
        now = place.clock.now()
        self.state = Unfinished(key, size_bytes, version, 0, now, now)
        self._digest = RunningDigest()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        checkpoint = self._known()
        try:
            self._writer: LastingWriter = self._stack.enter_context(
                self._target.open_lasting(self.state.key, checkpoint)
            )
        except LeewardError as error:
            self._forget_if_gone(error)
            raise
        if not checkpoint:
            self.save()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def position(self) -> int:
        return self.state.sent_bytes

    @property
    def sha256(self) -> str:
        """Of what was taken so far."""
        return self._digest.hexdigest()

    def take(self, piece: bytes | bytearray) -> None:
        """Raises Unavailable: "put-down" when the time is over, "upload-gone": begin anew."""
        try:
            self._writer.write(piece)
            self._digest.update(piece)
            self._note_sent(len(piece))
            if self._place.clock.now() - self.state.noted_at >= self._place.save_every:
                self.save()
        except LeewardError as error:
            self._forget_if_gone(error)
            raise
        if self._place.over and self.position < self.state.size_bytes:
            self.save()
            raise put_down(self.state.key, self.position, self.state.size_bytes)

    def finish(self, expected: str = "") -> StoredObject:
        """`expected`: SHA-256 in hex, "" when nobody knows it.

        Raises DigestMismatch: nothing is visible, and what was sent is removed.
        """
        found = self._digest.hexdigest()
        if self.position != self.state.size_bytes or found != (expected or found):
            self._give_up()
            raise _differs(self.state, expected, found)
        try:
            stored = self._writer.commit()
        except LeewardError as error:
            self._forget_if_gone(error)
            raise
        if (stored.size_bytes, stored.sha256) != (self.state.size_bytes, found):
            # The next run would take what lies there for the copy.
            self._target.delete(self.state.key)
            raise _differs(self.state, found, stored.sha256)
        self._place.notes.delete(self._place.note_key(self.state.key))
        return StoredObject(self.state.key, stored.size_bytes, found)

    def save(self) -> None:
        """After it a process that dies loses nothing."""
        checkpoint = self._writer.checkpoint()
        self.state = replace(self.state, noted_at=self._place.clock.now())
        facts = {"copy": self.state.to_json(), "sha256": self._digest.state()}
        note = pack(facts, checkpoint)
        self._place.notes.put(self._place.note_key(self.state.key), note)

    def _known(self) -> bytes:
        """The checkpoint of what was begun of this very object; anything else is given up."""
        note = _find(self._place.notes, self._place.note_key(self.state.key))
        if note is None:
            return b""
        found, checkpoint = _read(note)
        same = (found.size_bytes, found.version) == (self.state.size_bytes, self.state.version)
        if same:
            try:
                self._digest = RunningDigest(state=unpack(note)[0]["sha256"])
                self.state = found
                return checkpoint
            except Unavailable:
                pass
        self._target.abandon(self.state.key, checkpoint)
        return b""

    def _note_sent(self, size_bytes: int) -> None:
        self.state = replace(self.state, sent_bytes=self.position + size_bytes)

    def _forget_if_gone(self, error: LeewardError) -> None:
        if error.instance_code == GONE:
            self._place.notes.delete(self._place.note_key(self.state.key))

    def _give_up(self) -> None:
        self._target.abandon(self.state.key, self._writer.checkpoint())
        self._place.notes.delete(self._place.note_key(self.state.key))


def copy_on(
    place: LongPlace,
    source: ReadsOn,
    target: KeepsUploads,
    key: str,
    size_bytes: int,
    *,
    version: str,
    expected: str = "",
) -> StoredObject:
    """Copy one object from where it was put down, as far as the time reaches.

    Raises: as LongCopy; DigestMismatch (code "object-changed") when the source changed since.
    """
    with LongCopy(place, target, key, size_bytes, version) as copy:
        if copy.position < size_bytes:
            for piece in source.read_on(key, copy.position, version=version):
                copy.take(piece)
        return copy.finish(expected)


def give_up_old(
    place: LongPlace, target: ObjectStore, *, kept: timedelta = KEPT
) -> tuple[Unfinished, ...]:
    """Remove what was sent of copies that nobody went on with, with a note or, where the target
    tells its uploads, without one; each is told."""
    old, now = [], place.clock.now()
    for key, found, checkpoint in _notes(place):
        if now - found.noted_at < kept:
            continue
        if isinstance(target, KeepsUploads):
            target.abandon(found.key, checkpoint)
        place.notes.delete(key)
        old.append(found)
    if isinstance(target, RemovesUploads):
        alive = frozenset(it.key for it in unfinished(place))
        for it in target.remove_uploads(now - kept, but=alive):
            old.append(Unfinished(it.key, 0, "", it.sent_bytes, it.begun_at, it.begun_at))
    return tuple(old)


def unfinished(place: LongPlace) -> tuple[Unfinished, ...]:
    """What is on its way to this target."""
    return tuple(found for _, found, _ in _notes(place))


def _notes(place: LongPlace) -> Iterator[tuple[str, Unfinished, bytes]]:
    for row in list(place.notes.list(f"{NOTES}{place.name}/")):
        note = _find(place.notes, row.key)
        if note is not None:
            yield row.key, *_read(note)


def _read(note: bytes) -> tuple[Unfinished, bytes]:
    facts, checkpoint = unpack(note)
    return Unfinished.from_json(facts["copy"]), checkpoint


def _differs(copied: Unfinished, expected: str, found: str) -> DigestMismatch:
    return DigestMismatch(
        f"expected {copied.size_bytes} bytes of {copied.key!r} with sha-256 {expected}, found "
        f"{copied.sent_bytes} with {found}",
        hint="Check the source with `leeward verify`; it is damaged or the way to the copy is.",
        key=copied.key,
    )


def _find(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except LeewardError as error:
        if error.instance_code != "object-missing":
            raise
        return None
