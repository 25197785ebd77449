"""Copies of Leeward's own objects that S3 makes part by part: those above 5 GiB.

S3 computes the SHA-256 of each part that it copies, and from them a checksum of the whole. Cut as
the source was when it was sent, which it tells, the copy must have the source's: then it is the
same bytes, and none of them came here. Parts that an earlier run copied are found with the target
and are not copied again; a wrong one among them would show in the checksum of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from chalicelib.adapters.refusals import not_as_sent
from chalicelib.adapters.s3.answers import facts_of
from chalicelib.adapters.s3.calls import Object, Upload
from chalicelib.adapters.s3.cut import Part, cut_of
from chalicelib.adapters.s3.facts import CONTENT_HEADERS, META
from chalicelib.adapters.s3.reader import TELL
from chalicelib.ports import Leftover
from chalicelib.ports.lasting import put_down

if TYPE_CHECKING:
    from chalicelib.adapters.s3.store import S3ObjectStore

COPIES_AT_ONCE = 16
# Of one object. Source: "Amazon S3 multipart upload limits".
MOST_PARTS = 10_000
OF_PARTS = "sha256-of-parts"
CLASS = "x-amz-storage-class"


def copy_in_parts(
    source: S3ObjectStore, target: S3ObjectStore, key: str, *, over: Callable[[], bool]
) -> bool:
    """False when S3 cannot prove it: the source was cut otherwise, or has no such checksum.

    Raises:
        Unavailable: code "put-down" when `over`; the parts stay, for the next run.
        DigestMismatch: the copy is another; nothing is visible.
    """
    head = source.head(key, TELL)
    facts, cut = facts_of(head), cut_of(head)
    parts = list(islice(cut.parts(facts.size_bytes), MOST_PARTS + 1)) if cut else []
    wanted = facts.checksums.get(OF_PARTS, "")
    if wanted.rpartition("-")[2] != str(len(parts)):
        return False
    job = _Copy(source, target, key, parts, head)
    job.begin()
    job.copy_all(over)
    job.complete(wanted)
    return True


def remove_uploads(
    store: S3ObjectStore, before: datetime, but: Collection[str]
) -> tuple[Leftover, ...]:
    prefix, removed = store.names.prefix, []
    for row in list(store.calls.uploads(prefix)):
        key = row.name.removeprefix(prefix)
        if row.begun_at >= before or key in but:
            continue
        upload = Upload(Object(key, row.name), row.upload_id)
        sent = sum(part.size_bytes for part in store.calls.parts(upload))
        store.calls.abort(upload)
        removed.append(Leftover(key, sent, row.begun_at))
    return tuple(removed)


class _Copy:
    def __init__(
        self,
        source: S3ObjectStore,
        target: S3ObjectStore,
        key: str,
        parts: list[Part],
        head: Mapping[str, str],
    ) -> None:
        self._head = head
        self._source, self._target, self._key, self._parts = source, target, key, parts
        self._from, self._to, self._calls = source.object(key), target.object(key), target.calls
        self._done: dict[int, dict[str, str]] = {}

    def begin(self) -> None:
        """Go on with an upload that is there, if need be begin one."""
        self._upload = self._known() or self._calls.begin(self._to, _kept(self._head))
        self._find_done()

    def copy_all(self, over: Callable[[], bool]) -> None:
        def copy(part: Part) -> None:
            if not over():
                self._done[part.number] = self._copy(part)

        left = [part for part in self._parts if part.number not in self._done]
        with ThreadPoolExecutor(COPIES_AT_ONCE) as threads:
            list(threads.map(copy, left))
        if len(self._done) < len(self._parts):
            sizes = [part.end - part.start for part in self._parts if part.number in self._done]
            raise put_down(self._key, sum(sizes), self._parts[-1].end)

    def complete(self, wanted: str) -> None:
        self._calls.complete(self._upload, [self._done[part.number] for part in self._parts])
        found = self._target.facts(self._key)
        if (found.size_bytes, found.checksums.get(OF_PARTS)) != (self._parts[-1].end, wanted):
            self._target.delete(self._key)
            raise not_as_sent(self._key, f"checksum {wanted}", str(found.checksums))

    def _known(self) -> Upload | None:
        ours = [it for it in self._calls.uploads(self._to.name) if it.name == self._to.name]
        newest = max(ours, key=lambda it: it.begun_at, default=None)
        return Upload(self._to, newest.upload_id) if newest else None

    def _find_done(self) -> None:
        """A part without its checksum (SeaweedFS tells none) could not be completed."""
        sizes = {part.number: part.end - part.start for part in self._parts}
        for row in self._calls.parts(self._upload):
            if sizes.get(row.number) == row.size_bytes and row.sha256:
                self._done[row.number] = {
                    "PartNumber": str(row.number),
                    "ETag": row.etag,
                    "ChecksumSHA256": row.sha256,
                }

    def _copy(self, part: Part) -> dict[str, str]:
        return self._calls.copy_part(
            self._from, self._source.bucket, self._head["ETag"], part.span, self._upload,
            part.number,
        )  # fmt: skip


def _kept(head: Mapping[str, str]) -> dict[str, str]:
    """What a new upload does not take over by itself."""
    named = {name: head[name] for name in (*CONTENT_HEADERS, CLASS) if name in head}
    return {**named, **{name: head[name] for name in head if name.lower().startswith(META)}}
