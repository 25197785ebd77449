"""What the rules on locks say: the price, and the promise that a lock does not cover."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_rules import findings_of, plan_with


def told(rule: str, change: Any) -> list[str]:
    return [one.message for one in findings_of(plan_with(change)) if one.rule == rule]


def locked(period: str, **db: Any) -> dict[str, Any]:
    far = {"locks_follow_tiers": False, "locked_for": period}
    return {"locations": {"far": far}, "components": {"db": db}}


def test_the_price_of_a_lock_that_outlasts_is_that_of_the_copies_it_alone_keeps() -> None:
    """23 dailies of 40 GB between day 7 and day 30, at $0.023."""
    (message,) = told("LW080", locked("30 days"))
    assert message == (
        "a copy of db may go after 7d and is locked for 30d: some 23 copies of 40 GB stay for the "
        "lock alone, 920 GB, about $21.16 a month"
    )


def test_an_unknown_size_has_no_price() -> None:
    (message,) = told("LW080", locked("30 days", size=None))
    assert "not known" in message
    assert "$" not in message


@pytest.mark.parametrize(
    ("retention", "promised"),
    [
        ({"daily": 7, "weekly": 4, "yearly": 7}, "2562d"),
        ({"daily": 0, "weekly": 0, "all": "90 days"}, "90d"),
    ],
)
def test_the_longest_promise_counts(retention: dict[str, Any], promised: str) -> None:
    (message,) = told("LW079", locked("30 days", retention=retention))
    expected = f"copies of db are to be kept {promised}, and can be deleted after 30d"
    assert message == expected


def test_locks_that_follow_the_tiers_neither_end_early_nor_outlast() -> None:
    change = {"components": {"db": {"retention": {"yearly": 7}}}}
    assert told("LW079", change) == told("LW080", change) == []
