"""Copies of Leeward's own objects that S3 makes part by part: those above 5 GiB.

S3 computes the SHA-256 of each part that it copies, and from them a checksum of the whole. Cut as
the source was when it was sent, the copy must have the source's: then it is the same bytes, and
none of them came here. Parts that an earlier run copied are found with the target and are not
copied again; a wrong one among them would show in the checksum of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.adapters.refusals import not_as_sent
from chalicelib.adapters.s3.answers import mapped_object
from chalicelib.adapters.s3.writer import part_bytes
from chalicelib.ports import Leftover
from chalicelib.ports.lasting import put_down

if TYPE_CHECKING:
    from chalicelib.adapters.s3.store import S3ObjectStore

COPIES_AT_ONCE = 16
OF_PARTS = "sha256-of-parts"
# What a new upload does not take over by itself.
KEPT = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType",
        "Metadata", "StorageClass")  # fmt: skip


@dataclass(frozen=True)
class Part:
    number: int
    start: int
    end: int

    @property
    def span(self) -> str:
        return f"bytes={self.start}-{self.end - 1}"


def cut(size_bytes: int, smallest: int) -> Iterator[Part]:
    """As PartWriter cuts an object of that size."""
    start = number = 0
    while start < size_bytes:
        end = min(size_bytes, start + part_bytes(smallest, number))
        number += 1
        yield Part(number, start, end)
        start = end


def copy_in_parts(
    source: S3ObjectStore, target: S3ObjectStore, key: str, *, over: Callable[[], bool]
) -> bool:
    """False when S3 cannot prove it: the source was cut otherwise, or has no such checksum.

    Raises:
        Unavailable: code "put-down" when `over`; the parts stay, for the next run.
        DigestMismatch: the copy is another; nothing is visible.
    """
    facts = source.facts(key)
    parts = list(cut(facts.size_bytes, source._part_bytes))
    wanted = facts.checksums.get(OF_PARTS, "")
    if wanted.rpartition("-")[2] != str(len(parts)):
        return False
    job = _Copy(source, target, key, parts)
    job.begin()
    job.copy_all(over)
    job.complete(wanted)
    return True


def remove_uploads(
    store: S3ObjectStore, before: datetime, but: Collection[str]
) -> tuple[Leftover, ...]:
    client, prefix = store._client, store._names.prefix
    removed = []
    with mapped("s3", prefix=prefix), mapped_object(prefix):
        pages = client.get_paginator("list_multipart_uploads").paginate(
            Bucket=store._bucket, Prefix=prefix
        )
        for row in [it for page in pages for it in page.get("Uploads", ())]:
            key = row["Key"].removeprefix(prefix)
            if row["Initiated"] >= before or key in but:
                continue
            address = {"Bucket": store._bucket, "Key": row["Key"], "UploadId": row["UploadId"]}
            listed = client.get_paginator("list_parts").paginate(**address)
            sent = sum(part["Size"] for page in listed for part in page.get("Parts", ()))
            client.abort_multipart_upload(**address)
            removed.append(Leftover(key, sent, row["Initiated"]))
    return tuple(removed)


class _Copy:
    def __init__(
        self, source: S3ObjectStore, target: S3ObjectStore, key: str, parts: list[Part]
    ) -> None:
        self._source, self._target, self._key, self._parts = source, target, key, parts
        self._address, self._client = target._address(key), target._client
        self._done: dict[int, dict[str, Any]] = {}

    def begin(self) -> None:
        """Go on with an upload that is there, if need be begin one."""
        self._head = self._source._head(self._key)
        with mapped("s3", key=self._key), mapped_object(self._key):
            self._upload_id = self._known() or self._new()
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
        parts = [self._done[part.number] for part in self._parts]
        with mapped("s3", key=self._key), mapped_object(self._key):
            self._client.complete_multipart_upload(
                **self._address, UploadId=self._upload_id, MultipartUpload={"Parts": parts}
            )
        found = self._target.facts(self._key)
        if (found.size_bytes, found.checksums.get(OF_PARTS)) != (self._parts[-1].end, wanted):
            self._target.delete(self._key)
            raise not_as_sent(self._key, f"checksum {wanted}", str(found.checksums))

    def _known(self) -> str:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._address["Bucket"], Prefix=self._address["Key"]
        )
        found = [it for page in pages for it in page.get("Uploads", ())]
        ours = [it for it in found if it["Key"] == self._address["Key"]]
        newest = max(ours, key=lambda it: it["Initiated"], default={"UploadId": ""})
        return str(newest["UploadId"])

    def _new(self) -> str:
        kept = {name: self._head[name] for name in KEPT if name in self._head}
        answer = self._client.create_multipart_upload(
            **self._address, **self._target._at_rest(), **kept, ChecksumAlgorithm="SHA256"
        )
        return str(answer["UploadId"])

    def _find_done(self) -> None:
        """A part without its checksum (SeaweedFS tells none) could not be completed."""
        sizes = {part.number: part.end - part.start for part in self._parts}
        pages = self._client.get_paginator("list_parts").paginate(
            **self._address, UploadId=self._upload_id
        )
        for page in pages:
            for row in page.get("Parts", ()):
                whole = sizes.get(row["PartNumber"]) == row["Size"]
                if whole and "ChecksumSHA256" in row:
                    self._done[row["PartNumber"]] = _named(row["PartNumber"], row)

    def _copy(self, part: Part) -> dict[str, Any]:
        with mapped("s3", key=self._key), mapped_object(self._key):
            answer = self._client.upload_part_copy(
                **self._address, UploadId=self._upload_id, PartNumber=part.number,
                CopySource=self._source._address(self._key), CopySourceRange=part.span,
                CopySourceIfMatch=self._head["ETag"],
            )  # fmt: skip
        return _named(part.number, answer["CopyPartResult"])


def _named(number: int, told: dict[str, Any]) -> dict[str, Any]:
    checksum = {"ChecksumSHA256": told["ChecksumSHA256"]} if "ChecksumSHA256" in told else {}
    return {"PartNumber": number, "ETag": told["ETag"], **checksum}
