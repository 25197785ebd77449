"""A lost server whose recovery is disturbed: workers die, the newest copy is damaged, the code's
repository is gone."""

from __future__ import annotations

import threading
from pathlib import Path

from chalicelib.recover.servers import RUN_TAG
from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions, Told
from leeward.local.stages.artist import ServerDrill
from tests.commands import ARTIST

SCENARIO = "server-failure"
# The worker of this function dies when this step has begun.
DEATHS = {"provision": "manage_servers", "restore-files": "restore_data", "build": "manage_servers"}


class Disturbed(ServerDrill):
    """Looks at EC2 once more before everything is gone."""

    def launched(self, run_id: str) -> list[str]:
        filters = [{"Name": f"tag:{RUN_TAG}", "Values": [run_id]}]
        answer = self.cloud.client("ec2").describe_instances(Filters=filters)
        return [it["InstanceId"] for part in answer["Reservations"] for it in part["Instances"]]

    def count(self, score, folder):  # type: ignore[no-untyped-def]
        self.servers = self.launched(score.run_id)
        return super().count(score, folder)


def test_a_server_is_replaced_though_workers_die_and_copies_are_damaged(tmp_path: Path) -> None:
    plan, _ = load_runnable(ARTIST, SCENARIO)
    options = DrillOptions(SCENARIO, "application", "copies-damaged", tmp_path, projects=500)
    heard: list[Told] = []
    killed: list[str] = []

    def tell(told: Told) -> None:
        heard.append(told)
        record = told.record
        if record and record.kind == "step-started" and record.body["attempt"] == 1:
            function = DEATHS.get(record.step)
            if function:
                threading.Thread(target=kill, args=(function, record.step)).start()

    def kill(function: str, step: str) -> None:
        made.cloud.kill_worker(function, wait_seconds=5)
        killed.append(step)

    made = Disturbed(plan, options, tell)
    result = made.run()
    assert result.problems == []
    assert sorted(killed) == sorted(DEATHS)
    assert len(made.servers) == 1
    records = [it.record for it in heard if it.record]
    attempts = {it.step: it.body["attempt"] for it in records if it.kind == "step-started"}
    assert attempts["provision"] == 2
    finished = {it.step: it.body["outputs"] for it in records if it.kind == "step-finished"}
    assert finished["restore-code"]["source"].endswith("-bundle")
    [chosen] = [
        it.body for it in records if it.kind == "chosen-point" and it.step == "restore-files"
    ]
    [rejected] = [it for it in records if it.kind == "rejected-point"]
    assert rejected.body["point"] in chosen["reason"]
    assert rejected.body["point"] > chosen["point"]
    assert chosen["point"] == finished["restore-files"]["point"]
