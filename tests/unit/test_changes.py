"""Row changes per transaction, from what pg_waldump of each version really printed.

tests/golden/wal-text holds the same statements on PostgreSQL 15 to 18, without catalogue records;
wal-drops two DROP DATABASE, the first by an owner whose privileges go first, after VACUUMs, without
any other records.
"""

from __future__ import annotations

import re
from datetime import UTC
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.plan.records import parse_lsn
from chalicelib.recover.database.changes import ChangeScan, Relfile, Rows, Transaction

GOLDEN = Path(__file__).parents[1] / "golden"
TEXTS = {path.stem: path.read_bytes() for path in sorted((GOLDEN / "wal-text").glob("*.txt"))}
DROPS = {path.stem: path.read_bytes() for path in sorted((GOLDEN / "wal-drops").glob("*.txt"))}


def scan(*pieces: bytes, drops_marked: bool = True) -> list[Transaction]:
    feed = ChangeScan(drops_marked=drops_marked)
    return [transaction for piece in pieces for transaction in feed.feed(piece)]


def outline(transaction: Transaction) -> tuple[object, ...]:
    """What does not depend on the version: numbers of transactions and files do."""
    return (
        sorted(tuple(rows) for rows in transaction.rows.values()),
        [created.transient for created in transaction.created],
        len(transaction.dropped),
        len(transaction.dropped_databases),
        len(transaction.children),
    )


EXPECTED = [
    ([(5, 0, 0)], [], 0, 0, 0),  # INSERT
    ([(4, 0, 0)], [], 0, 0, 0),  # COPY
    ([(0, 3, 1)], [], 0, 0, 1),  # UPDATE, savepoint DELETE, rolled back DELETE
    ([(0, 2, 0)], [], 0, 0, 0),  # PREPARE TRANSACTION, COMMIT PREPARED
    ([(8, 0, 0)], [True, False], 4, 0, 0),  # ALTER TABLE ... TYPE
    ([], [True, False], 2, 0, 0),  # VACUUM FULL
    ([], [False, False], 2, 0, 0),  # TRUNCATE
    ([], [], 1, 0, 0),  # DROP TABLE
    ([], [], 0, 0, 0),  # CREATE DATABASE
    ([], [], 0, 1, 0),  # DROP DATABASE
    ([], [], 0, 0, 0),  # pg_logical_emit_message
]


def test_every_supported_version_has_its_text() -> None:
    assert sorted(TEXTS) == sorted(DROPS) == [f"postgres-{major}" for major in (15, 16, 17, 18)]


@pytest.mark.parametrize("version", DROPS)
@pytest.mark.parametrize("drops_marked", [True, False])
def test_a_dropped_database_is_whole_until_it_is_marked(version: str, drops_marked: bool) -> None:
    """The mark lies right before the deletion of the row; older servers begin with the files."""
    begins = rb"prev ([^,]+), desc: DELETE" if drops_marked else rb"lsn: ([^,]+), [^,]+, desc: DROP"
    expected = [parse_lsn(lsn.decode()) for lsn in re.findall(begins, DROPS[version])]
    found = scan(DROPS[version], drops_marked=drops_marked)
    assert len(expected) == 2
    assert [it.drop_lsn for it in found if it.dropped_databases] == expected
    assert {it.drop_lsn for it in found if not it.dropped_databases} == {0}


@pytest.mark.parametrize("version", TEXTS)
def test_reads_what_each_version_prints(version: str) -> None:
    assert [outline(transaction) for transaction in scan(TEXTS[version])] == EXPECTED


@pytest.mark.parametrize("version", TEXTS)
def test_nothing_stays_open_at_the_end(version: str) -> None:
    feed = ChangeScan()
    feed.read([TEXTS[version]])
    assert dict(feed.open) == {}
    assert feed.activity.transactions == len(EXPECTED)


