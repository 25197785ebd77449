"""The machine that syncs very many objects, and what its roles may do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.errors import retryable_names
from leeward.packaging.many import (
    FUNCTIONS,
    RECORDER,
    many_resources,
    sync_machine,
    sync_machine_name,
)
from leeward.plan_file import load_plan

ROOT = Path(__file__).parents[2]
PLAN = load_plan(ROOT / "policies" / "plans" / "nexus-studio.yaml").plan
COMPONENT = "nexus-uploads"


def every_state(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from every_state(state["ItemProcessor"])


def statements(role: str) -> dict[str, dict[str, Any]]:
    made = many_resources(PLAN)[role]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    return {it["Sid"]: it for it in made}


def test_each_bucket_of_the_plan_has_its_machine() -> None:
    resources = many_resources(PLAN)
    machines = {
        it["Properties"]["StateMachineName"]: it["Properties"]
        for it in resources.values()
        if it.get("Type") == "AWS::StepFunctions::StateMachine"
    }
    assert set(machines) == {"leeward-nexus-studio-sync-nexus-uploads"}
    (properties,) = machines.values()
    for name in properties["DefinitionSubstitutions"]:
        assert f"${{{name}}}" in properties["DefinitionString"]


def test_every_state_says_what_it_is_for_and_no_call_waits_or_fails_unheard() -> None:
    for name, state in every_state(sync_machine(COMPONENT)):
        assert state["Comment"], name
        if state["Type"] in ("Task", "Map"):
            assert [it["ErrorEquals"] for it in state["Catch"]] == [["States.ALL"]], name
        if state["Type"] == "Task":
            assert 0 < state["TimeoutSeconds"] <= 900, name
            tried_again = {error for retry in state["Retry"] for error in retry["ErrorEquals"]}
            assert tried_again >= {*retryable_names(), "Sandbox.Timedout"}, name
            assert "States.ALL" not in tried_again, name


def test_a_failure_anywhere_ends_in_the_recorder_and_red() -> None:
    states = sync_machine(COMPONENT)["States"]
    for name, state in states.items():
        if "Catch" in state and name != RECORDER:
            assert state["Catch"][0]["Next"] == RECORDER, name
    assert (states[RECORDER]["Next"], states["Not in step"]["Type"]) == ("Not in step", "Fail")
    green = [name for name, state in states.items() if state.get("Next") == "In step"]
    assert green == ["Enter the point"], "only who counted says that all is well"
    assert states["Count the results"]["Next"] == "Is there an inventory"
    before = [name for name, state in states.items() if state.get("Next") == "Enter the point"]
    assert before == ["Write the inventory"]
    assert states["Do the shards"]["Next"] == "Count the results"


def test_a_part_of_the_inventory_that_fails_ends_the_run_red() -> None:
    parts = sync_machine(COMPONENT)["States"]["Write the inventory"]
    children = parts["ItemProcessor"]["States"]
    failed = children["Write a part"]["Catch"][0]["Next"]
    assert children[failed]["Type"] == "Fail"
    assert (parts["ToleratedFailureCount"], parts["Catch"][0]["Next"]) == (0, RECORDER)
    assert "ItemsPath" not in parts


def test_the_map_carries_no_list_and_its_children_say_nothing() -> None:
    """256 KiB is what one state may hand to the next."""
    shards = sync_machine(COMPONENT)["States"]["Do the shards"]
    assert "ItemsPath" not in shards
    assert shards["ItemReader"]["Resource"].endswith("s3:getObject")
    assert shards["ResultPath"] is None
    last = [it for it in shards["ItemProcessor"]["States"].values() if it.get("End")]
    assert [it["Result"] for it in last] == [{}]
    assert shards["ToleratedFailureCount"] == 0


def test_a_run_is_named_by_its_execution_and_when_it_began() -> None:
    """An execution's name may be used again after 90 days, and would find its plan done."""
    machine = sync_machine(COMPONENT)["States"]
    named = {
        it["Parameters"]["Payload"]["run.$"] for it in machine.values() if it["Type"] == "Task"
    }
    for name in ("Do the shards", "Write the inventory"):
        named.add(machine[name]["ItemSelector"]["run.$"])
    (run,) = named
    assert "$$.Execution.Name" in run
    assert "$$.Execution.StartTime" in run


def test_the_machine_s_role_starts_its_own_machines_and_reads_lists_of_shards_alone() -> None:
    may = statements("ShardsRole")
    assert set(may) == {"CallFunctions", "ReadShards", "Decrypt", "StartShards", "FollowShards"}
    assert len(may["CallFunctions"]["Resource"]) == len(FUNCTIONS)
    own = sync_machine_name(PLAN, "*")
    assert may["StartShards"]["Resource"]["Fn::Sub"].endswith(f":stateMachine:{own}")
    assert may["FollowShards"]["Resource"]["Fn::Sub"].endswith(f":execution:{own}:*")
    read = [it["Fn::Sub"] for it in may["ReadShards"]["Resource"]]
    assert read == [f"${{BackupBucket.Arn}}/*/shards/*/{it}.json" for it in ("map", "parts")]


def test_s3_s_own_role_can_copy_and_cannot_delete_or_touch_points() -> None:
    may = statements("BatchRole")
    actions = {it for one in may.values() for it in listed(one["Action"])}
    assert {it for it in actions if it.startswith("s3:")} == {
        "s3:GetObject", "s3:GetObjectTagging", "s3:PutObject", "s3:PutObjectTagging",
    }  # fmt: skip
    for sid in ("ReadManifests", "WriteReports"):
        assert "/shards/" in may[sid]["Resource"]["Fn::Sub"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_function_may_do_more_below_a_component_than_its_part(function: str) -> None:
    document = json.loads((ROOT / "policies" / "iam" / f"{function}.json").read_text())
    for statement in document["Statement"]:
        where = json.dumps(statement["Resource"])
        writes = [
            it for it in listed(statement["Action"]) if it in ("s3:PutObject", "s3:DeleteObject")
        ]
        if writes and "BackupBucket" in where:
            parts = {
                "/shards/": FUNCTIONS,
                "/points/": ["finish_shards"],
                "/copying/*": ["copy_shard"],
                "/copying/compared=": ["finish_shards"],
            }
            assert any(part in where and function in allowed for part, allowed in parts.items())
        if "s3:DeleteObject" in writes and "replica" in where:
            assert function == "copy_shard"


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
