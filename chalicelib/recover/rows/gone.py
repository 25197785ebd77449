"""Which rows a transaction deleted, by their places in the data files, from pg_waldump's text.

WAL keeps no contents of deleted rows unless it is logical; it keeps their places. A server that was
replayed up to just before the commit has each of them at the same place, so that a place names its
row exactly: neither a key nor a comparison with what was written since is needed.

Source: heap_desc and heap2_desc of PostgreSQL 15 to 18 (src/backend/access/rmgrdesc/heapdesc.c);
flags from src/include/access/heapam_xlog.h.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chalicelib.errors import CheckFailed
from chalicelib.plan.records import RecoveryTarget, format_lsn
from chalicelib.recover.database.changes import FIRST_USER_NUMBER, ChangeScan, Relfile, Transaction

# XLH_DELETE_IS_PARTITION_MOVE: an update moved the row to another partition.
MOVED_TO_PARTITION = 0x10
HALF_OF_XIDS = 2**31


class Place(NamedTuple):
    """A row version: its file, page and line pointer (PostgreSQL's ctid)."""

    relfile: Relfile
    page: int
    line: int


class GoneScan:
    """Reads the places out of the WAL of one transaction.

    xids: the transaction's own, first, and those of its savepoints that were not rolled back.
    `complete` becomes true when the text began before the transaction did.
    """

    def __init__(self, xids: Iterable[int]) -> None:
        ids = tuple(xids)
        self._first = ids[0]
        self._ids = frozenset(str(xid).encode() for xid in ids)
        # Where a row that the transaction updated lay before -> by where it lies now.
        self._origin: dict[Place, Place] = {}
        self.complete = False

    def read(self, chunks: Iterable[bytes]) -> Iterator[Place]:
        """The place of each deleted row as it was before the transaction began.

        A row that the transaction itself had inserted is among them; no one can see it.

        Args:
            chunks: whole lines, in the order of the WAL.
        """
        for chunk in chunks:
            self.look_for_start(chunk)
            for found in _CHANGE.finditer(chunk):
                if found["xid"] in self._ids:
                    yield from self._change(found)

    def look_for_start(self, chunk: bytes) -> None:
        """An id that was still to be given out had written nothing."""
        if not self.complete:
            self.complete = any(
                (self._first - int(next_xid)) % 2**32 < HALF_OF_XIDS
                for next_xid in _RUNNING.findall(chunk)
            )

    def updated(self) -> Iterator[Place]:
        """After `read`: rows that the transaction changed and did not delete."""
        return iter(self._origin.values())

    def changed(self) -> int:
        """After `read`: how many rows of users it changed and did not delete."""
        return sum(place.relfile.number >= FIRST_USER_NUMBER for place in self._origin.values())

    def _change(self, found: re.Match[bytes]) -> Iterator[Place]:
        relfile = Relfile(int(found["database"]), int(found["number"]))
        page, detail = int(found["page"]), found["detail"]
        if found["what"] == b"DELETE":
            place = Place(relfile, page, _number(_OFF, detail))
            origin = self._origin.pop(place, place)
            if not int(_number_text(_FLAGS, detail), 16) & MOVED_TO_PARTITION:
                yield origin
            return
        old_page = int(found["old_page"]) if found["old_page"] else page
        old = Place(relfile, old_page, _number(_OFF, detail))
        new = Place(relfile, page, _number(_NEW_OFF, detail))
        self._origin[new] = self._origin.pop(old, old)


def left_places(chunks: Iterable[bytes]) -> Iterator[Place]:
    """The place of each row version that any transaction deleted or replaced, committed or not.

    Args:
        chunks: whole lines, in the order of the WAL.
    """
    for chunk in chunks:
        for found in _CHANGE.finditer(chunk):
            page = found["old_page"] or found["page"]
            relfile = Relfile(int(found["database"]), int(found["number"]))
            yield Place(relfile, int(page), _number(_OFF, found["detail"]))


def find_transaction(chunks: Iterable[bytes], xid: int) -> tuple[Transaction | None, bool]:
    """The transaction when it committed in this text, and whether the text began before it did:
    otherwise some of what it deleted would be missed."""
    scan, changes = GoneScan((xid,)), ChangeScan(keep=frozenset({xid}))
    for chunk in chunks:
        scan.look_for_start(chunk)
        for transaction in changes.feed(chunk):
            if transaction.xid == xid:
                return transaction, scan.complete
    return None, False


def begins_too_late(target: RecoveryTarget) -> CheckFailed:
    return CheckFailed(
        f"expected all WAL of transaction {target.value}, which committed at "
        f"{format_lsn(target.lsn)}, found less",
        code="wal-begins-too-late",
        hint="name its table and a moment before it instead: keys are compared then",
    )


def rewrote(transaction: Transaction) -> bool:
    """Whether it copied rows into new files: what it left out on the way, it did not delete."""
    made = {created.relfile for created in transaction.created}
    return any(transaction.rows[it].inserted for it in made & transaction.rows.keys())


def _number(pattern: re.Pattern[bytes], detail: bytes) -> int:
    return int(_number_text(pattern, detail))


def _number_text(pattern: re.Pattern[bytes], detail: bytes) -> bytes:
    found = pattern.search(detail)
    assert found is not None, detail
    return found[1]


_CHANGE = re.compile(
    rb"rmgr: Heap +len [^,]+, tx: +(?P<xid>\d+), lsn: [^,]+, prev [^,]+, "
    rb"desc: (?P<what>DELETE|UPDATE|HOT_UPDATE)(?:\+INIT)? (?P<detail>[^#\n]*)"
    rb"#0: rel \d+/(?P<database>\d+)/(?P<number>\d+) blk (?P<page>\d+)"
    rb"(?:[^\n#]*#1: rel [\d/]+ blk (?P<old_page>\d+))?"
)
_RUNNING = re.compile(rb"desc: RUNNING_XACTS nextXid (\d+)")
# 15 writes "off 1 flags 0x00 ; new off 6", from 16 on "old_off: 1, ... flags: 0x00, new_off: 6".
_OFF = re.compile(rb"(?:^|[ _])off:? (\d+)")
_NEW_OFF = re.compile(rb"new[ _]off:? (\d+)")
_FLAGS = re.compile(rb"flags:? 0x([0-9A-Fa-f]+)")
