"""Uploads without a version left: a recovery bucket, the pods told to use it, and seen to serve."""

from __future__ import annotations

import json

import pytest

from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions, DrillResult
from leeward.local.stages.deletion import DELETED
from leeward.local.stages.file_storage import FOR_GOOD
from tests.scenarios.drills import PLAN

SCENARIO = "accidental-deletion"
RECOVERY = "nexus-assets-recovery"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DrillResult:
    plan, stage = load_runnable(PLAN, SCENARIO)
    options = DrillOptions(
        SCENARIO, "", FOR_GOOD, tmp_path_factory.mktemp("storage"), projects=500, rate=30
    )
    return stage(plan, options, lambda told: None).run()


def outputs(result: DrillResult) -> dict[str, dict[str, str]]:
    records = [json.loads(it.read_text()) for it in (result.folder / "records").glob("*.json")]
    return {it["step"]: it["body"]["outputs"] for it in records if it["kind"] == "step-finished"}


def test_the_application_serves_every_upload_from_the_recovery_bucket(result: DrillResult) -> None:
    assert result.problems == []
    done = outputs(result)
    assert str(done["soft-delete"]["missing"]) == str(DELETED)
    assert done["recover-files"]["setting"] == RECOVERY
    assert "ASSETS_BUCKET of nexus-api is set to" in done["point-application"]["found"]
    assert "3 instances of 3 started with it" in done["point-application"]["found"]
    assert "nexus-uploads answers" in done["verify"]["found"]
    [uploads] = [fact for fact in result.facts if fact.name == "uploads"]
    assert uploads.met
