"""The end of a quarantine: what is refused, and what stays quarantined beside it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib.errors import BadInput, LeewardError
from chalicelib.plan.records import UNKNOWN_POINT, PointStanding
from chalicelib.ports import Holdings, RejectedPoint
from leeward.unquarantining import decide_unquarantine, tell_unquarantine
from tests.integrity_stores import Keeper


def chain(*codes: str) -> Holdings:
    """Each builds on the one before; "": free."""
    keeper, parent, found = Keeper(), None, []
    for number, code in enumerate(codes):
        keeper.clock.at += timedelta(hours=1)
        point = keeper.add_backup(number, number + 1)
        point = replace(point, id=f"p{number}", parent_id=parent)
        why = f"for {code}" if code else ""
        found.append(PointStanding(point=point, quarantined=why, quarantine_code=code))
        parent = point.id
    return Holdings(tuple(found), (RejectedPoint("lost", "tampered", "its manifest is another's"),))


def test_what_builds_on_it_and_stays_quarantined_is_told() -> None:
    decision = decide_unquarantine(chain("infected", "infected", "", "infected"), ["p0"])
    assert (decision.points, decision.free) == (("p0",), ())
    assert decision.stay == {"p1": "for infected", "p3": "for infected"}
    told = list(tell_unquarantine(decision, dry_run=True))
    assert told[0] == "p0 would not be quarantined any more"
    assert "p3 builds on it and stays quarantined: for infected" in told


def test_what_builds_on_a_quarantined_one_is_of_no_use_and_told() -> None:
    decision = decide_unquarantine(chain("infected", "", "infected"), ["p1", "p2"])
    assert (decision.points, decision.free) == (("p2",), ("p1",))
    assert decision.below == {"p1": "p0", "p2": "p0"}
    assert decide_unquarantine(chain("infected", "infected"), ["p0", "p1"]).below == {}


@pytest.mark.parametrize(
    ("point", "code"),
    [("nope", "unknown-point"), ("p1", "not-indexed"), ("lost", "copy-not-whole")],
)
def test_what_no_decision_can_free_is_refused(point: str, code: str) -> None:
    with pytest.raises(LeewardError) as caught:
        decide_unquarantine(chain("infected", UNKNOWN_POINT), ["p0", point])
    assert caught.value.instance_code == code
    assert isinstance(caught.value, BadInput) == (code != "copy-not-whole")
