"""Whole buckets of users: any key, all versions, server-side copies.

Unlike ObjectStore, which holds what Leeward wrote under names of its own, a Bucket is somebody
else's: its keys are any text of 1 to 1024 UTF-8 bytes (`a//b`, `./z`, `/lead`, `dir/`, a newline)
and reach the server unchanged. Methods are asynchronous, safe to repeat, and raise the classes of
chalicelib.errors alone; what passes (503, resets, timeouts) was already tried again. A version id
of "" means the current version, or that there are none. Times are aware UTC. Whoever leaves a
listing or a read before its end closes it (contextlib.aclosing).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol

Versioning = Literal["", "Enabled", "Suspended"]
ChecksumName = Literal["CRC64NVME", "SHA256"]


class ObjectRow(NamedTuple):
    """One current object of a listing. `etag` without quotes.

    `copied_from`: of a copy in another cloud, the ETag of the object it was made of; "" when it is
    no copy of Leeward's, or its bytes are others by now. None: nothing tells.
    """

    key: str
    size_bytes: int
    etag: str
    modified_at: datetime
    storage_class: str = "STANDARD"
    copied_from: str | None = None


class VersionRow(NamedTuple):
    """One version or delete marker. A marker has size 0, no etag and no storage class."""

    key: str
    version_id: str
    is_latest: bool
    is_marker: bool
    modified_at: datetime
    size_bytes: int = 0
    etag: str = ""
    storage_class: str = ""


@dataclass(frozen=True)
class ObjectFacts:
    """What the server says of one object without sending it.

    `metadata` are the user's own (names in lower case, without x-amz-meta-), `headers` the
    content headers (Content-Type, ...). `checksums` is algorithm -> base64 as the server stored
    it; `checksum_type` "FULL_OBJECT" or "COMPOSITE" (digest of the parts' digests), "" when
    unknown. `restore` is S3's word on a copy of an archived object.
    """

    key: str
    size_bytes: int
    etag: str
    modified_at: datetime
    version_id: str = ""
    storage_class: str = "STANDARD"
    metadata: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    checksum_type: str = ""
    encryption: str = ""
    kms_key_id: str = ""
    lock_mode: str = ""
    retain_until_at: datetime | None = None
    legal_hold: bool = False
    tag_count: int = 0
    restore: str = ""


@dataclass(frozen=True)
class CopySource:
    """What to copy. `etag`: only if the source still is that; "" takes what is there.

    `region` "" is that of the copy. `storage_class` is kept in the copy; `size_bytes` decides how
    it is copied. When the size is not known (-1), both are asked for.
    """

    bucket: str
    key: str
    region: str = ""
    version_id: str = ""
    etag: str = ""
    size_bytes: int = -1
    storage_class: str = ""


@dataclass(frozen=True)
class Written:
    """What a copy or a put left: the server's own answer. `checksums` as in ObjectFacts.

    dated_after: by how much at most the copy's time, as listings show it, is later than the moment
    at which its source was read; None where the server does not tell.
    """

    key: str
    etag: str
    version_id: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)
    dated_after: timedelta | None = None


@dataclass(frozen=True)
class KeyFailure:
    """One key of a batch that was not done. `code` is the server's."""

    key: str
    version_id: str
    code: str
    message: str = ""


@dataclass(frozen=True)
class Deleted:
    """What became of a batch: every (key, version id) asked for is in exactly one of the two."""

    done: tuple[tuple[str, str], ...]
    failed: tuple[KeyFailure, ...]


class Bucket(Protocol):
    """One bucket. Raises NotReady ("no-bucket", "no-credentials", "clock-skewed", "archived"),
    Refused ("access-denied"), Truncated ("object-missing"), Unavailable, Throttled."""

    @property
    def name(self) -> str: ...

    @property
    def region(self) -> str: ...

    def list(
        self, prefix: str = "", *, start_after: str = "", end_before: str = ""
    ) -> AsyncGenerator[ObjectRow, None]:
        """Current objects in byte order of the UTF-8 key; the next page is fetched ahead.

        Keys in (start_after, end_before); "" is no bound.
        """

    def pages(
        self, prefix: str = "", *, start_after: str = "", end_before: str = ""
    ) -> AsyncGenerator[Sequence[ObjectRow], None]:
        """As `list`, some rows at a time and never none: for whoever reads millions."""

    def prefixes(
        self, prefix: str = "", *, start_after: str = "", delimiter: str = "/"
    ) -> AsyncGenerator[str, None]:
        """The distinct starts of keys below `prefix`, up to and with the next delimiter.

        Keys without a further delimiter are not told, starts at or before `start_after` neither.
        """

    def list_versions(
        self,
        prefix: str = "",
        *,
        key_marker: str = "",
        version_id_marker: str = "",
        through: str = "",
    ) -> AsyncGenerator[VersionRow, None]:
        """Versions and markers in one sequence: by key, and for each key the newest first.

        Starts after the marker: after all versions of `key_marker` without a version id. `through`
        is the last key that is told, "" is no bound.
        """

    def version_level(
        self, prefix: str = "", *, delimiter: str = "/"
    ) -> AsyncGenerator[VersionRow | str, None]:
        """Versions and markers of the keys below `prefix` that have no further delimiter, and the
        distinct starts of all others, up to and with it; also where nothing but markers is left.
        """

    async def versioning(self) -> Versioning: ...

    async def head(
        self, key: str, *, version_id: str = "", checksums: bool = True
    ) -> ObjectFacts: ...

    async def tags(self, key: str, *, version_id: str = "") -> dict[str, str]: ...

    async def copy_from(
        self, source: CopySource, *, to_key: str = "", checksum: ChecksumName = "SHA256"
    ) -> Written:
        """Server-side copy into this bucket with metadata, content headers, tags, storage class.

        `to_key` "" keeps the key. The server computes a checksum of the whole object: the one
        asked for, or CRC64NVME when the object is too large for one request (S3: 5 GiB).

        Raises: DigestMismatch (code "object-changed") when the source is no longer `etag`,
        NotReady (code "archived") when the source must be restored from its archive first,
        Unavailable (code "put-down") when the time is over: call it again, it goes on.
        """

    def get(
        self, key: str, *, version_id: str = "", start: int = 0, end: int = -1, etag: str = ""
    ) -> AsyncGenerator[bytes, None]:
        """Bytes [start, end) in chunks, resumed where a connection broke; -1 is the end.

        Never bytes of two different objects: raises DigestMismatch (code "object-changed") when
        it was replaced meanwhile or is not `etag`, Truncated when it cannot be read to its end.
        """

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Written:
        """Small objects in one request."""

    async def delete(self, keys: Sequence[tuple[str, str]]) -> Deleted:
        """Delete (key, version id) pairs, any number, in batches.

        With a version id that version (or marker) goes for good; without one the server puts a
        delete marker where versioning is on, and removes the object where it is not.
        """

    async def put_markers(self, keys: Sequence[str]) -> Deleted:
        """Delete markers alone. Raises Refused (code "not-versioned") where it would lose data."""
