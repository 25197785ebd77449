"""The port Bucket on S3 and on what speaks its protocol.

    async with S3Buckets(ambient_credentials()) as buckets:
        bucket = buckets.bucket("uploads", "us-east-1")
        async for row in bucket.list(): ...

One pool of connections serves all buckets of one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Self

from chalicelib.adapters.http.wire import Connections
from chalicelib.adapters.s3.copy import CopyLimits, S3Copier
from chalicelib.adapters.s3.copy_turns import CopyTurns
from chalicelib.adapters.s3.facts import read_facts, read_written
from chalicelib.adapters.s3.http import Answer, S3Http, sha256_header
from chalicelib.adapters.s3.pages import check_order, pages_of, unordered
from chalicelib.adapters.s3.place import Patience, Place, Query
from chalicelib.adapters.s3.read import Reading
from chalicelib.adapters.s3.signing import Credentials
from chalicelib.adapters.s3.xml import (
    NOT_IN_XML,
    Page,
    VersionPage,
    parse,
    parse_deleted,
    parse_page,
    parse_tags,
    parse_versions,
    render_delete,
)
from chalicelib.errors import (
    LeewardError,
    Refused,
)
from chalicelib.ports.buckets import (
    ChecksumName,
    CopySource,
    Deleted,
    KeyFailure,
    ObjectFacts,
    ObjectRow,
    Versioning,
    VersionRow,
    Written,
)

if TYPE_CHECKING:
    from chalicelib.ports.bucket_rules import BucketRules

# What DeleteObjects takes in one request.
DELETE_BATCH = 1000
DELETES_AT_ONCE = 4


class S3Buckets:
    """Connections and credentials shared by buckets; an asynchronous context manager."""

    def __init__(
        self,
        credentials: Callable[[], Credentials],
        *,
        connections: int = 512,
        patience: Patience | None = None,
        copy_limits: CopyLimits | None = None,
    ) -> None:
        self._credentials = credentials
        self._most = connections
        self._patience = patience or Patience()
        self._limits = copy_limits or CopyLimits()

    async def __aenter__(self) -> Self:
        self._pool = Connections(self._most)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    def bucket(
        self,
        name: str,
        region: str,
        *,
        endpoint_url: str = "",
        kms_key_id: str = "",
        turns: CopyTurns | None = None,
    ) -> S3Bucket:
        """`endpoint_url` "" is AWS. What is written is encrypted with `kms_key_id`, "" leaves it
        to the bucket's default. `turns`: how copies into it are put down and gone on with."""
        http = self._http(Place(name, region, endpoint_url))
        copier = S3Copier(http, self._http, self._limits, _at_rest(kms_key_id), turns)
        return S3Bucket(http, copier, _at_rest(kms_key_id))

    def _http(self, place: Place) -> S3Http:
        return S3Http(self._pool, place, self._credentials, self._patience)


