"""The template of what moves names: who may read what, and which record leads where."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from chalicelib.plan.model import Plan
from leeward.packaging.names import (
    CHECKERS,
    check_outputs,
    names_globals,
    names_parameters,
    names_template,
    switch_resources,
)
from leeward.packaging.standby import standby_template
from leeward.packaging.template import plan_resources
from leeward.plan_file import load_plan

PLANS = Path(__file__).parents[2] / "policies" / "plans"


@pytest.fixture
def plan() -> Plan:
    return load_plan(PLANS / "nexus-studio.yaml").plan


def changed(plan: Plan, **names: Any) -> Plan:
    data = plan.to_json()
    data["components"]["nexus-names"] |= names
    return Plan.from_json(data)


def test_checkers_may_read_the_switch_objects_and_nothing_else(plan: Plan) -> None:
    policy = switch_resources(plan)["SwitchBucketPolicy"]["Properties"]["PolicyDocument"]

    [allowed] = [it for it in policy["Statement"] if it["Effect"] == "Allow"]

    assert allowed["Action"] == "s3:GetObject"
    assert allowed["Resource"] == [
        {"Fn::Sub": "${SwitchBucket.Arn}/switch/nexus-names"},
        {"Fn::Sub": "${SwitchBucket.Arn}/switch/nexus-names-drill"},
    ]
    assert allowed["Condition"] == {"IpAddress": {"aws:SourceIp": list(CHECKERS)}}


def test_no_list_of_checkers_is_so_wide_that_it_is_public() -> None:
    """S3 calls a policy public that lets in more than a /8."""
    assert all(ip_network(it).prefixlen >= 18 and ip_network(it).is_global for it in CHECKERS)
    assert len(set(CHECKERS)) == len(CHECKERS)


def test_the_bucket_is_private_versioned_and_readable_without_a_kms_key(plan: Plan) -> None:
    bucket = switch_resources(plan)["SwitchBucket"]["Properties"]

    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert "aws:kms" not in json.dumps(bucket)


def test_every_check_is_inverted(plan: Plan) -> None:
    """One that is not would send everybody to the standby from the first day."""
    checks = [it for it in switch_resources(plan).values() if "HealthCheck" in it["Type"]]
    configs = [it["Properties"]["HealthCheckConfig"] for it in checks]

    assert len(checks) == 2
    assert all(it["Inverted"] is True for it in configs)
    assert {it["ResourcePath"] for it in configs} == {
        "/switch/nexus-names",
        "/switch/nexus-names-drill",
    }


def test_the_home_answers_while_the_check_is_healthy_and_the_other_always_can(plan: Plan) -> None:
    template = names_template(plan)
    assert template

    sets = [it["Properties"] for it in template["Resources"].values()]
    api = {it["Failover"]: it for it in sets if it["Name"] == "api.nexus-studio.io."}

    assert api["PRIMARY"]["ResourceRecords"] == ["192.0.2.11"]
    assert api["PRIMARY"]["HealthCheckId"] == {"Ref": "SwitchCheckNexusNames"}
    assert api["SECONDARY"]["ResourceRecords"] == ["198.51.100.11"]
    assert "HealthCheckId" not in api["SECONDARY"]
    assert set(template["Parameters"]) == set(check_outputs(plan))
    assert len({(it["Name"], it["SetIdentifier"]) for it in sets}) == len(sets) == 6


def test_with_routing_controls_each_answer_is_tied_to_its_own_site(plan: Plan) -> None:
    controls = {
        site: f"arn:aws:route53-recovery-control::123456789012:controlpanel/p/routingcontrol/{site}"
        for site in ("primary", "dr")
    }
    template = names_template(changed(plan, failover="routing-control", routing_controls=controls))
    assert template

    resources = template["Resources"]
    sets = [it["Properties"] for it in resources.values() if "Failover" in it["Properties"]]
    api = {it["Failover"]: it for it in sets if it["Name"] == "api.nexus-studio.io."}

    for role, site in (("PRIMARY", "primary"), ("SECONDARY", "dr")):
        check = resources[api[role]["HealthCheckId"]["Ref"]]["Properties"]["HealthCheckConfig"]
        assert check == {"Type": "RECOVERY_CONTROL", "RoutingControlArn": controls[site]}


def test_a_zone_is_named_by_its_id_where_the_plan_has_it(plan: Plan) -> None:
    template = names_template(changed(plan, hosted_zone="Z123"))
    assert template

    sets = [it["Properties"] for it in template["Resources"].values()]

    assert {it.get("HostedZoneId") for it in sets if it["Name"].startswith("api")} == {"Z123"}


def test_what_may_be_changed_is_the_plans_own(plan: Plan) -> None:
    arn = "arn:aws:route53-recovery-control::123456789012:controlpanel/p/routingcontrol/a"
    ours = changed(
        plan, failover="change-records", hosted_zone="Z123", routing_controls={"dr": arn}
    )

    parameters = names_parameters(ours)

    assert parameters["HostedZones"]["Default"] == "arn:aws:route53:::hostedzone/Z123"
    assert parameters["RoutingControls"]["Default"] == arn
    assert "LEEWARDNONE" in names_parameters(plan)["HostedZones"]["Default"]


def test_the_switch_lies_where_the_primary_region_is_not(plan: Plan) -> None:
    """In the standby region, and where there is none in AWS, beside Leeward itself."""
    variables = names_globals(plan)["Function"]["Environment"]["Variables"]
    data = plan.to_json()
    data["sites"]["dr"] = {"provider": "own", "role": "standby"}
    alone = Plan.from_json(data)

    assert "SwitchBucket" not in plan_resources(plan)
    assert variables["LEEWARD_SWITCH_REGION"] == "us-west-2"
    assert "us-west-2" in variables["LEEWARD_SWITCH_BUCKET"]["Fn::Sub"]
    assert "SwitchBucket" in plan_resources(alone)
    own = names_globals(alone)["Function"]["Environment"]["Variables"]
    assert own["LEEWARD_SWITCH_REGION"] == {"Ref": "AWS::Region"}


def test_the_standby_stack_has_it_and_says_what_the_names_need(plan: Plan) -> None:
    primary = {"Globals": {}, "Transform": "t", "Parameters": {}, "Resources": {}}

    template = standby_template(plan, primary)

    assert "SwitchBucket" in template["Resources"]
    assert set(check_outputs(plan)) <= set(template["Outputs"])
