"""What tests tell of drills that left production as it was, and the table at the end of all tests.

A test is marked with each drill that it does, `@pytest.mark.untouched(PLAN, SCENARIO, HOW)`, and
does it inside `with untouched(stage, read):` (tests/scenarios/conftest.py), which compares and sees
that such a drill ran. tests/house/test_drilled.py holds that no scenario of a plan is without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.survived import _aligned

SEPARATOR = " | "
# To its end; and one that failed when it had changed something.
WHOLE, FAILED = "drill", "failed step"
HOW = (WHOLE, FAILED)
COLUMNS = {WHOLE: "drills", FAILED: "drills that failed"}
TAKEN_BACK = "steps taken back"


def drilled(plan: str, scenario: str, how: str, taken_back: int) -> str:
    """As text, which every reporter of pytest can carry; `taken_back`: steps that were undone."""
    assert how in HOW
    return SEPARATOR.join((plan, scenario, how, str(taken_back)))


def table_of(told: Iterable[str]) -> list[str]:
    """Lines: a row for each scenario; "-" where nothing was tried."""
    counts: Counter[tuple[str, str]] = Counter()
    for text in told:
        plan, scenario, how, taken_back = text.split(SEPARATOR)
        counts[f"{plan} {scenario}", COLUMNS[how]] += 1
        counts[f"{plan} {scenario}", TAKEN_BACK] += int(taken_back)
    names = sorted({name for name, _ in counts})
    columns = (*COLUMNS.values(), TAKEN_BACK)
    rows = [[name, *(counts[name, it] or "-" for it in columns)] for name in names]
    totals = (sum(counts[name, it] for name in names) for it in columns)
    return _aligned([["", *columns], *rows, ["all", *totals]]) if names else []
