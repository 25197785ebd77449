"""Pages of objects and of versions read at once, against the same pages read by the XML parser."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.adapters.s3.items import MARKER, OBJECT, VERSION, cut_items
from chalicelib.adapters.s3.xml import Page, VersionPage, parse_page, parse_versions
from chalicelib.errors import Unavailable
from chalicelib.ports.buckets import ObjectRow, VersionRow

AWS = ("Key", "LastModified", "ETag", "Size", "StorageClass")
SEAWEEDFS = ("Key", "ETag", "Size", "StorageClass", "LastModified")
CHECKSUM = (
    "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
)
VALUES = {
    "Key": "a/b.jpg", "LastModified": "2026-11-22T08:30:00.000Z", "Size": "4096",
    "ETag": "&quot;d41d8cd98f00b204e9800998ecf8427e&quot;", "StorageClass": "STANDARD_IA",
    "Generation": "17", "Owner": "<ID>x</ID><DisplayName>y</DisplayName>",
}  # fmt: skip
ROW = ObjectRow(
    "a/b.jpg", 4096, "d41d8cd98f00b204e9800998ecf8427e",
    datetime(2026, 11, 22, 8, 30, tzinfo=UTC), "STANDARD_IA",
)  # fmt: skip
FACTS = "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
MORE = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"


def item(names: tuple[str, ...] = AWS, gap: str = "", checksum: str = "", **values: str) -> str:
    held = {**VALUES, **values}
    parts = (
        f"<{name}>{held[name]}</{name}>{checksum if name == 'ETag' else ''}{gap}" for name in names
    )
    return f"<Contents>{gap}{''.join(parts)}</Contents>{gap}"


def page(*parts: str, facts: str = FACTS) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"{facts}{''.join(parts)}</ListBucketResult>"
    ).encode()


def parsed(body: bytes) -> Page:
    """By the parser alone: a page with a comment is left to it."""
    commented = body.replace(b"</ListBucketResult>", b"<!-- --></ListBucketResult>")
    assert cut_items(commented, OBJECT) is None
    return parse_page(commented)


@pytest.mark.parametrize(
    "items",
    [
        [item(), item()],
        [item(SEAWEEDFS, ETag="&#34;d41d8cd98f00b204e9800998ecf8427e&#34;")],
        [item(gap="\n  "), item(gap="\n  ")],
        [item(), item(checksum=CHECKSUM), item(checksum=CHECKSUM * 2)],
        [item(checksum=CHECKSUM), item()],
        [item((*AWS, "Generation")), item((*AWS, "Generation"))],
        [item(("Key", "Size", "LastModified")), item(("Key", "Size", "LastModified"))],
        [item(ETag='"x"', StorageClass=""), item(ETag="y")],
    ],
)
def test_what_servers_write_is_read_at_once_and_as_the_parser_reads_it(items: list[str]) -> None:
    body = page(*items)
    assert cut_items(body, OBJECT) is not None
    assert parse_page(body) == parsed(body)
    assert len(parse_page(body).rows) == len(items)


def test_rows_hold_what_the_page_says() -> None:
    assert parse_page(page(item(), facts=FACTS)).rows == [ROW]
    bare = parse_page(page(item(("Key", "Size", "LastModified")))).rows
    assert bare == [ROW._replace(etag="", storage_class="STANDARD")]
    assert parse_page(page()).rows == []


@pytest.mark.parametrize(
    "body",
    [
        page(item(), item((*AWS, "Owner"))),
        page(item((*AWS, "Owner"))),
        page(item(), item(SEAWEEDFS)),
        page(item(), MORE, item(), facts=""),
        page(item(), "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>", item()),
        page(item(Key="a&amp;b"), facts=""),
        page(item(), item(Key="<![CDATA[a<b]]>")),
        page("<!-- ", item(Key="gone"), " -->", item()),
        page("<Other>", item(Key="gone"), "</Other>"),
        page(item().replace("<Size>", "<Key>another</Key><Size>")),
        page(item(Key="ü")),
        page(item().replace("<Contents>", '<Contents a="b">'), item()),
    ],
)
def test_what_is_written_otherwise_is_the_parser_s(body: bytes) -> None:
    """Least of all may a page lose what leads to the next one."""
    assert parse_page(body) == parsed(body)


@pytest.mark.parametrize(
    "body",
    [
        page(item())[:-30],
        page(item(), item()[:-20]),
        page(item(), item(Key="a\x01b")),
        page(item(), "</Wrong>"),
        page(item(), item(Key="a<b")),
        page(item(), facts="<IsTruncated>true</IsTruncated>"),
        b"<Error>" + item().encode() + b"</Error>",
    ],
)
def test_half_a_page_is_no_page(body: bytes) -> None:
    with pytest.raises(Unavailable):
        parse_page(body)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(
    keys=st.lists(NAMES | st.sampled_from(["a//b", "./z", "x/../y", "100%", "a+b", "&", "]]>"])),
    names=st.permutations([*AWS, "Generation"]),
    encoded=st.booleans(),
    gap=st.sampled_from(["", "\n", " "]),
    checksums=st.lists(st.booleans(), min_size=1),
    truncated=st.booleans(),
)
def test_every_key_comes_out_as_it_went_in(
    keys: list[str], names: list[str], encoded: bool, gap: str, checksums: list[bool],
    truncated: bool,
) -> None:  # fmt: skip
    items = [
        item(
            tuple(names), gap, CHECKSUM if checksums[number % len(checksums)] else "",
            Key=quote_plus(key) if encoded else escape(key), Size=str(number),
        )
        for number, key in enumerate(keys)
    ]  # fmt: skip
    encoding = "<EncodingType>url</EncodingType>" if encoded else ""
    end = MORE if truncated else "<IsTruncated>false</IsTruncated>"
    body = page(*items, end, facts=encoding)
    found = parse_page(body)
    assert [(row.size_bytes, row.key) for row in found.rows] == list(enumerate(keys))
    assert found == parsed(body)
    assert (found.following is not None) == truncated


OWNER = "<Owner><ID>x</ID><DisplayName>y</DisplayName></Owner>"
AT = "2026-11-22T08:30:00.000Z"


def version(key: str = "a", number: int = 1, latest: bool = True, owner: str = OWNER) -> str:
    """As S3 writes it."""
    return (
        f"<Version><Key>{key}</Key><VersionId>v{number}</VersionId>"
        f"<IsLatest>{str(latest).lower()}</IsLatest><LastModified>{AT}</LastModified>"
        f"<ETag>&quot;e{number}&quot;</ETag><Size>{number}</Size>{owner}"
        "<StorageClass>STANDARD</StorageClass></Version>"
    )


def marker(key: str = "a", number: int = 1, latest: bool = True, owner: str = OWNER) -> str:
    return (
        f"<DeleteMarker><Key>{key}</Key><VersionId>v{number}</VersionId>"
        f"<IsLatest>{str(latest).lower()}</IsLatest><LastModified>{AT}</LastModified>{owner}"
        "</DeleteMarker>"
    )


def versions(*parts: str, facts: str = FACTS) -> bytes:
    return page(*parts, facts=facts).replace(b"ListBucketResult", b"ListVersionsResult")


def parsed_versions(body: bytes, *, ordered: bool = True) -> VersionPage:
    """By the parser alone."""
    commented = body.replace(b"</ListVersionsResult>", b"<!-- --></ListVersionsResult>")
    assert cut_items(commented, VERSION, MARKER) is None
    return parse_versions(commented, ordered=ordered)


def test_versions_and_markers_hold_what_the_page_says_in_its_order() -> None:
    body = versions(marker("a", 3), version("a", 2, latest=False), version("b", 1))
    at = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
    assert cut_items(body, VERSION, MARKER) is not None
    assert parse_versions(body, ordered=True).rows == [
        VersionRow("a", "v3", True, True, at),
        VersionRow("a", "v2", False, False, at, 2, "e2", "STANDARD"),
        VersionRow("b", "v1", True, False, at, 1, "e1", "STANDARD"),
    ]


@pytest.mark.parametrize(
    ("body", "at_once"),
    [
        (versions(marker(), marker("b")), True),
        (versions(version(), version("b")), True),
        (versions(version(), version("b"), marker("a", 2), marker("c")), True),
        (versions(version(owner=""), marker(owner="")), True),
        (versions(version().replace("<VersionId>v1", "<VersionId>")), True),
        (versions(version(), "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"), True),
        (versions(), False),
        (versions(version(), version("b", owner="")), False),
        (versions(version(), marker(), marker("b", owner="")), False),
        (versions(version(), "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>", marker("c")),
         False),
        (versions(version(owner="<Owner><Key>z</Key><ID>x</ID></Owner>")), True),
        (versions(version().replace("<Size>", "<Key>z</Key><Size>")), False),
        (versions(version().replace("<Version>", '<Version a="b">'), version("b")), True),
        (versions(version("&amp;"), marker(), facts=""), False),
    ],
)  # fmt: skip
def test_versions_are_what_the_parser_finds(body: bytes, at_once: bool) -> None:
    assert (cut_items(body, VERSION, MARKER) is not None) is at_once
    for ordered in (True, False):
        assert parse_versions(body, ordered=ordered) == parsed_versions(body, ordered=ordered)


@pytest.mark.parametrize(
    "body",
    [
        versions(version())[:-30],
        versions(version(), marker()[:-20]),
        versions(version(), "</Wrong>", marker()),
        versions(version("a<b")),
        versions(marker(), facts="<IsTruncated>true</IsTruncated>"),
        page(version()),
    ],
)
def test_half_a_page_of_versions_is_no_page(body: bytes) -> None:
    with pytest.raises(Unavailable):
        parse_versions(body, ordered=True)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(NAMES, st.booleans(), st.booleans())),
    encoded=st.booleans(),
    owners=st.lists(st.booleans(), min_size=1, max_size=3),
)
def test_every_version_comes_out_as_it_went_in(
    rows: list[tuple[str, bool, bool]], encoded: bool, owners: list[bool]
) -> None:
    made = [
        (marker if is_marker else version)(
            quote_plus(key) if encoded else escape(key), number, latest,
            OWNER if owners[number % len(owners)] else "",
        )
        for number, (key, is_marker, latest) in enumerate(rows)
    ]  # fmt: skip
    body = versions(*made, facts="<EncodingType>url</EncodingType>" if encoded else "")
    found = parse_versions(body, ordered=True)
    assert [(it.key, it.is_marker, it.is_latest) for it in found.rows] == rows
    assert [it.version_id for it in found.rows] == [f"v{number}" for number in range(len(rows))]
    assert found == parsed_versions(body)
