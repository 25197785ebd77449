"""Data-centre loss of Nexus by the deployed package: a drill, then the real loss.

The drill acts on stand-ins alone and leaves nothing. The real run recovers in the standby region
while the primary hangs, its database and cluster are gone, and other clouds alone have copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.records import EvidenceRecord
from leeward.commands.drill import load_runnable
from leeward.local.cloud import STANDBY_REGION
from leeward.local.drill import DrillOptions
from leeward.local.stages.site_loss import SiteLossDrill
from tests.scenarios.drills import LOST_FOR_GOOD, PARTIAL, PLAN
from tests.scenarios.other_run import held_by_another
from tests.scenarios.untouched import State, Untouched, drill_of, state_of
from tests.scenarios.untouched_machines import pods_of, still
from tests.survived import survived

SCENARIO = "data-center-loss"


class Stage(SiteLossDrill):
    """The stage of `leeward drill data-center-loss`, whose acts are called one by one."""

    def chain(self, incident: str) -> list[EvidenceRecord]:
        return self.records.read(incident)

    def everything(self) -> State:
        production = self.clusters.of("nexus-api"), self.clusters.of("nexus-api-dr")
        found = state_of(
            self.cloud, self.plan, self.home, self.spare, clusters=production, others=self.others
        )
        return found | {"environments": self.workspaces()}

    def tried(self, reason: str) -> tuple[Scorecard, list[EvidenceRecord]]:
        """A drill, while production's application holds its breath."""
        return drill_of(self, reason)

    def workspaces(self) -> set[str]:
        client = self.cloud.client("s3", STANDBY_REGION)
        listed = client.list_objects_v2(Bucket="nexus-terraform-state", Prefix="env:/")
        return {it["Key"].split("/")[1] for it in listed.get("Contents", ())}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    plan, _ = load_runnable(PLAN, SCENARIO)
    out = tmp_path_factory.mktemp("data-center-loss")
    options = DrillOptions(SCENARIO, "", "region-hangs", out, projects=1000, rate=30)
    made = Stage(plan, options, lambda told: None)
    with ExitStack() as stack:
        made.set_stage(stack)
        made.prepare()
        yield made


def problems(records: list[EvidenceRecord]) -> list[str]:
    kinds = ("step-failed", "undo-failed")
    return [f"{it.step}: {it.body['message']}" for it in records if it.kind in kinds]


UNDONE = {"activate", "hold-database", "load", "open-database", "deploy"}


@pytest.mark.untouched("nexus-studio", SCENARIO, "drill")
def test_a_drill_leaves_production_as_it_was(here: Stage, untouched: Untouched) -> None:
    with still(pods_of(here.clusters.of("nexus-api"))), untouched(here, here.everything):
        score, records = here.tried("a drill")
        assert problems(records) == []
    assert (score.outcome, score.not_recovered) == ("partial", LOST_FOR_GOOD)
    undone = {it.step for it in records if it.kind == "step-undone"}
    assert UNDONE | {"update-dns"} <= undone


@pytest.mark.untouched("nexus-studio", SCENARIO, "failed step")
def test_a_site_that_was_made_is_taken_back_when_its_names_are_held(
    here: Stage, untouched: Untouched
) -> None:
    with (
        still(pods_of(here.clusters.of("nexus-api"))),
        held_by_another(here.state(), "nexus-names-drill"),
        untouched(here, here.everything),
    ):
        score, records = here.tried("a drill while names are held")
    assert score.outcome == "failed"
    assert [it.split(":")[0] for it in problems(records)] == ["update-dns"]
    assert {it.step for it in records if it.kind == "step-undone"} >= UNDONE


def test_the_loss_itself_is_recovered_within_the_promises(
    here: Stage, record_property: Callable[[str, object], None]
) -> None:
    here.harm()
    incident = here.notice()
    score = here.follow(incident)
    assert problems(here.chain(incident)) == []
    result = here._result(score, (), 0.0)
    assert result.problems == PARTIAL
    assert score.rto_met
    assert score.rpo_met
    assert here.workspaces() == {"dr"}
    record_property("survived", survived("nexus-studio", SCENARIO, "region lost", 1))
