"""What the sample application's ledger says of a drill, and what it cannot say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from leeward.local.ledger import Reckoning
from leeward.local.stages.database import facts_of, wrong_with


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (Reckoning(10, 8, 2, (), ()), ""),
        (Reckoning(0, 0, 0, (), ()), "told of no commit"),
        (Reckoning(10, 8, 1, ("a",), ()), "committed rows are lost"),
        (Reckoning(10, 8, 2, (), ("a",)), "before the damage by too much"),
    ],
)
def test_a_drill_is_judged_by_its_ledger(found: Reckoning, problem: str) -> None:
    score = cast(Any, SimpleNamespace(rows_lost=len(found.lost)))
    wrong = "; ".join(wrong_with(score, found))
    assert problem in wrong
    assert bool(wrong) == bool(problem)
    assert facts_of(found)[0].met is (not problem)
