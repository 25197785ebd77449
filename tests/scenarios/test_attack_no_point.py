"""Ransomware, and every recovery point under quarantine: the run stops, and nothing is switched."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions
from leeward.local.stages.ransomware import INFECTED, NO_CLEAN_POINT, RansomwareDrill
from tests.scenarios.drills import PLAN


def test_no_quarantined_point_is_restored_and_nothing_is_switched(tmp_path: Path) -> None:
    plan, stage = load_runnable(PLAN, "ransomware")
    options = DrillOptions(
        "ransomware", "nexus-uploads", NO_CLEAN_POINT, tmp_path, projects=200, rate=10
    )
    drill = stage(plan, options, lambda told: None)
    assert isinstance(drill, RansomwareDrill)
    with ExitStack() as stack:
        drill.set_stage(stack)
        drill.prepare()
        secret = application_secret(drill)
        drill.harm()
        incident = drill.notice()
        score = drill.follow(incident)
        drill.uploads.stopping.set()
        records = drill.records.read(incident)
        [failed] = [it for it in records if it.kind == "step-failed"]
        assert (score.outcome, failed.step, failed.body["code"]) == (
            "failed", "restore", "quarantined",
        )  # fmt: skip
        for point in (*drill.quarantined_points, drill.infected_point):
            assert point in failed.body["message"]
        assert INFECTED in failed.body["message"]
        assert [it for it in records if it.kind == "chosen-point"] == []
        assert application_secret(drill) == secret
        assert {it.step for it in records} & {"load", "resume", "open-files"} == set()


def application_secret(drill: RansomwareDrill) -> str:
    client = drill.cloud.client("secretsmanager")
    return str(client.get_secret_value(SecretId=drill.database.application_secret)["SecretString"])
