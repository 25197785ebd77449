"""What lies in a location under no component of the plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chalicelib.ports import Listed
from chalicelib.services.locations import Locations
from leeward.plan_file import load_plan
from leeward.strays import Stray, gather_strays, look_for_strays
from tests.commands import NEXUS

AT, DAY = datetime(2026, 11, 22, tzinfo=UTC), timedelta(days=1)


def test_what_no_component_has_is_counted_by_its_first_name() -> None:
    rows = [
        Listed("READ_ME.txt", 3, AT),
        Listed("db", 1, AT),
        Listed("db/points/a", 5, AT),
        Listed("db-old/points/a", 5, AT + DAY),
        Listed("db-old/points/b", 7, AT),
    ]
    assert gather_strays(rows, {"db"}) == (
        Stray("READ_ME.txt", 1, 3, AT),
        Stray("db", 1, 1, AT),
        Stray("db-old", 2, 12, AT + DAY),
    )
    assert gather_strays([Listed("db/points/a", 5, AT)], {"db"}) == ()


def test_a_location_that_cannot_be_opened_is_not_clean() -> None:
    plan = load_plan(NEXUS).plan
    without = plan.locations["tertiary"].model_copy(update={"bucket": None})
    plan = plan.model_copy(update={"locations": plan.locations | {"tertiary": without}})
    found = look_for_strays(Locations(plan, lambda name: {}), "tertiary")
    assert (found.ok, found.error and found.error.instance_code) == (False, "no-bucket")
    assert list(found.lines()) == [
        "tertiary cannot be looked at: expected the plan to name a bucket for location tertiary, "
        "found none"
    ]
