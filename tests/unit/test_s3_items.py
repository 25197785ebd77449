"""Pages of listings read at once, against the same pages read by the XML parser."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.adapters.s3.items import cut_items
from chalicelib.adapters.s3.xml import Page, parse_page
from chalicelib.errors import Unavailable
from chalicelib.ports.buckets import ObjectRow

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
    assert cut_items(commented) is None
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
    assert cut_items(body) is not None
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
