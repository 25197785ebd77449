"""What tests tell of the faults that a scenario survived, and the table at the end of all tests.

A test says `record_property("survived", survived(...))`; tests/conftest.py prints the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

SEPARATOR = " | "
# What each column counts.
FAULTS = (
    "workers killed",
    "undos killed",
    "ends killed",
    "alarm again",
    "two at once",
    "no answer",
    "flapping",
    "region lost",
)


def survived(plan: str, scenario: str, fault: str, count: int) -> str:
    """As text, which every reporter of pytest can carry; `count`: how many of them."""
    assert fault in FAULTS
    assert count > 0
    return SEPARATOR.join((plan, scenario, fault, str(count)))


def table_of(told: Iterable[str]) -> list[str]:
    """Lines: a row for each scenario, a column for each fault; "-" where nothing was tried."""
    counts: Counter[tuple[str, str]] = Counter()
    for text in (line for it in told for line in it.splitlines()):
        plan, scenario, fault, count = text.split(SEPARATOR)
        counts[f"{plan} {scenario}", fault] += int(count)
    names = sorted({name for name, _ in counts})
    rows = [[name, *(counts[name, it] or "-" for it in FAULTS)] for name in names]
    totals = (sum(counts[name, it] for name in names) for it in FAULTS)
    return _aligned([["", *FAULTS], *rows, ["all", *totals]]) if names else []


def _aligned(rows: Sequence[Sequence[Any]]) -> list[str]:
    """The first column to the left, the others to the right."""
    first, *others = (max(len(str(it)) for it in column) for column in zip(*rows, strict=True))
    return [
        f"{row[0]:<{first}}"
        + "".join(f"  {it!s:>{width}}" for it, width in zip(row[1:], others, strict=True))
        for row in rows
    ]
