"""A drill of an accidental deletion acts on stand-ins, and leaves everything as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack

import pytest

from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions
from leeward.local.production import Production, store_secrets
from leeward.local.sample_app import create_schema
from leeward.local.stages.deletion import DeletionDrill
from tests.scenarios.drills import PLAN
from tests.scenarios.other_run import held_by_another
from tests.scenarios.untouched import Declining, State, Untouched, changed, drill_of, state_of
from tests.survived import survived

SCENARIO = "accidental-deletion"
STAGING = "nexus-assets-staging"


class Standing(Declining, DeletionDrill):
    """With the staging environment: a database with fewer rows, a bucket with two uploads."""

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        super().start_parts(stack, deploying)
        found = self.plan.components["nexus-db-staging"]
        assert found.kind == "postgres"
        self.second = Production(self.cloud.folder / "second", self.cloud.reaper)
        stack.callback(self.second.stop)
        self.second.start()
        create_schema(self.second.dsn(found.application_role), projects=100)
        store_secrets(
            self.cloud.client("secretsmanager"),
            self.second,
            operator=found.operator_secret,
            application=found.application_secret,
        )
        for key in ("upload-0000", "upload-0059"):
            self.s3.put_object(Bucket=STAGING, Key=key, Body=b"1")

    def _is_healthy(self, path: str) -> bool:
        return True

    def everything(self) -> State:
        return state_of(self.cloud, self.plan, self.production, self.second)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    plan, _ = load_runnable(PLAN, SCENARIO)
    out = tmp_path_factory.mktemp("deletion-drill")
    made = Standing(
        plan, DrillOptions(SCENARIO, "", "rows", out, projects=300, rate=30), lambda told: None
    )
    with ExitStack() as stack:
        made.set_stage(stack)
        made.prepare()
        made.application.stop()
        yield made


@pytest.mark.untouched("nexus-studio", SCENARIO, "drill")
def test_a_drill_brings_rows_into_the_stand_in_and_takes_them_out_again(
    stage: Standing, untouched: Untouched
) -> None:
    with untouched(stage, stage.everything):
        score, records = drill_of(stage, "a drill")
    failed = [it.body for it in records if it.kind in ("step-failed", "undo-failed")]
    assert not failed, [(it["code"], it["message"]) for it in failed]
    assert score.outcome == "recovered", records[-3:]
    [said] = [it for it in records if it.kind == "answered"]
    assert (said.actor, said.body["factor"], said.step) == ("drill-1", "totp", "update-access")
    [back] = [it.body for it in records if it.kind == "rows-back"]
    assert back["component"] == "nexus-db-staging"
    restored = {it["table"]: it["restored"] for it in back["tables"]}
    assert restored["public.projects"] == 200
    assert restored["public.assets"] >= 800


@pytest.mark.untouched("nexus-studio", SCENARIO, "failed step")
def test_rows_are_taken_out_again_too_when_a_person_declines(
    stage: Standing, untouched: Untouched
) -> None:
    with stage.declining("update-access"), untouched(stage, stage.everything):
        score, records = drill_of(stage, "a drill that is declined")
    assert score.outcome == "failed"
    assert [it.step for it in records if it.kind == "rows-back"] == ["take-back"]
    assert [it.body for it in records if it.kind == "undo-failed"] == []
    assert "take-back" in {it.step for it in records if it.kind == "step-undone"}


def test_a_bucket_that_another_run_holds_is_left_to_it(
    stage: Standing, record_property: Callable[[str, object], None]
) -> None:
    """Deletion and ransomware at once: the second says whose the bucket is, and takes back what it
    did elsewhere."""
    with held_by_another(stage.state(), "nexus-uploads-staging") as other:
        before = stage.everything()
        score, records = drill_of(stage, "another drill")
        assert changed(stage.plan, before, stage.everything()) == []
    assert score.outcome == "failed"
    [failed] = [it.body for it in records if it.kind == "step-failed"]
    assert (failed["code"], failed["context"]["holder"]) == ("fenced", other)
    assert "nexus-uploads-staging is held by run" in failed["message"]
    assert [it for it in records if it.kind == "undo-failed"] == []
    record_property("survived", survived("nexus-studio", SCENARIO, "two at once", 1))
