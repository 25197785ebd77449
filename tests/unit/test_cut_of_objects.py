"""How large objects are cut within what S3 takes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from chalicelib.adapters.s3.cut import Cut, cut_of
from chalicelib.adapters.s3.store import PART_BYTES
from chalicelib.adapters.s3.writer import PARTS_PER_SIZE

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
TODAY = Cut(PART_BYTES, PARTS_PER_SIZE)


def test_ten_thousand_parts_hold_almost_five_tebibytes() -> None:
    parts = list(TODAY.parts(49 * TIB // 10 - 40 * GIB))
    assert len(parts) <= 10_000
    assert parts[0].end == 5 * MIB, "S3 refuses smaller ones"
    assert max(part.end - part.start for part in parts) <= 5 * GIB


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 5 * MIB + 1, 12 * GIB + 7])
def test_the_parts_are_the_object(size: int) -> None:
    parts = list(TODAY.parts(size))
    assert sum(part.end - part.start for part in parts) == size
    assert all(one.end == other.start for one, other in pairwise(parts))
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))


def test_an_object_tells_its_cut() -> None:
    assert cut_of(TODAY.header) == TODAY
    assert cut_of({}) == Cut(16 * MIB, 1500)
