"""Where stored WAL ends in order: after a whole record, or in one that the last tick cut. Pure.

What PostgreSQL would not replay although all of it is stored is damaged, however little it is.
Source: PostgreSQL, src/include/access/xlogrecord.h and xlog_internal.h (headers of records and
pages); records begin at multiples of 8 and go on after the header of each page they run into.
"""

from __future__ import annotations

import struct

PAGE_BYTES = 8192
# SizeOfXLogShortPHD; SizeOfXLogLongPHD on the first page of a segment.
PAGE_HEADER_BYTES = 24
SEGMENT_HEADER_BYTES = 40
RECORD_HEADER_BYTES = 24
# XLogRecordMaxSize, and the room of its pages' headers.
LARGEST_RECORD_BYTES = 1 << 30


def next_record(lsn: int, segment_bytes: int) -> int:
    """Where the record after one that ended at `lsn` begins."""
    if lsn % PAGE_BYTES:
        return lsn
    return lsn + (PAGE_HEADER_BYTES if lsn % segment_bytes else SEGMENT_HEADER_BYTES)


def is_cut(segment: bytes, lsn: int, end_lsn: int) -> bool:
    """Whether the record after `lsn`, the end of the last one replayed, is not stored whole.

    Args:
        segment: the content of the segment in which that record begins.
        end_lsn: up to where WAL is stored.
    """
    begins = next_record(lsn, len(segment))
    if begins + RECORD_HEADER_BYTES > end_lsn:
        return True
    length, _, before = struct.unpack_from("=IIQ", segment, begins % len(segment))
    # Zeros and garbage are no head of a record, which names the one before it.
    if length < RECORD_HEADER_BYTES or not 0 < lsn - before <= LARGEST_RECORD_BYTES:
        return False
    return _end_of_record(begins, length, len(segment)) > end_lsn


def _end_of_record(begins: int, length: int, segment_bytes: int) -> int:
    at, left = begins, length
    while left > (room := PAGE_BYTES - at % PAGE_BYTES):
        at, left = next_record(at + room, segment_bytes), left - room
    return at + left
