"""S3's XML, in and out, without losing a key or the order of versions and markers.

Keys in listings are asked for in percent-encoding (encoding-type=url), because XML 1.0 has no
form for most control characters; the server says in the page whether it obeyed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from chalicelib.adapters.s3.items import MARKER, OBJECT, VERSION, Kind, Texts, cut_items
from chalicelib.errors import Unavailable
from chalicelib.ports.buckets import KeyFailure, ObjectRow, VersionRow

_NAMESPACE = re.compile(rb'\sxmlns="[^"]*"')
# Characters that XML 1.0 cannot hold, and those that come back changed where a server writes them
# without a reference (moto: a carriage return).
NOT_IN_XML = re.compile("[\0-\x1f\ud800-\udfff\ufffe\uffff]")


# What moto calls its list of parts.
MOTOS_PARTS = "ListPartsResponse"


class Page(NamedTuple):
    """One page of a listing; `following` are the query pairs of the next one, None at the end."""

    rows: list[ObjectRow]
    prefixes: list[str]
    following: list[tuple[str, str]] | None


class VersionPage(NamedTuple):
    rows: list[VersionRow]
    following: list[tuple[str, str]] | None
    prefixes: list[str]


class UploadRow(NamedTuple):
    """An upload that is not ended."""

    name: str
    upload_id: str
    begun_at: datetime


class PartRow(NamedTuple):
    """`sha256`: in base64, "" where the server tells none."""

    number: int
    size_bytes: int
    etag: str
    sha256: str


class ServerError(NamedTuple):
    code: str
    message: str
    region: str


def parse(body: bytes) -> ElementTree.Element:
    """Raises Unavailable (retryable): half an answer is what a broken server sends."""
    try:
        return ElementTree.fromstring(_NAMESPACE.sub(b"", body, count=1))
    except ElementTree.ParseError as error:
        raise Unavailable(
            f"expected XML from s3, found {body[:80]!r}",
            code="answer-unreadable",
            hint="It is tried again; look at what stands between here and S3 when it repeats.",
        ) from error


def parse_error(body: bytes) -> ServerError:
    """Empty fields when the body is no error document."""
    try:
        root = ElementTree.fromstring(_NAMESPACE.sub(b"", body, count=1))
    except ElementTree.ParseError:
        return ServerError("", "", "")
    if root.tag != "Error":
        return ServerError("", "", "")
    return ServerError(
        root.findtext("Code", ""), root.findtext("Message", ""), root.findtext("Region", "")
    )


def parse_page(body: bytes) -> Page:
    cut, root = _cut(body, "ListBucketResult", OBJECT)
    texts = cut or [_texts(_fields(item), OBJECT) for item in root if item.tag == OBJECT.tag]
    plain = root.findtext("EncodingType") != "url"
    rows = [
        ObjectRow(_key(key, plain), int(size), etag, parse_at(at), storage or "STANDARD")
        for key, size, etag, at, storage in texts
    ]
    prefixes = [_key(item.findtext("Prefix", ""), plain) for item in root.iter("CommonPrefixes")]
    following = None
    if root.findtext("IsTruncated") == "true":
        following = [("continuation-token", need_text(root, "NextContinuationToken"))]
    return Page(rows, prefixes, following)


def parse_versions(body: bytes, *, ordered: bool) -> VersionPage:
    """`ordered`: the server is known to interleave versions and markers as they were made."""
    cut, root = _cut(body, "ListVersionsResult", VERSION, MARKER)
    plain = root.findtext("EncodingType") != "url"
    kinds = {kind.tag: kind for kind in (VERSION, MARKER)}
    texts = cut or [_texts(_fields(it), kinds[it.tag]) for it in root if it.tag in kinds]
    rows = [_version_row(one, plain) for one in texts]
    if not ordered and _is_grouped(rows):
        rows.sort(key=_newest_first)
    following = None
    if root.findtext("IsTruncated") == "true":
        following = [("key-marker", _key(need_text(root, "NextKeyMarker"), plain))]
        if version_id := root.findtext("NextVersionIdMarker"):
            # S3 refuses an empty one.
            following.append(("version-id-marker", version_id))
    prefixes = [_key(item.findtext("Prefix", ""), plain) for item in root.iter("CommonPrefixes")]
    return VersionPage(rows, following, prefixes)


def parse_uploads(body: bytes) -> tuple[list[UploadRow], list[tuple[str, str]] | None]:
    root = _expect(parse(body), "ListMultipartUploadsResult")
    plain = root.findtext("EncodingType") != "url"
    rows = [
        UploadRow(
            _key(need_text(item, "Key"), plain),
            need_text(item, "UploadId"),
            parse_at(need_text(item, "Initiated")),
        )
        for item in root.iter("Upload")
    ]
    following = None
    if root.findtext("IsTruncated") == "true":
        following = [("key-marker", _key(need_text(root, "NextKeyMarker"), plain))]
        if upload_id := root.findtext("NextUploadIdMarker"):
            following.append(("upload-id-marker", upload_id))
    return rows, following


def parse_parts(body: bytes) -> tuple[list[PartRow], list[tuple[str, str]] | None]:
    root = _expect(parse(body), "ListPartsResult", MOTOS_PARTS)
    rows = [
        PartRow(
            int(need_text(item, "PartNumber")),
            int(need_text(item, "Size")),
            need_text(item, "ETag"),
            item.findtext("ChecksumSHA256", ""),
        )
        for item in root.iter("Part")
    ]
    if root.findtext("IsTruncated") != "true":
        return rows, None
    return rows, [("part-number-marker", need_text(root, "NextPartNumberMarker"))]


def parse_deleted(
    body: bytes, asked: Sequence[tuple[str, str]]
) -> tuple[list[tuple[str, str]], list[KeyFailure]]:
    """(done, failed). What the server did not mention has failed: silence is no success."""
    root = _expect(parse(body), "DeleteResult")
    done, failed = set(), {}
    for item in root:
        key, version_id = item.findtext("Key", ""), item.findtext("VersionId", "")
        if item.tag == "Deleted":
            # SeaweedFS names a marker that it removed here alone; S3 names it in both.
            done.add((key, version_id or item.findtext("DeleteMarkerVersionId", "")))
            done.add((key, version_id))
        elif item.tag == "Error":
            code, message = item.findtext("Code", ""), item.findtext("Message", "")
            failed[key, version_id] = KeyFailure(key, version_id, code, message)
    missing = [pair for pair in asked if pair not in done and pair not in failed]
    silent = [KeyFailure(key, version, "no-answer") for key, version in missing]
    return [pair for pair in asked if pair in done], [*failed.values(), *silent]


def parse_tags(body: bytes) -> dict[str, str]:
    root = _expect(parse(body), "Tagging")
    return {tag.findtext("Key", ""): tag.findtext("Value", "") for tag in root.iter("Tag")}


def render_delete(pairs: Iterable[tuple[str, str]]) -> bytes:
    from html import escape

    objects = "".join(
        f"<Object><Key>{escape(key)}</Key>"
        + (f"<VersionId>{escape(version_id)}</VersionId>" if version_id else "")
        + "</Object>"
        for key, version_id in pairs
    )
    return f"<Delete>{objects}</Delete>".encode()


def render_parts(parts: Iterable[Mapping[str, str]]) -> bytes:
    """`parts`: each with PartNumber, ETag and perhaps checksums, in order."""
    from html import escape

    items = "".join(
        "<Part>" + "".join(f"<{n}>{escape(v)}</{n}>" for n, v in part.items()) + "</Part>"
        for part in parts
    )
    return f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()


@lru_cache(maxsize=4096)
def parse_at(text: str) -> datetime:
    """What was written together has one time, and a listing names it for each."""
    return datetime.fromisoformat(text).astimezone(UTC)


def need_text(root: ElementTree.Element, tag: str) -> str:
    """Raises Unavailable without it: a page that does not lead to the next would end a listing."""
    found = root.findtext(tag)
    if not found:
        raise Unavailable(
            f"expected {tag} from s3, found {root.tag} without it",
            code="answer-unreadable",
            hint="It is tried again; the server breaks S3's protocol when it repeats.",
        )
    return found


def _expect(root: ElementTree.Element, tag: str, other: str = "") -> ElementTree.Element:
    if root.tag not in (tag, other):
        raise Unavailable(
            f"expected {tag} from s3, found {root.tag} {root.findtext('Code', '')}".rstrip(),
            code="answer-unreadable",
            hint="It is tried again; look at what stands between here and S3 when it repeats.",
        )
    return root


def _fields(item: ElementTree.Element) -> dict[str, str]:
    return {child.tag: child.text or "" for child in item}


def _key(text: str, plain: bool) -> str:
    return text if plain or not ("%" in text or "+" in text) else unquote_plus(text)


def _cut(body: bytes, name: str, *kinds: Kind) -> tuple[list[Texts], ElementTree.Element]:
    """The rows that could be read at once, none when the parser must; and the page, or its rest."""
    if cut := cut_items(body, *kinds):
        root, tags = _expect(parse(cut.rest), name), {kind.tag for kind in kinds}
        if sum(item.tag in tags for item in root) == 1:
            return cut.texts, root
    # There is nothing to cut, it is inside of something else, or not all of it was cut.
    return [], _expect(parse(body), name)


def _texts(fields: dict[str, str], kind: Kind) -> Texts:
    """As Items has them."""
    found = {"ETag": fields.get("ETag", "").strip('"')}
    return tuple(
        found.get(name, fields[name] if name in kind.needed else fields.get(name, ""))
        for name in kind.wanted
    )


def _version_row(texts: Texts, plain: bool) -> VersionRow:
    """A marker has the first four alone."""
    if len(texts) == len(MARKER.wanted):
        key, version_id, latest, at = texts
        return VersionRow(
            _key(key, plain), version_id or "null", latest == "true", True, parse_at(at)
        )
    key, version_id, latest, at, size, etag, storage = texts
    return VersionRow(
        _key(key, plain), version_id or "null", latest == "true", False, parse_at(at),
        int(size), etag, storage or "STANDARD",
    )  # fmt: skip


def _is_grouped(rows: Sequence[VersionRow]) -> bool:
    """All versions of the page, then all its markers, as moto gives them."""
    turns = [one.is_marker for one, other in pairwise(rows) if one.is_marker != other.is_marker]
    return turns == [False]


def _newest_first(row: VersionRow) -> tuple[bytes, bool, float]:
    return row.key.encode(), not row.is_latest, -row.modified_at.timestamp()
