"""What is taken where a plan wants dumps of a database, and what is done with what hosts take."""

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


def test_what_a_host_takes_is_checked_pruned_and_missed() -> None:
    resources = plan_resources(load_plan(ARTIST).plan)
    for title, name in (("UserFiles", "user-files"), ("Configuration", "configuration")):
        for what, function in (("CheckRemote", "Check"), ("Prune", "Prune")):
            [target] = resources[f"Schedule{title}{what}"]["Properties"]["Targets"]
            assert target["Arn"] == {"Fn::GetAtt": [function, "Arn"]}
            assert json.loads(target["Input"])["component"] == name
            assert f"Alarm{title}{what}Silent" in resources
        alarm = resources[f"Alarm{title}FullSilent"]["Properties"]
        assert (alarm["MetricName"], alarm["TreatMissingData"]) == ("Taken.full", "breaching")
        assert alarm["Period"] * alarm["EvaluationPeriods"] == 2 * 86400
