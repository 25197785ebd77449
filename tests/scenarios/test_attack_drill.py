"""A drill of ransomware acts on what stands in alone; production is afterwards what it was before,
byte for byte, also when a step fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack

import pytest

from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.records import EvidenceRecord
from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions
from leeward.local.production import APPLICATION, Production, store_secrets
from leeward.local.sample_app import create_schema
from leeward.local.stages.ransomware import SETTLE_SECONDS, RansomwareDrill
from tests.clouds import wait_for
from tests.scenarios.drills import PLAN
from tests.scenarios.untouched import Declining, State, Untouched, drill_of, state_of

SCENARIO = "ransomware"
STAND_IN = "nexus-db-staging"
ISOLATED = {
    "nexus-assets-staging", "nexus-staging", "user/nexus-staging", "nexus-node-staging",
}  # fmt: skip


class Rehearsal(Declining, RansomwareDrill):
    """Nobody attacks; the plan's own people drill, and there is a staging environment."""

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        super().start_parts(stack, deploying)
        staging = Production(self.cloud.folder / "staging", self.cloud.reaper)
        stack.callback(staging.stop)
        staging.start()
        create_schema(staging.dsn(APPLICATION), projects=10)
        found = self.plan.components[STAND_IN]
        assert found.kind == "postgres"
        store_secrets(
            self.cloud.client("secretsmanager"),
            staging,
            operator=found.operator_secret,
            application=found.application_secret,
        )

    def prepare(self) -> None:
        super().prepare()
        self.uploads.stopping.set()
        self.application.stop()
        wait_for(lambda: not self.uploading(), "an upload did not end", seconds=60)
        assert self.cloud.wait_idle(SETTLE_SECONDS)

    def uploading(self) -> bool:
        """Whether the people who upload are still at it."""
        wanted = self.uploads.keep_on
        return any(getattr(it, "_target", None) == wanted for it in threading.enumerate())

    def everything(self) -> State:
        return state_of(self.cloud, self.plan, self.production)

    def tried(self, reason: str) -> tuple[Scorecard, list[EvidenceRecord]]:
        return drill_of(self, reason)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    plan, _ = load_runnable(PLAN, SCENARIO)
    out = tmp_path_factory.mktemp("attack-drill")
    options = DrillOptions(SCENARIO, "nexus-uploads", "ransomware", out, projects=500, rate=20)
    made = Rehearsal(plan, options, lambda told: None)
    with ExitStack() as stack:
        made.set_stage(stack)
        made.prepare()
        yield made


def problems(records: list[EvidenceRecord], kinds: tuple[str, ...]) -> list[str]:
    return [json.dumps(it.body) for it in records if it.kind in kinds]


@pytest.mark.untouched("nexus-studio", SCENARIO, "drill")
def test_production_is_what_it_was(stage: Rehearsal, untouched: Untouched) -> None:
    with untouched(stage, stage.everything):
        score, records = stage.tried("monthly")
    assert problems(records, ("step-failed", "undo-failed")) == []
    assert score.outcome == "recovered"
    assert {it.body["target"] for it in records if it.kind == "isolated"} == ISOLATED


@pytest.mark.untouched("nexus-studio", SCENARIO, "failed step")
def test_what_was_isolated_and_restored_is_taken_back_when_nobody_patches(
    stage: Rehearsal, untouched: Untouched
) -> None:
    with stage.declining("patch"), untouched(stage, stage.everything):
        score, records = stage.tried("the patch is declined")
    assert score.outcome == "failed"
    assert problems(records, ("undo-failed",)) == []
    assert {it.body["target"] for it in records if it.kind == "isolated"} == ISOLATED
    undone = {it.step for it in records if it.kind == "step-undone"}
    assert {"isolate", "isolate-hosts", "isolate-database", "load", "restore-files"} <= undone
