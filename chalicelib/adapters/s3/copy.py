"""Server-side copies in S3: in one request, or in parts when the object is too large for one.

One request keeps metadata, content headers and tags by itself, and the storage class when it is
told. A copy in parts is a new upload: all of these are read from the source and given to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import urlencode
from xml.etree import ElementTree

from chalicelib.adapters.http.text import parse_date
from chalicelib.adapters.s3.copy_turns import CopyTurns, Upload
from chalicelib.adapters.s3.facts import CHECKSUMS, META, read_facts
from chalicelib.adapters.s3.http import Answer, S3Http
from chalicelib.adapters.s3.place import Place
from chalicelib.adapters.s3.signing import encode_path, encode_query
from chalicelib.adapters.s3.xml import need_text, parse, parse_at, parse_tags, render_parts
from chalicelib.errors import DigestMismatch, LeewardError
from chalicelib.ports.buckets import ChecksumName, CopySource, ObjectFacts, Written
from chalicelib.ports.lasting import put_down, upload_gone

MIB = 1 << 20
# S3 takes at most 10,000 parts, each of at most 5 GiB; a copy in one request at most 5 GiB.
MOST_PARTS = 10_000


@dataclass(frozen=True)
class CopyLimits:
    """Objects above `whole_bytes` are copied in parts of at least `part_bytes`."""

    whole_bytes: int = 5 << 30
    part_bytes: int = 256 * MIB
    parts_at_once: int = 16


class S3Copier:
    """Copies into one bucket. `reach` opens the source's bucket, to ask about large objects.

    With `turns` a copy in parts may end with Unavailable (code "put-down"): called again, by this
    process or another, it goes on.
    """

    def __init__(
        self,
        http: S3Http,
        reach: Callable[[Place], S3Http],
        limits: CopyLimits,
        at_rest: Mapping[str, str],
        turns: CopyTurns | None = None,
    ) -> None:
        self._http = http
        self._reach = reach
        self._limits = limits
        self._at_rest = at_rest
        self._turns = turns

    async def copy(self, source: CopySource, key: str, checksum: ChecksumName) -> Written:
        if source.size_bytes < 0:
            facts = await self._facts(source)
            source = replace(
                source, size_bytes=facts.size_bytes, storage_class=facts.storage_class,
                etag=source.etag or facts.etag,
            )  # fmt: skip
        if source.size_bytes > self._limits.whole_bytes:
            return await self._copy_in_parts(source, key)
        headers = {
            **self._at_rest,
            **_source_headers(source),
            **_class_header(source.storage_class),
            "x-amz-checksum-algorithm": checksum,
        }
        return await self._http.call(
            "PUT", key, (), headers, read=partial(_read_copied_since, key, time.monotonic()),
            seconds=self._http.patience.copy_seconds,
        )  # fmt: skip

    async def give_up_old(self) -> list[str]:
        """Abort what nobody went on with for a week; the keys."""
        given_up = await self._turns.old() if self._turns else []
        for upload in given_up:
            await self._abort(upload)
        return [upload.key for upload in given_up]

    async def _copy_in_parts(self, source: CopySource, key: str) -> Written:
        """What a dead worker left of a copy without turns is the bucket's own rule's.

        With turns the upload stays when the time is over or the failure may pass; else it is ended
        or aborted.
        """
        facts = await self._facts(source)
        _check_unchanged(source, facts)
        source = replace(source, etag=facts.etag)
        upload = await self._open(source, facts, key)
        try:
            parts = await self._copy_parts(source, facts.size_bytes, upload)
            written = await self._complete(key, upload.upload_id, parts)
        except BaseException as error:
            with suppress(LeewardError):
                await self._put_down_or_abort(upload, error)
            if upload.parts and _is_gone(error):
                # Ended by another process perhaps: who calls again looks first.
                raise upload_gone("none") from error
            raise
        if self._turns:
            await self._turns.forget(upload)
        await self._check_size(key, written, facts.size_bytes)
        return written

    async def _open(self, source: CopySource, facts: ObjectFacts, key: str) -> Upload:
        """Go on with the upload of this very version, cut as it would be today, or begin one."""
        turns = self._turns
        if turns is None:
            now = datetime.now(UTC)
            return Upload(key, await self._begin(source, facts, key), {}, now, now)
        of: dict[str, str | int] = {
            "bucket": source.bucket, "key": source.key, "version": facts.version_id,
            "etag": facts.etag, "modified_at": facts.modified_at.isoformat(),
            "size_bytes": facts.size_bytes, "part_bytes": self._part_bytes(facts.size_bytes),
        }  # fmt: skip
        known = await turns.find(key)
        if known is not None and known.of == of:
            return known
        if known is not None:
            await self._abort(known)
        upload = turns.begin(key, await self._begin(source, facts, key), of)
        await turns.save(upload)
        return upload

    async def _put_down_or_abort(self, upload: Upload, error: BaseException) -> None:
        passes = not isinstance(error, LeewardError) or error.retryable
        if self._turns and passes:
            await self._turns.save(upload)
        else:
            await self._abort(upload)

    async def _abort(self, upload: Upload) -> None:
        query = [("uploadId", upload.upload_id)]
        try:
            await self._http.call("DELETE", upload.key, query, read=lambda answer: None)
        except LeewardError as error:
            if not _is_gone(error):
                raise
        if self._turns:
            await self._turns.forget(upload)

    async def _begin(self, source: CopySource, facts: ObjectFacts, key: str) -> str:
        headers = {
            **self._at_rest,
            **facts.headers,
            **{f"{META}{name}": value for name, value in facts.metadata.items()},
            **_class_header(facts.storage_class),
            "x-amz-checksum-algorithm": "CRC64NVME",
            "x-amz-checksum-type": "FULL_OBJECT",
        }
        if facts.tag_count:
            headers["x-amz-tagging"] = urlencode(await self._tags(source))
        return await self._http.call(
            "POST", key, [("uploads", "")], headers, read=partial(_need_text, "UploadId")
        )

    def _part_bytes(self, size: int) -> int:
        return max(self._limits.part_bytes, -(-size // MOST_PARTS))

    async def _copy_parts(
        self, source: CopySource, size: int, upload: Upload
    ) -> list[dict[str, str]]:
        part_bytes, turns = self._part_bytes(size), self._turns
        starts = range(0, size, part_bytes)
        waiting = (
            (number, at) for number, at in enumerate(starts, 1) if number not in upload.parts
        )

        async def work() -> None:
            for number, start in waiting:
                if turns and turns.over:
                    return
                last = min(start + part_bytes, size) - 1
                headers = _source_headers(source)
                headers["x-amz-copy-source-range"] = f"bytes={start}-{last}"
                query = [("partNumber", str(number)), ("uploadId", upload.upload_id)]
                part = await self._http.call(
                    "PUT", upload.key, query, headers, read=partial(_read_part, number),
                    seconds=self._http.patience.copy_seconds,
                )  # fmt: skip
                upload.parts[number] = part
                if turns:
                    await turns.save_now_and_then(upload)

        workers = [asyncio.ensure_future(work()) for _ in range(self._limits.parts_at_once)]
        try:
            await asyncio.gather(*workers)
        finally:
            # An abort that overtakes a part leaves that part behind, and it costs money for ever.
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if len(upload.parts) < len(starts):
            done_bytes = min(len(upload.parts) * part_bytes, size)
            raise put_down(upload.key, done_bytes, size)
        return [upload.parts[number] for number in sorted(upload.parts)]

    async def _complete(self, key: str, upload_id: str, parts: list[dict[str, str]]) -> Written:
        return await self._http.call(
            "POST", key, [("uploadId", upload_id)], {"x-amz-checksum-type": "FULL_OBJECT"},
            render_parts(parts), read=partial(_read_copied, key),
            seconds=self._http.patience.copy_seconds,
        )  # fmt: skip

    async def _check_size(self, key: str, written: Written, size: int) -> None:
        query = [("versionId", written.version_id)] if written.version_id else []
        found = await self._http.call(
            "HEAD", key, query, read=lambda answer: read_facts(key, answer.headers)
        )
        if found.size_bytes != size:
            raise DigestMismatch(
                f"expected {size} bytes in the copy of {key!r}, found {found.size_bytes}",
                hint="Copy it again; somebody else may write the same key.",
                key=key,
            )

    async def _facts(self, source: CopySource) -> ObjectFacts:
        return await self._source(source).call(
            "HEAD", source.key, _version(source),
            read=lambda answer: read_facts(source.key, answer.headers),
        )  # fmt: skip

    async def _tags(self, source: CopySource) -> dict[str, str]:
        query = [("tagging", ""), *_version(source)]
        return await self._source(source).call(
            "GET", source.key, query, read=lambda answer: parse_tags(answer.body)
        )

    def _source(self, source: CopySource) -> S3Http:
        here = self._http.place
        return self._reach(Place(source.bucket, source.region or here.region, here.endpoint_url))


def _source_headers(source: CopySource) -> dict[str, str]:
    where = encode_path(f"/{source.bucket}/{source.key}")
    if source.version_id:
        where += "?" + encode_query(_version(source))
    headers = {"x-amz-copy-source": where}
    if source.etag:
        headers["x-amz-copy-source-if-match"] = f'"{source.etag}"'
    return headers


def _class_header(storage_class: str) -> dict[str, str]:
    if storage_class in ("", "STANDARD"):
        return {}
    return {"x-amz-storage-class": storage_class}


def _version(source: CopySource) -> list[tuple[str, str]]:
    return [("versionId", source.version_id)] if source.version_id else []


def _check_unchanged(source: CopySource, facts: ObjectFacts) -> None:
    if source.etag and source.etag != facts.etag:
        raise DigestMismatch(
            f"expected {source.key!r} to be {source.etag}, found {facts.etag}",
            code="object-changed",
            hint="Run it again; find out who writes when it repeats.",
            key=source.key,
        )


def _is_gone(error: BaseException) -> bool:
    return isinstance(error, LeewardError) and error.instance_code == "upload-missing"


def _need_text(tag: str, answer: Answer) -> str:
    return need_text(parse(answer.body), tag)


def _read_copied(key: str, answer: Answer) -> Written:
    root = parse(answer.body)
    etag = need_text(root, "ETag").strip('"')
    return Written(key, etag, answer.headers.get("x-amz-version-id", ""), _checksums(root))


def _read_copied_since(key: str, began: float, answer: Answer) -> Written:
    return replace(_read_copied(key, answer), dated_after=_dated_after(answer, began))


def _dated_after(answer: Answer, began: float) -> timedelta | None:
    """Both times are the server's own, in whole seconds: the object's, as listings show it, and the
    earliest at which it can have read the source, since nobody asked for it before `began`."""
    sent, made = answer.headers.get("Date", ""), parse(answer.body).findtext("LastModified", "")
    try:
        answered_at, modified_at = parse_date(sent), parse_at(made)
    except ValueError:
        return None
    if answered_at.tzinfo is None:
        return None
    asked_at = answered_at - timedelta(seconds=time.monotonic() - began)
    return modified_at.replace(microsecond=0) - asked_at.replace(microsecond=0)


def _read_part(number: int, answer: Answer) -> dict[str, str]:
    root = parse(answer.body)
    sums = {f"Checksum{name}": value for name, value in _checksums(root).items()}
    return {"PartNumber": str(number), "ETag": need_text(root, "ETag"), **sums}


def _checksums(root: ElementTree.Element) -> dict[str, str]:
    named = {name: root.findtext(f"Checksum{name}", "") for name in CHECKSUMS}
    return {name: value for name, value in named.items() if value}
