"""WAL segments in a folder as pg_waldump's text, streamed."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chalicelib.adapters.postgres.binaries import Binaries
from chalicelib.adapters.postgres.wal_record import read_record, read_segment_bytes, sequence_value
from chalicelib.errors import Damaged
from chalicelib.plan.records import format_lsn
from chalicelib.plan.wal import segment_name

CHUNK_BYTES = 1 << 20
# The resource managers whose records say who changed which rows, made or dropped which files, set
# which sequences.
MANAGERS = ("Heap", "Heap2", "Transaction", "Storage", "Standby", "Database", "Sequence")


class PgWaldump:
    """The port WalText over the segments of one folder (complete ones, named as in pg_wal)."""

    def __init__(self, binaries: Binaries, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self._segment_bytes = 0

    def dump(self, timeline: int, start_lsn: int, end_lsn: int) -> Iterator[bytes]:
        command = [
            str(self._binaries.tool("pg_waldump")),
            f"--path={self._folder}",
            f"--timeline={timeline}",
            f"--start={format_lsn(start_lsn)}",
            f"--end={format_lsn(end_lsn)}",
            *(f"--rmgr={name}" for name in MANAGERS),
            *self._ends(timeline, start_lsn, end_lsn),
        ]
        # pg_waldump prints commit times in the process's own zone.
        environment = self._binaries.environment() | {"TZ": "UTC0"}
        with tempfile.TemporaryFile() as complaints:
            with subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=complaints,
                pipesize=CHUNK_BYTES,  # so that it prints on while the last chunk is read
            ) as process:
                try:
                    yield from _whole_lines(process)
                finally:
                    process.kill()
            if process.returncode != 0:
                complaints.seek(0)
                raise _unreadable(complaints.read(), start_lsn, end_lsn)

    def sequence_value(self, timeline: int, lsn: int) -> int:
        try:
            size = self._size_of_segments(timeline)
            return sequence_value(read_record(self._folder, timeline, lsn, size))
        except (OSError, struct.error) as error:
            raise _unreadable(str(error).encode(), lsn, lsn) from error

    def _ends(self, timeline: int, start_lsn: int, end_lsn: int) -> list[str]:
        """The first and the last segment, when both are there. Without their names pg_waldump takes
        the size of segments from whichever file it meets first, which a server may have set aside
        for later and be empty (pg_waldump.c)."""
        try:
            size = self._size_of_segments(timeline)
        except OSError:
            return []
        ends = [
            segment_name(timeline, lsn, size) for lsn in (start_lsn, max(start_lsn, end_lsn - 1))
        ]
        return ends if all((self._folder / name).is_file() for name in ends) else []

    def _size_of_segments(self, timeline: int) -> int:
        if not self._segment_bytes:
            self._segment_bytes = read_segment_bytes(self._folder, timeline)
        return self._segment_bytes


def _whole_lines(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert process.stdout is not None
    rest = b""
    while chunk := process.stdout.read(CHUNK_BYTES):
        lines, newline, tail = chunk.rpartition(b"\n")
        if newline:
            yield rest + lines + newline
            rest = tail
        else:
            rest += chunk
    if rest:
        yield rest
    process.wait()


def _unreadable(complaint: bytes, start_lsn: int, end_lsn: int) -> Damaged:
    said = complaint.decode(errors="replace").strip().splitlines()
    return Damaged(
        f"expected readable WAL from {format_lsn(start_lsn)} to {format_lsn(end_lsn)}: "
        f"{said[-1] if said else 'pg_waldump ended early'}",
        code="wal-unreadable",
        hint="Look at the WAL inventory for a gap or a damaged segment.",
    )
