"""How an object that was sent in parts was cut, which the object itself tells.

S3's checksum of such an object is of its parts' checksums: a copy has the same one only when it is
cut alike, whatever the sizes are that are sent today.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chalicelib.adapters.s3.facts import META

CUT = f"{META}leeward-cut"


@dataclass(frozen=True)
class Part:
    """`number` counts from 1."""

    number: int
    start: int
    end: int

    @property
    def span(self) -> str:
        return f"bytes={self.start}-{self.end - 1}"


@dataclass(frozen=True)
class Cut:
    """Parts of `smallest` bytes, of twice as many after each `per_size` of them."""

    smallest: int
    per_size: int

    def part_bytes(self, number: int) -> int:
        return self.smallest << ((number - 1) // self.per_size)

    def parts(self, size_bytes: int) -> Iterator[Part]:
        start = number = 0
        while start < size_bytes:
            number += 1
            end = min(size_bytes, start + self.part_bytes(number))
            yield Part(number, start, end)
            start = end

    @property
    def header(self) -> dict[str, str]:
        """What the object is to keep."""
        return {CUT: f"{self.smallest}/{self.per_size}"}


# Of what was sent before an object kept how.
UNTOLD = Cut(16 << 20, 1500)


def cut_of(head: Mapping[str, str]) -> Cut | None:
    """None when what the object keeps is nothing that this wrote."""
    told = head.get(CUT)
    if told is None:
        return UNTOLD
    smallest, _, per_size = told.partition("/")
    if not (smallest.isdecimal() and per_size.isdecimal() and int(smallest) and int(per_size)):
        return None
    return Cut(int(smallest), int(per_size))
