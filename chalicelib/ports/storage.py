"""Objects below one prefix of a store, under keys of Leeward's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from chalicelib.plan.record import StoredObject


@dataclass(frozen=True)
class Listed:
    """One row of a listing. `note`: as in KeepsNotes, None unless it was asked for."""

    key: str
    size_bytes: int
    modified_at: datetime
    note: str | None = None


@dataclass(frozen=True)
class StoredFacts:
    """What a store says of one object without reading it.

    `checksums`: hex digests of the whole object by algorithm (sha256, md5, crc32c, crc64nvme),
    those that the store has. A checksum of checksums of parts is no digest of the object: it
    stands under "sha256-of-parts" as "<hex>-<number of parts>". `noted` names those that the store
    did not compute: the writer told it, and so could whoever overwrote the object. `version`
    changes whenever the object is written. `locked_until`: before then the store refuses to delete
    it, None when it would not. `noted_as`: what the writer noted of the checksums that the store
    has by itself, as they were then. `note`: as in KeepsNotes.
    """

    size_bytes: int
    modified_at: datetime
    checksums: Mapping[str, str]
    version: str
    locked_until: datetime | None = None
    noted: frozenset[str] = frozenset()
    noted_as: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None


class ObjectWriter(Protocol):
    """An object being written. Nothing is visible under its key before `commit` returns.

    Constant memory whatever the size. `commit` returns only when the store holds the object
    durably, and only if the store's own checksum agrees. Leaving the `with` block without
    `commit` removes what was sent.
    """

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def commit(self) -> StoredObject: ...


class ObjectStore(Protocol):
    """Objects under text keys. One prefix of one bucket, or one folder.

    Every key is kept as it is, whatever the store makes of such names. One that the store cannot
    hold (empty, too long, not UTF-8) is BadInput before anything is sent, and so may be one below
    Leeward's own folders (points/, wal/, ...) that is not plain.
    """

    @property
    def encryption(self) -> str:
        """How objects are encrypted at rest, in words for the manifest."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        """Raises Refused (code "exists") when `if_absent` and the key is taken."""

    def open_writer(self, key: str) -> AbstractContextManager[ObjectWriter]: ...

    def get(self, key: str) -> bytes:
        """Raises Truncated (code "object-missing") when there is none."""

    def read(self, key: str) -> Iterator[bytes]:
        """The object in chunks of at most 1 MiB, in order, with read-ahead, constant memory.

        Raises Truncated when it ends early; a broken connection is resumed where it broke.
        """

    def list(self, prefix: str = "") -> Iterator[Listed]:
        """In byte order of the key; any number of objects."""

    def delete(self, key: str) -> None:
        """No error when there is none."""

    def facts(self, key: str) -> StoredFacts:
        """What the store says, unread. Raises Truncated (code "object-missing")."""


@runtime_checkable
class CopiesByItself(Protocol):
    """A store that can take an object over from another without anybody reading it here."""

    def copy_from(
        self,
        source: ObjectStore,
        key: str,
        *,
        vouched: str = "",
        over: Callable[[], bool] = lambda: False,
    ) -> StoredObject | None:
        """What it holds now, with the SHA-256 that it computed; None when it cannot take the
        object over from that store, which must be read and written then.

        Args:
            vouched: the object's SHA-256, by who knows that it was not written since that was
                computed. One that is too large for one request is taken over then, and is `vouched`
                when by the store's own checksums each part is the source's.
            over: asked before each part. Raises Unavailable (code "put-down"): call it again.
        """


@runtime_checkable
class KeepsNotes(Protocol):
    """A store that keeps a line with each object and tells it in listings, at no further request.

    A note is told while the object's bytes are those it was written with, by the store's own
    checksum: "" where there is none, or the bytes are others. None: it cannot be told.
    """

    @property
    def keeps_notes(self) -> bool: ...

    def noting(self, note: Callable[[], str]) -> ObjectStore:
        """The same store; what is written through it bears the note.

        Args:
            note: asked when all of an object was written. ASCII, at most 1 KiB.
        """

    def list_noted(self, prefix: str = "") -> Iterator[Listed]:
        """As ObjectStore.list, with notes."""


def notes_of(store: ObjectStore) -> KeepsNotes | None:
    """None: the store keeps none, or the one does not that it lies over."""
    return store if isinstance(store, KeepsNotes) and store.keeps_notes else None


@runtime_checkable
class ReadsOn(Protocol):
    """A store of which an object can be read from anywhere in it."""

    def read_on(self, key: str, start: int, *, version: str) -> Iterator[bytes]:
        """As `read`, without the first `start` bytes.

        Args:
            version: as `facts` told it. Raises DigestMismatch (code "object-changed") when the
                object is another by now.
        """


@runtime_checkable
class FeedsPieces(Protocol):
    """A store that can hand an object over without anything being allocated for it."""

    def feed(self, key: str, take: Callable[[memoryview], None]) -> StoredFacts:
        """As `read`; a piece holds until `take` returns. What `take` raises ends it.

        Returns what `facts` tells, of the very version that was read, without a second request.
        """


class LastingWriter(ObjectWriter, Protocol):
    """A writer that another process can go on with.

    Leaving the `with` block without `commit` keeps what was sent, and its costs: `abandon` it.
    """

    def checkpoint(self) -> bytes:
        """What is needed to go on from here, a few MiB; all else that was written is kept by the
        store. It may tell content: keep it where the content may be kept."""


@runtime_checkable
class KeepsUploads(Protocol):
    """A store whose unfinished uploads outlive the process that began them."""

    def open_lasting(
        self, key: str, checkpoint: bytes = b""
    ) -> AbstractContextManager[LastingWriter]:
        """Go on from a checkpoint, or begin. After it exactly the bytes that followed then must be
        written again, whatever was sent since.

        Raises Unavailable (code "upload-gone") when the store has forgotten the upload; so may
        `write` and `commit`.
        """

    def abandon(self, key: str, checkpoint: bytes) -> None:
        """Remove what was sent. No error when the store has forgotten it."""

    def delete(self, key: str) -> None: ...


@dataclass(frozen=True)
class Leftover:
    """An unfinished upload: nobody sees it, and it is paid for."""

    key: str
    sent_bytes: int
    begun_at: datetime


@runtime_checkable
class RemovesUploads(Protocol):
    """A store that can tell which uploads were begun in it, whoever began them."""

    def remove_uploads(self, before: datetime, *, but: Collection[str]) -> tuple[Leftover, ...]:
        """Remove those begun before, but of these keys; what each was."""
