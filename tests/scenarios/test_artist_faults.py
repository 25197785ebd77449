"""A lost server whose recovery is disturbed: workers die, the newest copy is damaged, the code's
repository is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chalicelib.recover.sites.servers import RUN_TAG
from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions
from leeward.local.stages.artist import ServerDrill
from tests.commands import ARTIST
from tests.scenarios.striker import Striker, undisturbed
from tests.scenarios.test_faults import read_records

SCENARIO = "server-failure"


class Disturbed(ServerDrill):
    """Looks at EC2 once more before everything is gone."""

    def launched(self, run_id: str) -> list[str]:
        filters = [{"Name": f"tag:{RUN_TAG}", "Values": [run_id]}]
        answer = self.cloud.client("ec2").describe_instances(Filters=filters)
        return [it["InstanceId"] for part in answer["Reservations"] for it in part["Instances"]]

    def count(self, score, folder):  # type: ignore[no-untyped-def]
        self.servers = self.launched(score.run_id)
        return super().count(score, folder)


def test_a_server_is_replaced_though_workers_die_and_copies_are_damaged(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    plan, _ = load_runnable(ARTIST, SCENARIO)
    options = DrillOptions(SCENARIO, "application", "copies-damaged", tmp_path, projects=500)
    striker = Striker()
    made = striker.drill = Disturbed(plan, options, striker.hear)
    result = made.run()
    assert result.problems == [], striker.said
    records = read_records(result.folder)
    assert undisturbed(records) == set()
    assert len(made.servers) == 1
    finished = {it.step: it.body["outputs"] for it in records if it.kind == "step-finished"}
    assert finished["restore-code"]["source"].endswith("-bundle")
    *_, chosen = [
        it.body for it in records if it.kind == "chosen-point" and it.step == "restore-files"
    ]
    *_, rejected = [it for it in records if it.kind == "rejected-point"]
    assert rejected.body["point"] in chosen["reason"]
    assert rejected.body["point"] > chosen["point"]
    assert chosen["point"] == finished["restore-files"]["point"]
    record_property("survived", striker.told("artist-tech", SCENARIO))
