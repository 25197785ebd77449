"""Where stored WAL ends in order: after a whole record, or in one that was cut."""

from __future__ import annotations

import struct

import pytest

from chalicelib.recover.database.wal_end import is_cut, next_record

SEGMENT = 1 << 20
# The last record that was replayed: from 400 to 496 bytes into the second segment.
LSN = SEGMENT + 496


def stored(length: int, *, before: int = SEGMENT + 400, lsn: int = LSN) -> bytes:
    segment = bytearray(SEGMENT)
    struct.pack_into("=IIQ", segment, next_record(lsn, SEGMENT) % SEGMENT, length, 700, before)
    return bytes(segment)


def test_a_record_begins_after_the_header_of_its_page() -> None:
    assert next_record(LSN, SEGMENT) == LSN
    assert next_record(SEGMENT + 8192, SEGMENT) == SEGMENT + 8192 + 24
    assert next_record(2 * SEGMENT, SEGMENT) == 2 * SEGMENT + 40


@pytest.mark.parametrize("left", [0, 1, 23])
def test_a_head_that_is_not_whole_is_cut(left: int) -> None:
    assert is_cut(stored(100), LSN, LSN + left)


def test_a_record_is_cut_when_its_last_byte_is_not_stored() -> None:
    assert is_cut(stored(100), LSN, LSN + 99)
    assert not is_cut(stored(100), LSN, LSN + 100)


def test_a_record_goes_on_after_the_header_of_the_next_page() -> None:
    length = 8192 - 496 + 10
    ends = SEGMENT + 8192 + 24 + 10
    assert is_cut(stored(length), LSN, ends - 1)
    assert not is_cut(stored(length), LSN, ends)


def test_at_the_start_of_a_page_and_of_a_segment() -> None:
    page, segment = SEGMENT + 8192, 2 * SEGMENT
    assert not is_cut(stored(50, lsn=page), page, page + 24 + 50)
    assert is_cut(stored(50, lsn=segment, before=segment - 60), segment, segment + 40 + 49)


@pytest.mark.parametrize(
    ("length", "before"),
    [(0, 0), (0, SEGMENT + 400), (0xDEADBEEF, 0xDEADBEEFDEADBEEF), (9000, LSN + 8), (9000, LSN)],
)
def test_what_is_no_head_of_a_record_was_not_cut(length: int, before: int) -> None:
    assert not is_cut(stored(length, before=before), LSN, LSN + 4096)
