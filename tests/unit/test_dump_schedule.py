"""What is taken where a plan wants dumps of a database."""

from __future__ import annotations

import json
from pathlib import Path

from leeward.packaging.template import plan_resources
from leeward.plan_file import load_plan

ARTIST = Path(__file__).parents[2] / "policies/plans/artist-tech.yaml"


def test_a_base_backup_is_taken_on_which_the_logs_can_be_replayed() -> None:
    resources = plan_resources(load_plan(ARTIST).plan)
    [target] = resources["ScheduleArtistDbDump"]["Properties"]["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["BackUp", "Arn"]}
    assert json.loads(target["Input"]) == {"component": "artist-db", "kind": "full"}
    alarm = resources["AlarmArtistDbDumpSilent"]["Properties"]
    assert alarm["MetricName"] == "Taken.full"
