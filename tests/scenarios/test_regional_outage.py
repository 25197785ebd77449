"""The regional outage of Nexus Studio, noticed and recovered by the deployed standby, by itself.

Once with every call to the lost region hanging, and once in each of the two great outages as they
went: what failed then fails here, at that hour of it, and the application is down with it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import pytest

from chalicelib.plan.records import parse_time
from leeward.local.damage import Injected
from leeward.local.drill import Drill, DrillOptions
from leeward.local.outages import Outage, load_outage, set_to
from leeward.local.stages.outage import OutageDrill
from leeward.plan_file import load_plan
from tests.grants import RECORDS_READ
from tests.scenarios.drills import LOST_FOR_GOOD, PARTIAL, PLAN
from tests.survived import survived

FOLDER = Path(__file__).parents[1] / "outages"
ESTIMATE_SECONDS = 15 * 60
WATCHING = (
    "leeward-primary-heartbeat",
    "leeward-standby-probe",
    "leeward-standby-verify_services",
)


class Hanging(OutageDrill):
    damage = "region-hangs"


class Replayed(OutageDrill):
    """The servers at the site fail with what failed of AWS at that moment."""

    damage = "region-refuses"
    outage: ClassVar[Outage]
    at: ClassVar[datetime]

    def harm(self) -> tuple[Injected, ...]:
        done = super().harm()
        self.cloud.heal()
        set_to(self.cloud, self.outage, self.at)
        return done


class December(Replayed):
    outage = load_outage(FOLDER / "2021-12-07.json")
    at = parse_time("2021-12-07T08:00:00-08:00")


class October(Replayed):
    outage = load_outage(FOLDER / "2025-10-20.json")
    at = parse_time("2025-10-20T00:30:00-07:00")


@pytest.mark.parametrize("stage", [Hanging, December, October])
def test_it_is_noticed_and_recovered_without_the_lost_region(
    stage: type[Hanging] | type[Replayed],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    plan = load_plan(PLAN).plan
    assert stage.accepts(plan, "regional-outage")
    options = DrillOptions(
        "regional-outage", "nexus-db", stage.damage, tmp_path, projects=500, rate=30
    )
    drill: Drill = stage(plan, options, lambda told: None)
    result = drill.run()
    assert result.problems == PARTIAL
    assert result.score.outcome == "partial"
    assert result.score.not_recovered == LOST_FOR_GOOD
    [health] = [it.found for it in result.score.steps if it.name == "verify"]
    assert f"not recovered: {LOST_FOR_GOOD[0].split(':')[0]}" in health
    assert result.score.rto_seconds is not None
    assert result.score.rto_seconds < ESTIMATE_SECONDS
    assert [fact.name for fact in result.facts if fact.met is False] == []
    record_property("survived", survived("nexus-studio", "regional-outage", "region lost", 1))
    called = {
        (call.service, call.operation)
        for call in drill.cloud.calls()
        if call.function.startswith("leeward-standby-")
    }
    assert called
    assert {it for it in called if it[0] in ("route53", "iam")} == set()
    if stage is Hanging:
        slow = {it.name: it.seconds for it in result.score.steps if (it.seconds or 0) > 60}
        assert slow == {}, "a step waited for the region that is lost"
        heartbeat, *others = (set(result.rights[name].unused) for name in WATCHING)
        assert heartbeat == set()
        # Evidence is read when another signal joins the incident.
        assert all(unused <= RECORDS_READ for unused in others)
