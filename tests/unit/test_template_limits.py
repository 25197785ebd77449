"""A plan that AWS would refuse to deploy is refused when it is packaged, or made to fit."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from chalicelib.errors import PlanError
from chalicelib.plan.model import Plan
from leeward.packaging.limits import fitting, require_deployable
from leeward.packaging.template import plan_resources
from tests.unit.test_rules import SOUND

LONG = "customer-facing-orders-and-invoices-database-eu"


def renamed(plan: str, component: str, scenario: str) -> Plan:
    text = json.dumps(SOUND | {"name": plan}).replace('"db"', f'"{component}"')
    text = text.replace('"corruption"', f'"{scenario}"').replace('"db-', f'"{component}-')
    return Plan.model_validate_json(text, context={"written": True})


def names(resources: dict[str, Any], kind: str, named: str) -> list[str]:
    found = (it["Properties"] for it in resources.values() if it.get("Type") == kind)
    return [it[named] for it in found if named in it]


def test_schedules_of_long_names_fit_and_are_told_apart() -> None:
    made = plan_resources(renamed("orders", LONG, "corruption"))
    rules = names(made, "AWS::Events::Rule", "Name")
    assert max(map(len, rules)) == 64
    assert len(set(rules)) == len(rules)
    assert rules == names(
        plan_resources(renamed("orders", LONG, "corruption")), "AWS::Events::Rule", "Name"
    )


def test_names_that_fit_stay_as_they_are() -> None:
    assert fitting("leeward-nexus-studio-nexus-db-wal", 64) == "leeward-nexus-studio-nexus-db-wal"
    assert fitting("x" * 64, 64) == "x" * 64


def test_a_machine_that_no_run_could_name_is_refused() -> None:
    """Its name is the scenario's behind a prefix that the functions know, so it cannot be cut."""
    with pytest.raises(PlanError) as caught:
        plan_resources(renamed("n" * 40, "db", "loss-of-" + "a" * 36))
    assert caught.value.instance_code == "name-too-long"


def function(**variables: Any) -> dict[str, Any]:
    properties = {"Environment": {"Variables": variables}}
    return {"Type": "AWS::Lambda::Function", "Properties": properties}


def stack(count: int, **variables: Any) -> dict[str, Any]:
    topics = {f"T{number}": {"Type": "AWS::SNS::Topic"} for number in range(count - 1)}
    return {"Resources": copy.deepcopy(topics) | {"F": function(**variables)}}


@pytest.mark.parametrize(
    ("template", "size", "code"),
    [
        (stack(500), 1_000_000, ""),
        (stack(501), 1000, "stack-too-large"),
        (stack(2), 1_000_001, "stack-too-large"),
        (stack(2, A="x" * 4095), 1000, ""),
        (stack(2, A="x" * 4096), 1000, "environment-too-large"),
        (stack(2, A={"Fn::Sub": "${B}" * 66}), 1000, "environment-too-large"),
        (stack(2, A={"Ref": "B"}, C={"Fn::Sub": ["${B}", {"B": "x"}]}), 1000, ""),
    ],
)
def test_what_is_too_large_for_a_stack_is_refused(
    template: dict[str, Any], size: int, code: str
) -> None:
    if not code:
        require_deployable("primary", template, size)
        return
    with pytest.raises(PlanError) as caught:
        require_deployable("primary", template, size)
    assert caught.value.instance_code == code