@given(st.data(), st.sampled_from([*TEXTS.values(), *DROPS.values()]))
def test_it_does_not_matter_where_the_text_is_cut(data: st.DataObject, text: bytes) -> None:
    lines = text.splitlines(keepends=True)
    cuts = data.draw(st.lists(st.integers(0, len(lines))))
    places = [0, *sorted(cuts), len(lines)]
    pieces = [b"".join(lines[start:end]) for start, end in pairwise(places)]
    assert scan(*pieces) == scan(text)


def test_commit_lsn_and_time_are_the_records_own() -> None:
    first = scan(TEXTS["postgres-17"])[0]
    text = TEXTS["postgres-17"].decode()
    commit = next(line for line in text.splitlines() if "COMMIT" in line)
    assert f"tx: {first.xid:>10}" in commit
    assert f"lsn: {first.commit_lsn >> 32:X}/{first.commit_lsn & 0xFFFFFFFF:08X}" in commit
    assert f"{first.committed_at:%Y-%m-%d %H:%M:%S.%f} UTC" in commit
    assert first.committed_at.tzinfo == UTC


def line(xid: int, lsn: int, what: str, manager: str = "Transaction") -> bytes:
    head = f"rmgr: {manager:<11} len (rec/tot):     34/    34, tx: {xid:>10}, "
    return (head + f"lsn: 0/{lsn:08X}, prev 0/00000000, desc: {what}\n").encode()


COMMIT = "COMMIT 2026-11-22 09:54:18.877492 UTC"
BLOCK = "blkref #0: rel 1663/5/16384 blk 0"


def test_other_forks_and_temporary_tables_are_no_dropped_files() -> None:
    text = line(9, 1, f"{COMMIT}; rels: base/5/t3_16500 base/5/16384_vm global/1262 base/5/16385")
    [found] = scan(text)
    assert found.dropped == ((Relfile(0, 1262), "global"), (Relfile(5, 16385), "base"))


def test_a_tablespace_is_part_of_a_files_place() -> None:
    place = "pg_tblspc/16500/PG_17_202406281"
    text = line(9, 1, f"CREATE {place}/5/16600", "Storage") + line(9, 2, COMMIT)
    [found] = scan(text)
    assert [(it.relfile, it.tablespace) for it in found.created] == [(Relfile(5, 16600), place)]


def test_index_records_are_not_rows() -> None:
    noise = line(9, 1, f"INSERT_LEAF off: 3, {BLOCK}", "Btree")
    lock = line(9, 2, f"LOCK xmax: 9, off: 3, flags: 0x00, {BLOCK}", "Heap")
    assert scan(noise + lock + line(9, 3, COMMIT))[0].rows == {}


def test_an_aborted_transaction_leaves_nothing() -> None:
    row = line(9, 1, f"DELETE xmax: 9, off: 3, flags: 0x00, {BLOCK}", "Heap")
    child = line(10, 2, f"DELETE xmax: 10, off: 4, flags: 0x00, {BLOCK}", "Heap")
    abort = line(9, 3, "ABORT 2026-11-22 09:54:18.877492 UTC; subxacts: 10")
    feed = ChangeScan()
    assert list(feed.feed(row + child + abort)) == []
    assert dict(feed.open) == {}


def test_memory_does_not_grow_with_small_transactions() -> None:
    feed = ChangeScan()
    for xid in range(10, 5010):
        row = line(xid, xid, f"HOT_UPDATE old_xmax: {xid}, {BLOCK}", "Heap")
        feed.read([row + line(xid, xid, COMMIT)])
    assert feed.activity.usual == {Relfile(5, 16384): {1: 5000}}
    assert feed.activity.notable == []


def test_what_is_asked_for_is_kept_however_small() -> None:
    feed = ChangeScan(keep=frozenset({9}))
    row = line(9, 1, f"HOT_UPDATE old_xmax: 9, {BLOCK}", "Heap")
    [kept] = feed.read([row + line(9, 2, COMMIT)]).notable
    assert kept.rows == {Relfile(5, 16384): Rows(updated=1)}
