"""The table of faults that stands at the end of all tests."""

from __future__ import annotations

from tests.survived import survived, table_of


def test_a_row_for_each_scenario_and_a_column_for_each_fault() -> None:
    told = [
        survived("nexus", "failback", "workers killed", 14),
        survived("artist", "failback", "workers killed", 9),
        survived("nexus", "failback", "flapping", 1),
        survived("artist", "failback", "workers killed", 10),
    ]
    first, *rows = table_of(told)
    killed, flapping = (first.index(it) + len(it) for it in ("workers killed", "flapping"))
    assert [row[:15] for row in rows] == ["artist failback", "nexus failback ", "all            "]
    assert [row[:killed].split()[-1] for row in rows] == ["19", "14", "33"]
    assert [row[:flapping].split()[-1] for row in rows] == ["-", "1", "1"]


def test_nothing_told_is_no_table() -> None:
    assert table_of([]) == []
