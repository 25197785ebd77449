"""The objects of a page read all at once, where each of them is written like the first.

An XML parser takes most of the time of a sync in which nothing has changed. What stands here reads
only what cannot be mistaken: ASCII, no references but those around an ETag, every tag accounted
for. Any other page is the parser's, and so is what remains of this one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

ITEM = "Contents"
BEGIN, END = f"<{ITEM}>", f"</{ITEM}>"
WANTED = ("Key", "Size", "ETag", "LastModified", "StorageClass")
NEEDED = frozenset(("Key", "Size", "LastModified"))
_TAG = re.compile(r"<(\w+)>")
_TEXT = r"([^<>&\0-\x1f]*)"
_VALUES = {
    "Size": r"(\d+)",
    "ETag": r'(?:&quot;|&#34;|")?([^<>&"\0-\x1f]*)(?:&quot;|&#34;|")?',
}
# Of the objects of one bucket some may have a checksum and others none.
_CHECKSUM = "</Checksum"
_CHECKSUMS = (
    r"(?:<ChecksumAlgorithm>\w*</ChecksumAlgorithm>\s*|<ChecksumType>\w*</ChecksumType>\s*)*"
)


class Items(NamedTuple):
    """`texts`: of each object its key, size, ETag without quotes, time and storage class, "" for
    the last two of those it may lack. `rest`: the page with one empty object in their place."""

    texts: list[tuple[str, str, str, str, str]]
    rest: bytes


class _Shape(NamedTuple):
    pattern: re.Pattern[str]
    in_order: Callable[[Any], Any]
    tags: int


def cut_items(page: bytes) -> Items | None:
    """None: there is something in it that only a parser understands."""
    if not page.isascii():
        return None
    text = page.decode("ascii")
    begin, end = text.find(BEGIN), text.rfind(END)
    if begin < 0 or end < begin:
        return None
    shape = _shape_of(tuple(_TAG.findall(text, begin + len(BEGIN), text.find(END))))
    if shape is None:
        return None
    middle = text[begin : end + len(END)]
    found = shape.pattern.findall(middle)
    if middle.count("<") != len(found) * shape.tags + 2 * middle.count(_CHECKSUM):
        return None
    rest = f"{text[:begin]}<{ITEM}/>{text[end + len(END) :]}"
    if "<!" in rest:
        return None
    return Items(list(map(shape.in_order, found)), rest.encode())


@lru_cache(maxsize=64)
def _shape_of(names: tuple[str, ...]) -> _Shape | None:
    """Of objects whose elements are these, in this order."""
    fixed = [name for name in names if not name.startswith("Checksum")]
    if len(fixed) != len(set(fixed)) or not NEEDED.issubset(fixed):
        return None
    after = {"ETag": _CHECKSUMS}
    elements = (f"<{name}>{_value(name)}</{name}>\\s*{after.get(name, '')}" for name in fixed)
    lacking = [name for name in WANTED if name not in fixed]
    told = [name for name in fixed if name in WANTED] + lacking
    written = rf"{BEGIN}\s*{''.join(elements)}{END}{'()' * len(lacking)}"
    places = itemgetter(*(told.index(name) for name in WANTED))
    return _Shape(re.compile(written), places, 2 * len(fixed) + 2)


def _value(name: str) -> str:
    return _VALUES.get(name, _TEXT if name in WANTED else _TEXT.strip("()"))