class S3Bucket:
    """Made by S3Buckets."""

    def __init__(self, http: S3Http, copier: S3Copier, at_rest: Mapping[str, str]) -> None:
        self._http = http
        self._copier = copier
        self._at_rest = at_rest

    @property
    def name(self) -> str:
        return self._http.place.bucket

    @property
    def region(self) -> str:
        return self._http.place.region

    @property
    def requests(self) -> int:
        """Sent so far, also those that failed."""
        return self._http.requests

    async def list(
        self, prefix: str = "", *, start_after: str = "", end_before: str = ""
    ) -> AsyncGenerator[ObjectRow, None]:
        found = self.pages(prefix, start_after=start_after, end_before=end_before)
        async with aclosing(found) as pages:
            async for rows in pages:
                for row in rows:
                    yield row

    async def pages(
        self, prefix: str = "", *, start_after: str = "", end_before: str = ""
    ) -> AsyncGenerator[Sequence[ObjectRow], None]:
        query = [("list-type", "2"), ("encoding-type", "url"), ("prefix", prefix)]
        first = [("start-after", start_after)] if start_after else []
        last = start_after

        def is_enough(page: Page) -> bool:
            return bool(end_before and page.rows and page.rows[-1].key >= end_before)

        async with aclosing(pages_of(self._page, query, first, is_enough)) as pages:
            async for page in pages:
                rows, last = page.rows, check_order(self.name, last, page.rows)
                if is_enough(page):
                    rows = [row for row in rows if row.key < end_before]
                if rows:
                    yield rows

    async def prefixes(
        self, prefix: str = "", *, start_after: str = "", delimiter: str = "/"
    ) -> AsyncGenerator[str, None]:
        query = [
            ("list-type", "2"), ("encoding-type", "url"), ("prefix", prefix),
            ("delimiter", delimiter),
        ]  # fmt: skip
        first = [("start-after", start_after)] if start_after else []
        async for page in pages_of(self._page, query, first):
            for found in page.prefixes:
                # S3 tells a start again when keys below it are still to come.
                if found > start_after:
                    yield found

    async def list_versions(
        self,
        prefix: str = "",
        *,
        key_marker: str = "",
        version_id_marker: str = "",
        through: str = "",
    ) -> AsyncGenerator[VersionRow, None]:
        query = [("versions", ""), ("encoding-type", "url"), ("prefix", prefix)]
        markers = [("key-marker", key_marker), ("version-id-marker", version_id_marker)]
        first = [(name, value) for name, value in markers if value]
        last = key_marker

        def is_enough(page: VersionPage) -> bool:
            return bool(through and page.rows and page.rows[-1].key > through)

        async for page in pages_of(self._version_page, query, first, is_enough):
            for row in page.rows:
                if row.key < last:
                    raise unordered(self.name, last, row.key)
                last = row.key
                if through and row.key > through:
                    return
                # moto leaves out the newest version of the marker's key alone.
                if row.key != key_marker or version_id_marker:
                    yield row

    async def version_level(
        self, prefix: str = "", *, delimiter: str = "/"
    ) -> AsyncGenerator[VersionRow | str, None]:
        query = [
            ("versions", ""), ("encoding-type", "url"), ("prefix", prefix),
            ("delimiter", delimiter),
        ]  # fmt: skip
        async for page in pages_of(self._version_page, query, []):
            for row in page.rows:
                yield row
            for found in page.prefixes:
                yield found

    async def rules(self) -> BucketRules:
        """What its configuration does to its history. Raises NotReady (code "no-bucket")."""
        from chalicelib.adapters.s3.rules_direct import read_rules

        return await read_rules(self._http)

    async def versioning(self) -> Versioning:
        def read(answer: Answer) -> Versioning:
            found = parse(answer.body).findtext("Status", "")
            return found if found in ("Enabled", "Suspended") else ""  # type: ignore[return-value]

        return await self._http.call("GET", query=[("versioning", "")], read=read)

    async def head(self, key: str, *, version_id: str = "", checksums: bool = True) -> ObjectFacts:
        headers = {"x-amz-checksum-mode": "ENABLED"} if checksums else {}
        return await self._http.call(
            "HEAD", key, _version(version_id), headers,
            read=lambda answer: read_facts(key, answer.headers),
        )  # fmt: skip

    async def tags(self, key: str, *, version_id: str = "") -> dict[str, str]:
        query = [("tagging", ""), *_version(version_id)]
        return await self._http.call("GET", key, query, read=lambda a: parse_tags(a.body))

    async def copy_from(
        self, source: CopySource, *, to_key: str = "", checksum: ChecksumName = "SHA256"
    ) -> Written:
        return await self._copier.copy(source, to_key or source.key, checksum)

    async def give_up_copies(self) -> Sequence[str]:
        """Abort copies in parts that were put down and nobody went on with; the keys."""
        return await self._copier.give_up_old()

    async def get(
        self, key: str, *, version_id: str = "", start: int = 0, end: int = -1, etag: str = ""
    ) -> AsyncGenerator[bytes, None]:
        reading = Reading(key, start, end, etag)
        failures = 0
        while not reading.whole:
            before = reading.position
            try:
                async with self._http.open(key, _version(version_id), reading.ask()) as response:
                    reading.begin(response.status, response.headers)
                    async with aclosing(response.pieces()) as chunks:
                        async for chunk in chunks:
                            reading.position += len(chunk)
                            yield chunk
                reading.finish()
            except (OSError, LeewardError) as error:
                failures = 1 if reading.position > before else failures + 1
                await self._http.wait_or_raise(error, key, failures)

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Written:
        sent = {**self._at_rest, **(headers or {}), **sha256_header(data)}
        sent |= {f"x-amz-meta-{name}": value for name, value in (metadata or {}).items()}
        return await self._http.call(
            "PUT", key, (), sent, data, read=lambda a: read_written(key, a.headers)
        )

    async def delete(self, keys: Sequence[tuple[str, str]]) -> Deleted:
        in_xml = [pair for pair in keys if not NOT_IN_XML.search(pair[0])]
        single = [pair for pair in keys if NOT_IN_XML.search(pair[0])]
        batches = [in_xml[at : at + DELETE_BATCH] for at in range(0, len(in_xml), DELETE_BATCH)]
        gate = asyncio.Semaphore(DELETES_AT_ONCE)
        found = await asyncio.gather(
            *(_gated(gate, self._delete_batch(batch)) for batch in batches),
            *(_gated(gate, self._delete_one(pair)) for pair in single),
        )
        done = tuple(pair for some, _ in found for pair in some)
        return Deleted(done, tuple(one for _, failed in found for one in failed))

    async def put_markers(self, keys: Sequence[str]) -> Deleted:
        found = await self.versioning()
        if found != "Enabled":
            raise Refused(
                f"expected versioning of {self.name} to be Enabled, found {found or 'none'}",
                code="not-versioned",
                hint="Without versions a deletion loses the data; turn versioning on first.",
            )
        return await self.delete([(key, "") for key in keys])

    async def _page(self, query: Query) -> Page:
        return await self._http.call("GET", query=query, read=lambda a: parse_page(a.body))

    async def _version_page(self, query: Query) -> VersionPage:
        def read(answer: Answer) -> VersionPage:
            ordered = answer.headers.get("Server", "") == "AmazonS3"
            return parse_versions(answer.body, ordered=ordered)

        return await self._http.call("GET", query=query, read=read)

    async def _delete_batch(self, pairs: Sequence[tuple[str, str]]) -> _Outcome:
        body = render_delete(pairs)
        return await self._http.call(
            "POST", "", [("delete", "")], sha256_header(body), body,
            read=lambda answer: parse_deleted(answer.body, pairs),
        )  # fmt: skip

    async def _delete_one(self, pair: tuple[str, str]) -> _Outcome:
        try:
            await self._http.call("DELETE", pair[0], _version(pair[1]), read=lambda answer: None)
        except LeewardError as error:
            code = str(error.context.get("s3_code") or error.instance_code)
            return [], [KeyFailure(*pair, code, error.message)]
        return [pair], []


_Outcome = tuple[list[tuple[str, str]], list[KeyFailure]]


async def _gated(gate: asyncio.Semaphore, work: Awaitable[_Outcome]) -> _Outcome:
    async with gate:
        return await work


def _version(version_id: str) -> list[tuple[str, str]]:
    return [("versionId", version_id)] if version_id else []


def _at_rest(kms_key_id: str) -> dict[str, str]:
    if not kms_key_id:
        return {}
    return {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": kms_key_id,
        "x-amz-server-side-encryption-bucket-key-enabled": "true",
    }
