"""The rule by which a restored row and the living one are judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.verify.rows.versions import XIDS, Horizon, Version, judge_row

HORIZON = Horizon(then=1000, now=1500)
COMMITTED = {500, 900}


def committed(xid: int) -> bool:
    return xid in COMMITTED


@pytest.mark.parametrize(
    ("then", "now", "verdict"),
    [
        ((500, "a"), (500, "a"), "equal"),
        ((500, "a"), (1200, "a"), "equal"),
        ((500, "a"), (500, "b"), "differs"),
        ((500, "a"), (1000, "b"), "changed"),
        ((500, "a"), (999, "b"), "changed"),  # in flight at the moment: not committed there
        ((500, "a"), (900, "b"), "other-version"),
        ((500, "a"), None, "gone"),
        (None, (1499, "b"), "inserted"),
        (None, (999, "b"), "inserted"),
        (None, (900, "b"), "missing"),
        # No transaction of a restored state is younger than the living server's next one.
        (None, (500, "b"), "missing"),
    ],
)
def test_each_pair_has_one_verdict(
    then: tuple[int, str] | None, now: tuple[int, str] | None, verdict: str
) -> None:
    before, after = (Version(*it) if it else None for it in (then, now))
    assert judge_row(before, after, HORIZON, committed) == verdict


@given(
    then=st.integers(min_value=XIDS, max_value=5 * XIDS),
    since=st.integers(min_value=0, max_value=XIDS - 1),
    ago=st.integers(min_value=1, max_value=XIDS),
)
def test_thirty_two_bits_tell_what_is_younger_also_across_a_wraparound(
    then: int, since: int, ago: int
) -> None:
    horizon = Horizon(then, then + since)
    full = horizon.now - ago
    xmin = full % XIDS
    if xmin > 2:
        assert horizon.is_newer(xmin) == (full >= then)
        if full < then and then - full <= XIDS:
            assert horizon.full(xmin) == full


def test_a_row_of_no_transaction_is_never_young() -> None:
    assert not Horizon(then=10, now=XIDS + 100).is_newer(2)
