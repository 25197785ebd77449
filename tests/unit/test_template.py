"""Template parts made from a plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chalicelib.errors import PlanError
from chalicelib.plan.model import Plan
from chalicelib.scenarios.compile import logical_id
from chalicelib.services.steps.servers.host_restores import TRANSIT
from leeward.packaging.buckets import replica_globals
from leeward.packaging.template import plan_resources
from leeward.plan_file import load_plan

ROOT = Path(__file__).parents[2]
PLANS, INFRA = ROOT / "policies" / "plans", ROOT / "infra"


@pytest.fixture
def plan() -> Plan:
    return load_plan(PLANS / "nexus-studio.yaml").plan


def test_every_schedule_has_its_rule_and_an_alarm_for_its_silence(plan: Plan) -> None:
    resources = plan_resources(plan)
    rules = [it for it in resources.values() if it.get("Type") == "AWS::Events::Rule"]
    prefix = "leeward-nexus-studio-"
    scheduled = [it for it in rules if "ScheduleExpression" in it["Properties"]]
    everything = {it["Properties"]["Name"].removeprefix(prefix) for it in scheduled}
    named = {it.removeprefix("nexus-db-") for it in everything if it.startswith("nexus-db-")}
    copies = {"copy-secondary", "copy-tertiary"}
    checks = {"check-primary", "check-secondary", "check-tertiary"}
    proofs = {"prove-primary", "prove-secondary", "prove-tertiary"}
    assert named == {"watch", "full", "incremental", "wal", "prune"} | copies | checks | proofs
    alarms = {
        it["Properties"]["AlarmName"]: it["Properties"]
        for it in resources.values()
        if it.get("Type") == "AWS::CloudWatch::Alarm"
    }
    of_bucket = {"sync", "watch-bucket", "check-primary", "prune", "prove-primary"}
    rest = everything - {f"nexus-db-{what}" for what in named}
    of_nothing = {"exercises-tick", "people-tell", "people-reminders", "primary-heartbeat",
                  "alarms-sweep"}  # fmt: skip
    # Nothing of these was ever taken: their alarms say so.
    of_nothing |= {"nexus-config-prove-primary"}
    assert rest == {f"nexus-uploads-{what}" for what in of_bucket} | of_nothing
    for what in everything:
        assert alarms[f"{what}-silent"]["TreatMissingData"] == "breaching"
    # What the plan's scenario names as its alarm is an alarm that exists.
    assert set(plan.scenarios["database-corruption"].alarms) <= set(alarms)


def test_an_alarm_of_what_is_seldom_looked_at_lasts_until_it_is_seen_to_be_good(plan: Plan) -> None:
    """Of a daily test that failed, an alarm that is over after a minute would be green all day."""
    missing = {
        it["Properties"]["AlarmName"]: it["Properties"]["TreatMissingData"]
        for it in plan_resources(plan).values()
        if it.get("Type") == "AWS::CloudWatch::Alarm"
    }
    seldom = {
        "exercises-failing", "nexus-db-restore-test-failing", "nexus-db-unproven-primary",
        "nexus-db-copy-secondary-damaged", "nexus-db-wal-gap", "nexus-uploads-sync-failing",
        "nexus-uploads-watch-blind", "nexus-db-wal-behind", "nexus-db-replaced",
    }  # fmt: skip
    assert {missing[name] for name in seldom} == {"ignore"}
    starts_runs = {name for it in plan.scenarios.values() for name in it.alarms} & missing.keys()
    assert starts_runs
    assert "ignore" not in {missing[name] for name in starts_runs}, "it must fire anew"


def test_lag_is_an_alarm_at_the_plan_s_own_thresholds(plan: Plan) -> None:
    alarms = {
        it["Properties"]["AlarmName"]: it["Properties"]["Threshold"]
        for it in plan_resources(plan).values()
        if it.get("Type") == "AWS::CloudWatch::Alarm" and "-lag-" in it["Properties"]["AlarmName"]
    }
    subjects = ("nexus-db-copy-secondary", "nexus-db-copy-tertiary", "nexus-uploads-replication")
    assert alarms == {
        f"{subject}-lag-{level}": minutes * 60
        for subject in subjects
        for level, minutes in (("warning", 5), ("critical", 15))
    }


def test_a_copy_is_begun_twice_within_the_time_it_may_take(plan: Plan) -> None:
    rules = {
        it["Properties"]["Name"]: it["Properties"]["ScheduleExpression"]
        for it in plan_resources(plan).values()
        if "ScheduleExpression" in it["Properties"]
    }
    # The WAL is promised within 5 minutes.
    assert rules["leeward-nexus-studio-nexus-db-copy-secondary"] == "rate(2 minutes)"


def test_evidence_is_locked_for_as_long_as_the_plan_promises(plan: Plan) -> None:
    lock = plan_resources(plan)["EvidenceBucket"]["Properties"]["ObjectLockConfiguration"]
    assert lock["Rule"]["DefaultRetention"]["Mode"] == "COMPLIANCE"
    assert lock["Rule"]["DefaultRetention"]["Days"] >= 7 * 365


def test_what_was_only_in_transit_between_servers_is_removed_after_a_day() -> None:
    bucket = json.loads((INFRA / "storage.json").read_text())["Resources"]["BackupBucket"]
    rules = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    [rule] = [it for it in rules if it.get("Prefix") == f"{TRANSIT}/"]
    assert rule["Status"] == "Enabled"
    assert (rule["ExpirationInDays"], rule["NoncurrentVersionExpiration"]) == (
        1, {"NoncurrentDays": 1},
    )  # fmt: skip


def test_a_schedule_in_another_zone_is_refused_and_not_shifted(plan: Plan) -> None:
    data = plan.to_json()
    data["components"]["nexus-db"]["backups"][0]["when"] = "daily at 02:00 Europe/Berlin"
    with pytest.raises(PlanError) as refused:
        plan_resources(Plan.from_json(data))
    assert refused.value.instance_code == "zone-not-scheduled"


def test_a_replica_is_versioned_encrypted_closed_and_outlives_the_stack(plan: Plan) -> None:
    replica = plan_resources(plan)["ReplicaNexusUploads"]
    properties = replica["Properties"]
    assert replica["DeletionPolicy"] == replica["UpdateReplacePolicy"] == "Retain"
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert "aws:kms" in str(properties["BucketEncryption"])


def test_versions_of_a_replica_go_once_a_day_where_the_plan_says_how_long_they_stay(
    plan: Plan,
) -> None:
    data = plan.to_json()
    data["components"]["nexus-uploads"]["retention"]["versions"] = 30 * 86400
    said, unsaid = plan_resources(Plan.from_json(data)), plan_resources(plan)
    added = {it: said[it] for it in said.keys() - unsaid.keys()}
    [rule] = [it for it in added.values() if it["Type"] == "AWS::Events::Rule"]
    [alarm] = [it for it in added.values() if it["Type"] == "AWS::CloudWatch::Alarm"]
    assert rule["Properties"]["ScheduleExpression"] == "rate(1 day)"
    assert "ExpireVersions" in str(rule["Properties"]["Targets"])
    assert alarm["Properties"]["TreatMissingData"] == "breaching"
    replica = said["ReplicaNexusUploads"]["Properties"]
    rules = replica["LifecycleConfiguration"]["Rules"]
    assert [it["Id"] for it in rules] == ["unfinished-uploads"], "no rule knows of inventories"
    assert replica["Tags"] == [{"Key": "leeward:versions-days", "Value": "30"}]
    assert "Tags" not in unsaid["ReplicaNexusUploads"]["Properties"], "nothing ever goes"
    data["components"]["nexus-uploads"]["retention"]["versions"] = 3600
    [tag] = plan_resources(Plan.from_json(data))["ReplicaNexusUploads"]["Properties"]["Tags"]
    assert tag["Value"] == "2", "for so long nothing goes, whatever the plan says"


def test_only_the_plan_s_buckets_send_events_and_are_named_to_the_functions(plan: Plan) -> None:
    changed = plan_resources(plan)["ChangedNexusUploads"]["Properties"]["EventPattern"]
    assert changed["detail"]["bucket"]["name"] == ["nexus-assets"]
    told = replica_globals(plan)["Function"]["Environment"]["Variables"]["LEEWARD_REPLICA_BUCKETS"]
    assert told == {"Fn::Sub": '{"nexus-uploads": "${ReplicaNexusUploads}"}'}
    data = plan.to_json()
    data["components"]["nexus-uploads"]["backups"] = []
    without = Plan.from_json(data)
    assert not {it for it in plan_resources(without) if "Uploads" in it}
    told = replica_globals(without)["Function"]["Environment"]["Variables"]
    assert told == {"LEEWARD_REPLICA_BUCKETS": "{}"}


def test_one_rule_tells_of_a_bucket_that_two_components_are(plan: Plan) -> None:
    """The function serves both; a second rule would have it do everything twice."""
    data = plan.to_json()
    uploads = data["components"]["nexus-uploads"]
    data["components"] = {"nexus-old": uploads | {"retired": "2026-11-01"}} | data["components"]
    data["components"]["nexus-zoo"] = uploads
    made = plan_resources(Plan.from_json(data))
    assert [it for it in made if it.startswith("Changed") and "Permission" not in it] == [
        "ChangedNexusUploads"
    ]
    assert {"ReplicaNexusOld", "ReplicaNexusUploads", "ReplicaNexusZoo"} <= made.keys()


def test_nothing_of_the_plan_is_merged_into_what_chalice_makes(plan: Plan) -> None:
    """A role of the same name would take a function's rights away, unsaid."""
    config = json.loads((PLANS.parents[1] / ".chalice" / "config.json").read_text())
    functions = config["stages"]["primary"]["lambda_functions"]
    taken = {logical_id(name) for name in functions}
    taken |= {f"{name}{what}" for name in taken for what in ("Role", "LogGroup")}
    assert not {name for name, it in plan_resources(plan).items() if "Type" in it} & taken


def test_the_good_sync_of_one_location_clears_no_alarm_of_another(plan: Plan) -> None:
    data = plan.to_json()
    data["components"]["nexus-uploads"]["backups"] = [
        {"kind": "replication", "to": ["primary", "secondary"]},
        {"kind": "sync", "when": "daily", "takes": "1h", "to": ["tertiary"]},
    ]
    metrics = {
        it["Properties"]["AlarmName"].removeprefix("nexus-uploads-"): it["Properties"]["MetricName"]
        for it in plan_resources(Plan.from_json(data)).values()
        if it.get("Type") == "AWS::CloudWatch::Alarm"
    }
    failing = {name for name in metrics if name.startswith("sync-") and name.endswith("-failing")}
    assert {name: metrics[name] for name in failing} == {
        "sync-failing": "SyncFailures.primary",
        "sync-secondary-failing": "SyncFailures.secondary",
        "sync-tertiary-failing": "SyncFailures.tertiary",
    }
    # No event goes to the third: what it brings at night was missed by nobody.
    assert {name: it for name, it in metrics.items() if name.startswith("events-missed")} == {
        "events-missed": "MissedEvents.primary",
        "events-missed-secondary": "MissedEvents.secondary",
    }
