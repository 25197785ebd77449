"""The rows of a page read all at once, where each of them is written like the first of its kind.

An XML parser takes most of the time of a sync in which nothing has changed. What stands here reads
only what cannot be mistaken: ASCII, no references but those around an ETag, every tag accounted
for. Any other page is the parser's, and so is what remains of this one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from operator import itemgetter
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """An element of a page. `wanted`: what is read of it, "" where it lacks one that it does not
    need; the first is never empty."""

    tag: str
    wanted: tuple[str, ...]
    needed: frozenset[str]


OBJECT = Kind(
    "Contents",
    ("Key", "Size", "ETag", "LastModified", "StorageClass"),
    frozenset(("Key", "Size", "LastModified")),
)
VERSION = Kind(
    "Version",
    ("Key", "VersionId", "IsLatest", "LastModified", "Size", "ETag", "StorageClass"),
    frozenset(("Key", "LastModified", "Size")),
)
MARKER = Kind(
    "DeleteMarker",
    ("Key", "VersionId", "IsLatest", "LastModified"),
    frozenset(("Key", "LastModified")),
)

_TAG = re.compile(r"<(/?\w+)>")
_TEXT = r"([^<>&\0-\x1f]*)"
_NOT_EMPTY = r"([^<>&\0-\x1f]+)"
_VALUES = {
    "Key": _NOT_EMPTY,
    "Size": r"(\d+)",
    "ETag": r'(?:&quot;|&#34;|")?([^<>&"\0-\x1f]*)(?:&quot;|&#34;|")?',
}
# Of the objects of one bucket some may have a checksum and others none.
_CHECKSUM = "</Checksum"
_CHECKSUMS = (
    r"(?:<ChecksumAlgorithm>\w*</ChecksumAlgorithm>\s*|<ChecksumType>\w*</ChecksumType>\s*)*"
)

Texts = tuple[str, ...]


class Items(NamedTuple):
    """`texts`: what is wanted of each row, in the page's order; an ETag is without its quotes.
    `rest`: the page with one empty element of the first kind in their place."""

    texts: list[Texts]
    rest: bytes


class _Shape(NamedTuple):
    """`order`: places of what is wanted among the groups of the pattern."""

    pattern: str
    order: tuple[int, ...]
    tags: int


class _Reader(NamedTuple):
    """`kinds`: of each its getter, the place of its first group, and its tags."""

    pattern: re.Pattern[str]
    kinds: tuple[tuple[Callable[[Any], Texts], int, int], ...]


def cut_items(page: bytes, *kinds: Kind) -> Items | None:
    """None: there is something in it that only a parser understands."""
    if not page.isascii():
        return None
    text = page.decode("ascii")
    there = [kind for kind in kinds if f"<{kind.tag}>" in text]
    reader = _reader_of(tuple((kind, _first_of(text, kind.tag)) for kind in there))
    if reader is None:
        return None
    begin = min(text.find(f"<{kind.tag}>") for kind in there)
    end = max(text.rfind(f"</{kind.tag}>") + len(kind.tag) + 3 for kind in there)
    middle = text[begin:end]
    found = reader.pattern.findall(middle)
    texts, tags = _in_order(found, reader)
    if middle.count("<") != tags + 2 * middle.count(_CHECKSUM):
        return None
    rest = f"{text[:begin]}<{kinds[0].tag}/>{text[end:]}"
    if "<!" in rest:
        return None
    return Items(texts, rest.encode())


def _in_order(found: list[Texts], reader: _Reader) -> tuple[list[Texts], int]:
    """What is wanted, and how many tags that accounts for."""
    if len(reader.kinds) == 1:
        [(wanted, _, tags)] = reader.kinds
        return list(map(wanted, found)), len(found) * tags
    (one, place, tags), (other, _, other_tags) = reader.kinds
    texts = [one(groups) if groups[place] else other(groups) for groups in found]
    of_one = sum(bool(groups[place]) for groups in found)
    return texts, of_one * tags + (len(found) - of_one) * other_tags


def _first_of(text: str, tag: str) -> tuple[str, ...]:
    """The tags inside of the first element, "/Key" for one that closes."""
    begin = text.find(f"<{tag}>") + len(tag) + 2
    return tuple(_TAG.findall(text, begin, text.find(f"</{tag}>", begin)))


@lru_cache(maxsize=64)
def _reader_of(seen: tuple[tuple[Kind, tuple[str, ...]], ...]) -> _Reader | None:
    shapes = [_shape_of(kind, tags) for kind, tags in seen]
    sound = [shape for shape in shapes if shape is not None]
    if not sound or len(sound) < len(shapes):
        return None
    starts = accumulate((len(shape.order) for shape in sound), initial=0)
    kinds = tuple(
        (itemgetter(*(start + place for place in shape.order)), start + shape.order[0], shape.tags)
        for start, shape in zip(starts, sound, strict=False)
    )
    return _Reader(re.compile("|".join(shape.pattern for shape in sound)), kinds)


def _shape_of(kind: Kind, tags: tuple[str, ...]) -> _Shape | None:
    """Of elements that hold these tags in this order; None when something needed is not there, or
    something wanted is there twice."""
    written, told, depth, count, place = "", list[str](), 0, 2, 0
    while place < len(tags):
        name = tags[place]
        if tags[place + 1 : place + 2] != (f"/{name}",):
            written += f"<{name}>\\s*"
            depth, count, place = depth + (-1 if name[0] == "/" else 1), count + 1, place + 1
            continue
        place += 2
        if name.startswith("Checksum"):
            continue
        is_wanted = depth == 0 and name in kind.wanted
        told += [name] * is_wanted
        count += 2
        value = _VALUES.get(name, _TEXT) if is_wanted else _TEXT.strip("()")
        after = _CHECKSUMS if name == "ETag" else ""
        written += f"<{name}>{value}</{name}>\\s*{after}"
    if depth or len(told) != len(set(told)) or not kind.needed.issubset(told):
        return None
    told += (lacking := [name for name in kind.wanted if name not in told])
    pattern = rf"<{kind.tag}>\s*{written}</{kind.tag}>\s*{'()' * len(lacking)}"
    return _Shape(pattern, tuple(told.index(name) for name in kind.wanted), count)
