"""The requests about Leeward's own objects, each tried again while its failure may pass.

S3 is told the SHA-256 of each body twice: in the signature, which says that it arrived as it was
sent, and as the checksum that it keeps.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from chalicelib.adapters.s3.answers import in_our_words
from chalicelib.adapters.s3.direct import Data, Request, S3Direct, Said
from chalicelib.adapters.s3.facts import META
from chalicelib.adapters.s3.place import Query
from chalicelib.adapters.s3.signing import encode_path
from chalicelib.adapters.s3.xml import (
    PartRow,
    UploadRow,
    need_text,
    parse,
    parse_page,
    parse_parts,
    parse_uploads,
    render_parts,
)
from chalicelib.errors import LeewardError, Refused
from chalicelib.ports import Listed

T = TypeVar("T")
R = TypeVar("R")
CHECKED = {"x-amz-checksum-algorithm": "SHA256"}
# What boto3 says beside a checksum; servers that are not S3 look for it.
SENT_CHECKED = {"x-amz-sdk-checksum-algorithm": "SHA256"}
# S3 tells the checksums that it keeps to who asks for them.
TELL = {"x-amz-checksum-mode": "ENABLED"}
CHECKSUM = "x-amz-checksum-sha256"
WRITE = f"{META}write"
Rows = tuple[list[R], list[tuple[str, str]] | None]


class Object(NamedTuple):
    """`key` is what errors name, `name` what the bucket knows it by."""

    key: str
    name: str


class Upload(NamedTuple):
    of: Object
    id: str

    def query(self, number: int = 0) -> Query:
        part = [("partNumber", str(number))] if number else []
        return [*part, ("uploadId", self.id)]


class ObjectCalls:
    """`at_rest`: headers that say how new objects are encrypted."""

    def __init__(self, direct: S3Direct, at_rest: Mapping[str, str]) -> None:
        self._direct, self._at_rest = direct, at_rest
        self._copy_seconds = direct.patience.copy_seconds

    def put(self, to: Object, data: Data, digest: bytes, *, if_absent: bool) -> str:
        """The checksum that S3 keeps of it, "" when it tells none.

        `if_absent`: a mark tells this put from any other of the same bytes. When an answer is lost,
        the object that the next attempt finds is this one's own.
        """
        mark = secrets.token_hex(8) if if_absent else ""
        condition = {"If-None-Match": "*", WRITE: mark} if if_absent else {}
        headers = {**self._at_rest, **condition, **_checksum(digest)}
        request = Request("PUT", to.name, (), headers, data, digest.hex())
        try:
            return self._ask(to, request, _told_checksum, creating=True)
        except Refused as error:
            if error.instance_code != "exists":
                raise
            found = self._seen(to)
            if found.get(WRITE) != mark:
                raise
            return found.get(CHECKSUM, "")

    def copy(self, source: Object, source_bucket: str, to: Object) -> None:
        headers = {**self._at_rest, **CHECKED, **_source(source, source_bucket)}
        request = Request("PUT", to.name, (), headers, seconds=self._copy_seconds)
        self._ask(to, request, lambda said: need_text(parse(said.body), "ETag"))

    def delete(self, it: Object) -> None:
        self._ask(it, Request("DELETE", it.name), lambda said: None)

    def begin(self, to: Object, headers: Mapping[str, str] | None = None) -> Upload:
        sent = {**self._at_rest, **(headers or {}), **CHECKED}
        request = Request("POST", to.name, [("uploads", "")], sent)
        return Upload(to, self._ask(to, request, lambda it: need_text(parse(it.body), "UploadId")))

    def put_part(self, upload: Upload, number: int, data: Data) -> dict[str, str]:
        """As `complete` takes it."""
        digest = hashlib.sha256(data).digest()
        query, headers = upload.query(number), _checksum(digest)
        request = Request("PUT", upload.of.name, query, headers, data, digest.hex())
        etag = self._ask(upload.of, request, lambda said: said.headers["ETag"])
        return {"PartNumber": str(number), "ETag": etag, "ChecksumSHA256": _encoded(digest)}

    def copy_part(
        self, source: Object, source_bucket: str, etag: str, span: str, to: Upload, number: int
    ) -> dict[str, str]:
        """As `put_part`; some servers tell no checksum."""
        headers = {
            **_source(source, source_bucket),
            "x-amz-copy-source-range": span,
            "x-amz-copy-source-if-match": etag,
        }
        query, seconds = to.query(number), self._copy_seconds
        request = Request("PUT", to.of.name, query, headers, seconds=seconds)

        def read(said: Said) -> dict[str, str]:
            root = parse(said.body)
            told = root.findtext("ChecksumSHA256", "")
            checksum = {"ChecksumSHA256": told} if told else {}
            return {"PartNumber": str(number), "ETag": need_text(root, "ETag"), **checksum}

        return self._ask(to.of, request, read)

    def complete(self, upload: Upload, parts: list[dict[str, str]]) -> str:
        """The checksum of the parts' checksums, "" when the server tells none."""
        body = render_parts(parts)
        sha256, seconds = hashlib.sha256(body).hexdigest(), self._copy_seconds
        request = Request("POST", upload.of.name, upload.query(), {}, body, sha256, seconds)

        def read(said: Said) -> str:
            root = parse(said.body)
            need_text(root, "ETag")
            return root.findtext("ChecksumSHA256", "")

        return self._ask(upload.of, request, read)

    def abort(self, upload: Upload) -> None:
        request = Request("DELETE", upload.of.name, upload.query())
        self._ask(upload.of, request, lambda said: None)

    def rows(self, prefix: str) -> Iterator[Listed]:
        """A fifth of boto3's processor time, most of which goes into the dates."""
        query = [("list-type", "2"), ("encoding-type", "url"), ("prefix", prefix)]

        def read(said: Said) -> Rows[Listed]:
            page = parse_page(said.body)
            rows = [Listed(row.key, row.size_bytes, row.modified_at) for row in page.rows]
            return rows, page.following

        return self._pages(Object(prefix, ""), query, read)

    def uploads(self, prefix: str) -> Iterator[UploadRow]:
        query = [("uploads", ""), ("encoding-type", "url"), ("prefix", prefix)]
        return self._pages(Object(prefix, ""), query, lambda said: parse_uploads(said.body))

    def parts(self, upload: Upload) -> Iterator[PartRow]:
        return self._pages(upload.of, [*upload.query()], lambda said: parse_parts(said.body))

    def _pages(
        self, of: Object, query: list[tuple[str, str]], read: Callable[[Said], Rows[R]]
    ) -> Iterator[R]:
        following: list[tuple[str, str]] | None = []
        while following is not None:
            request = Request("GET", of.name, [*query, *following])
            rows, following = self._ask(of, request, read)
            yield from rows

    def _seen(self, it: Object) -> Mapping[str, str]:
        """Nothing of what is gone by now, or not this caller's to see."""
        try:
            return self._direct.tried(it.name, lambda: self._direct.head(it.name, TELL))
        except LeewardError as error:
            if error.retryable:
                raise
            return {}

    def _ask(
        self, about: Object, request: Request, read: Callable[[Said], T], *, creating: bool = False
    ) -> T:
        def once() -> T:
            with in_our_words(about.key, creating=creating):
                return read(self._direct.call(request))

        return self._direct.tried(about.name, once)


def at_rest(kms_key_id: str | None, *, s3_key: bool = False) -> dict[str, str]:
    """Nothing where the bucket's own default counts; `s3_key`: by a key of S3's own."""
    if s3_key:
        return {"x-amz-server-side-encryption": "AES256"}
    if not kms_key_id:
        return {}
    return {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": kms_key_id,
        "x-amz-server-side-encryption-bucket-key-enabled": "true",
    }


def _source(source: Object, bucket: str) -> dict[str, str]:
    return {"x-amz-copy-source": encode_path(f"/{bucket}/{source.name}")}


def _checksum(digest: bytes) -> dict[str, str]:
    return {**SENT_CHECKED, CHECKSUM: _encoded(digest)}


def _told_checksum(said: Said) -> str:
    return said.headers.get(CHECKSUM, "")


def _encoded(digest: bytes) -> str:
    return b64encode(digest).decode()
