"""One record of a WAL segment, for what pg_waldump does not print of it.

Source: access/xlogrecord.h, access/xlog_internal.h, commands/sequence.h of PostgreSQL 15 to 18.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from chalicelib.plan.wal import segment_name

# xlp_magic, xlp_info, xlp_tli, xlp_pageaddr, xlp_rem_len, padded; then xlp_sysid, xlp_seg_size,
# xlp_xlog_blcksz on the first page of a segment.
_PAGE_HEADER = 24
_FIRST_HEADER = struct.Struct("=HHIQI4xQII")
_LENGTH = struct.Struct("=I")
# The last of the record is the tuple: last_value, log_cnt, is_called (FormData_pg_sequence_data).
_SEQUENCE = struct.Struct("=qq?")


def read_segment_bytes(folder: Path, timeline: int) -> int:
    """The size of a segment, by any one of them. Raises OSError when there is none."""
    found = next(folder.glob(f"{timeline:08X}????????????????"), None)
    if found is None:
        raise FileNotFoundError(f"no segment of timeline {timeline}")
    return found.stat().st_size


def read_record(folder: Path, timeline: int, lsn: int, segment_bytes: int) -> bytes:
    """The record that starts at `lsn`, without the headers of the pages that it runs over.

    Raises OSError, struct.error when the segments do not hold it.
    """
    record, length = b"", _LENGTH.size
    while len(record) < length:
        with (folder / segment_name(timeline, lsn, segment_bytes)).open("rb") as segment:
            piece, lsn = _rest_of_page(segment, lsn, segment_bytes)
        record += piece
        (length,) = _LENGTH.unpack_from(record)
    return record[:length]


def sequence_value(record: bytes) -> int:
    """Of an XLOG_SEQ_LOG: what the sequence stands at, up to 32 values ahead."""
    value, _, _ = _SEQUENCE.unpack(record[-_SEQUENCE.size :])
    return int(value)


def _rest_of_page(segment: BinaryIO, lsn: int, segment_bytes: int) -> tuple[bytes, int]:
    """The bytes from `lsn` to the end of its page, and where the next page begins."""
    *_, page_bytes = _FIRST_HEADER.unpack(segment.read(_FIRST_HEADER.size))
    offset = lsn % segment_bytes
    end = offset - offset % page_bytes + page_bytes
    if offset % page_bytes == 0:
        offset += _PAGE_HEADER if offset else _FIRST_HEADER.size
    segment.seek(offset)
    return segment.read(end - offset), lsn - lsn % page_bytes + page_bytes
