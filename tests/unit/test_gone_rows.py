"""Places of deleted rows, read from pg_waldump's text; and the order of tables."""

from __future__ import annotations

import pytest

from chalicelib.recover.database.changes import Relfile
from chalicelib.recover.rows.gone import GoneScan, Place
from chalicelib.recover.rows.schema import hang_in_last
from chalicelib.recover.rows.tables import ForeignKey, order_tables

FILE = Relfile(5, 16385)
HEAD = "rmgr: Heap        len (rec/tot):     54/    54, tx:        {}, lsn: 0/1, prev 0/0, desc: "
RUNNING = (
    "rmgr: Standby     len (rec/tot):     50/    50, tx:          0, lsn: 0/1, prev 0/0, desc: "
    "RUNNING_XACTS nextXid {} latestCompletedXid 748 oldestRunningXid 749\n"
)


def text(*lines: tuple[int, str]) -> bytes:
    return "".join(HEAD.format(xid) + line + "\n" for xid, line in lines).encode()


def delete(line: int, page: int = 0, flags: str = "0x00") -> str:
    return (
        f"DELETE xmax: 746, off: {line}, infobits: [KEYS_UPDATED], flags: {flags}, "
        f"blkref #0: rel 1663/5/16385 blk {page}"
    )


def update(old: int, new: int, page: int = 0, old_page: int | None = None) -> str:
    other = "" if old_page is None else f" FPW, blkref #1: rel 1663/5/16385 blk {old_page}"
    return (
        f"UPDATE old_xmax: 746, old_off: {old}, old_infobits: [], flags: 0x20, new_xmax: 0, "
        f"new_off: {new}, blkref #0: rel 1663/5/16385 blk {page}{other}"
    )


def gone(content: bytes, *xids: int) -> list[tuple[int, int]]:
    return [(place.page, place.line) for place in GoneScan(xids or (746,)).read([content])]


def test_only_the_transaction_and_its_savepoints_count() -> None:
    content = text((746, delete(1)), (747, delete(2)), (900, delete(3)), (746, delete(4, page=7)))
    assert gone(content, 746, 747) == [(0, 1), (0, 2), (7, 4)]


def test_a_row_that_was_updated_first_is_named_by_where_it_was() -> None:
    content = text(
        (746, update(1, 9)), (746, update(9, 2, page=4, old_page=0)), (746, delete(2, page=4)),
        (746, update(5, 6)),
    )  # fmt: skip
    scan = GoneScan((746,))
    assert list(scan.read([content])) == [Place(FILE, 0, 1)]
    assert list(scan.updated()) == [Place(FILE, 0, 5)]


def test_a_row_that_moved_to_another_partition_was_not_deleted() -> None:
    assert gone(text((746, delete(1, flags="0x10")), (746, delete(2, flags="0x01")))) == [(0, 2)]


def test_the_text_of_version_15() -> None:
    content = text(
        (746, "HOT_UPDATE off 2 xmax 746 flags 0x20 ; new off 6 xmax 0, "
              "blkref #0: rel 1663/5/16385 blk 0"),
        (746, "DELETE off 6 flags 0x00 KEYS_UPDATED , blkref #0: rel 1663/5/16385 blk 0"),
    )  # fmt: skip
    assert gone(content) == [(0, 2)]


@pytest.mark.parametrize(
    ("xid", "next_xid", "complete"),
    [(746, 746, True), (746, 700, True), (746, 747, False), (5, 2**32 - 10, True)],
)
def test_it_knows_whether_the_text_began_before_the_transaction(
    xid: int, next_xid: int, complete: bool
) -> None:
    scan = GoneScan((xid,))
    list(scan.read([RUNNING.format(next_xid).encode() + text((xid, delete(1)))]))
    assert scan.complete is complete


def reference(table: str, parent: str) -> ForeignKey:
    return ForeignKey("k", table, ("a",), parent, ("b",), deferrable=False)


def test_parents_go_first_and_a_circle_goes_together() -> None:
    keys = [reference("c", "b"), reference("b", "a"), reference("a", "a"), reference("c", "else"),
            reference("x", "y"), reference("y", "x"), reference("z", "x"),
            reference("x", "c")]  # fmt: skip
    order = order_tables(["z", "y", "x", "c", "b", "a"], keys)
    assert order == (("a",), ("b",), ("c",), ("x", "y"), ("z",))


def test_a_partition_goes_into_a_living_root_after_its_own_indexes() -> None:
    script = (
        "CREATE TABLE p_1 (a int);\n"
        "ALTER TABLE ONLY p ATTACH PARTITION p_1 FOR VALUES IN (1);\n"
        "ALTER TABLE ONLY p_1 ADD CONSTRAINT p_1_pkey PRIMARY KEY (a);\n"
        "ALTER INDEX p_pkey ATTACH PARTITION p_1_pkey;\n"
    )
    assert hang_in_last(script, frozenset({"p", "p_1"})).strip() == script.strip()
    lines = [line for line in hang_in_last(script, frozenset({"p_1"})).splitlines() if line]
    assert lines == [script.splitlines()[0], script.splitlines()[2], script.splitlines()[1]]
