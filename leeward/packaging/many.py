"""CloudFormation for syncs of very many objects: a state machine a bucket, and the roles it needs.

An execution is started with {} or any of {"location", "approved", "shard_objects",
"part_objects", "batch_above"} and is named by who starts it; the name is the run's. What the shards
say is counted by finish_shards, whatever the Map state says of itself.
"""

from __future__ import annotations

import json
from typing import Any

from chalicelib.plan.model import Plan
from chalicelib.scenarios.compile import logical_id, task_state
from leeward.packaging.buckets import replicated
from leeward.packaging.many_roles import batch_role, sync_role
from leeward.packaging.parts import Resources, run_alarms, title

FUNCTIONS = ("plan_shards", "copy_shard", "finish_shards", "batch_copy")
# S3 takes 3,500 copies a second of one prefix; a shard makes some hundred, or 80 MB/s elsewhere.
MAX_CONCURRENCY = 16
LAMBDA_SECONDS = 900
# S3 Batch Operations reads a manifest for minutes before it copies anything.
ASK_EVERY_SECONDS = 60
RUN_SECONDS = 20 * 3600
RECORDER = "Record failure"
WRITE = "Write the inventory"
# A name may be used again after 90 days: the plan and the results of then must not count.
RUN = "States.Format('{}@{}', $$.Execution.Name, $$.Execution.StartTime)"


def many_resources(plan: Plan) -> Resources:
    """The machines of the plan's buckets; the roles always, as policies refer to them."""
    resources = sync_role(sync_machine_name(plan, "*"), FUNCTIONS) | batch_role()
    for component in [name for name in replicated(plan) if name in plan.live]:
        resources |= _machine(plan, component) | run_alarms(
            component,
            "sync-run",
            _machine_id(component),
            f"{component}: a sync over shards did not end well",
        )
    return resources


def sync_machine_name(plan: Plan, component: str) -> str:
    return f"leeward-{plan.name}-sync-{component}"


def sync_machine(component: str) -> dict[str, Any]:
    """The definition, in Amazon States Language with JSONPath."""
    return {
        "Comment": f"make a replica of {component} what the bucket is, shard by shard",
        "StartAt": "Plan the shards",
        "TimeoutSeconds": RUN_SECONDS,
        "States": {
            "Plan the shards": _call(
                component, "plan_shards", "list both sides, refuse too many deletions, cut shards"
            )
            | {
                "ResultSelector": {
                    "bucket.$": "$.Payload.bucket",
                    "key.$": "$.Payload.key",
                    "batch.$": "$.Payload.batch",
                },
                "ResultPath": "$.plan",
                "Next": "Choose who copies",
            },
            **_batch_states(component),
            "Do the shards": _map_state(component),
            "Count the results": _call(
                component,
                "finish_shards",
                "a shard without a result is a failure; cut the inventory",
            )
            | _counted(),
            "Is there an inventory": _choice(
                "of a replica in AWS", "$.counted.inventory", WRITE, "Enter the point"
            ),
            WRITE: _inventory_state(component),
            "Enter the point": _call(
                component, "finish_shards", "join the parts; in step", {"enter": True}
            )
            | {"ResultSelector": {"found.$": "$.Payload.found"}, "Next": "In step"},
            RECORDER: _call(
                component, "finish_shards", "record what failed", {"failure.$": "$.failure"}
            )
            | {"ResultPath": None, "Catch": _catch("Not in step"), "Next": "Not in step"},
            "In step": {"Type": "Succeed", "Comment": "every object was accounted for"},
            "Not in step": {
                "Type": "Fail",
                "Comment": "what was copied stays; the next run goes on from there",
                "Error": "NotInStep",
                "Cause": "see failure.json and done.json of the run",
            },
        },
    }


def _batch_states(component: str) -> dict[str, Any]:
    """S3 copies first when there is very much; the shards then look at every object."""
    of_jobs = {
        "ResultSelector": {"jobs.$": "$.Payload.jobs", "done.$": "$.Payload.done"},
        "ResultPath": "$.batch",
        "Next": "Are the jobs done",
    }
    jobs = {"jobs.$": "$.batch.jobs"}
    return {
        "Choose who copies": _choice(
            "S3 Batch Operations from a threshold on",
            "$.plan.batch",
            "Start the jobs",
            "Do the shards",
        ),
        "Start the jobs": _call(component, "batch_copy", "a job for each storage class") | of_jobs,
        "Are the jobs done": _choice(
            "a job is complete when every line was tried",
            "$.batch.done",
            "Do the shards",
            "Wait for S3",
        ),
        "Wait for S3": {
            "Type": "Wait",
            "Comment": "S3 goes at its own pace",
            "Seconds": ASK_EVERY_SECONDS,
            "Next": "Ask for the jobs",
        },
        "Ask for the jobs": _call(component, "batch_copy", "how far the jobs are", jobs) | of_jobs,
    }


def _map_state(component: str) -> dict[str, Any]:
    """A shard that fails for good is left to be counted, so that the others are done.

    All children together may answer 256 KiB: they say nothing, the results are in S3.
    """
    shard = task_state("copy, or delete, what the shard names", "copy_shard", {}, LAMBDA_SECONDS)
    payload = {
        "component.$": "$.component",
        "run.$": "$.run",
        "job.$": "$.job",
        "shard.$": "$.shard",
        "again.$": "$.again",
        "attempt.$": "$$.State.RetryCount",
    }
    shard["Parameters"]["Payload"] = payload
    done = {"ResultSelector": {"done.$": "$.Payload.done"}, "ResultPath": "$.outcome"}
    left = {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Say nothing"}
    return {
        "Type": "Map",
        "Comment": "the shards of the plan, each in an execution of its own",
        "ItemReader": {
            "Resource": "arn:aws:states:::s3:getObject",
            "ReaderConfig": {"InputType": "JSON"},
            "Parameters": {"Bucket.$": "$.plan.bucket", "Key.$": "$.plan.key"},
        },
        "ItemSelector": {
            "component": component,
            "run.$": RUN,
            "job.$": "$$.Execution.Input",
            "shard.$": "$$.Map.Item.Value",
            "again.$": "$.plan.batch",
        },
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "Do a shard",
            "States": {
                "Do a shard": shard | done | {"Catch": [left], "Next": "Is it done"},
                "Is it done": _choice(
                    "a long object takes several invocations",
                    "$.outcome.done",
                    "Say nothing",
                    "Go on",
                ),
                "Go on": {
                    "Type": "Pass",
                    "Comment": "look at each object first, most are there",
                    "Result": True,
                    "ResultPath": "$.again",
                    "Next": "Do a shard",
                },
                "Say nothing": {
                    "Type": "Pass",
                    "Comment": "the shard's result is in S3, or it is missing and counted so",
                    "Result": {},
                    "End": True,
                },
            },
        },
        "MaxConcurrency": MAX_CONCURRENCY,
        "ToleratedFailureCount": 0,
        "ResultPath": None,
        "Catch": _catch(RECORDER),
        "Next": "Count the results",
    }


def _counted() -> dict[str, Any]:
    named = ("bucket", "key", "inventory", "found")
    return {
        "ResultSelector": {f"{name}.$": f"$.Payload.{name}" for name in named},
        "ResultPath": "$.counted",
        "Next": "Is there an inventory",
    }


def _inventory_state(component: str) -> dict[str, Any]:
    """Every part has to be there: one that fails for good ends the run red."""
    payload = {"component.$": "$.component", "run.$": "$.run", "part.$": "$.part"}
    part = task_state("look at each object of a range of keys", "finish_shards", {}, LAMBDA_SECONDS)
    part["Parameters"]["Payload"] = payload
    left = {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Not written"}
    return {
        "Type": "Map",
        "Comment": "what the replica holds, a range of keys in an execution of its own",
        "ItemReader": {
            "Resource": "arn:aws:states:::s3:getObject",
            "ReaderConfig": {"InputType": "JSON"},
            "Parameters": {"Bucket.$": "$.counted.bucket", "Key.$": "$.counted.key"},
        },
        "ItemSelector": {"component": component, "run.$": RUN, "part.$": "$$.Map.Item.Value"},
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "Write a part",
            "States": {
                "Write a part": part | {"Catch": [left], "Next": "Written"},
                "Written": {
                    "Type": "Pass",
                    "Comment": "what came of it is in S3",
                    "Result": {},
                    "End": True,
                },
                "Not written": {
                    "Type": "Fail",
                    "Comment": "without this part there is no inventory",
                    "Error": "PartFailed",
                    "Cause": "see the log of finish_shards",
                },
            },
        },
        "MaxConcurrency": MAX_CONCURRENCY,
        "ToleratedFailureCount": 0,
        "ResultPath": None,
        "Catch": _catch(RECORDER),
        "Next": "Enter the point",
    }


def _call(
    component: str, function: str, comment: str, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    payload = {
        "component": component,
        "run.$": RUN,
        "job.$": "$$.Execution.Input",
        **(more or {}),
    }
    return task_state(comment, function, payload, LAMBDA_SECONDS) | {"Catch": _catch(RECORDER)}


def _choice(comment: str, variable: str, yes: str, no: str) -> dict[str, Any]:
    rule = {"Variable": variable, "BooleanEquals": True, "Next": yes}
    return {"Type": "Choice", "Comment": comment, "Choices": [rule], "Default": no}


def _catch(following: str) -> list[dict[str, Any]]:
    return [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": following}]


def _machine_id(component: str) -> str:
    return f"Sync{title(component)}"


def _machine(plan: Plan, component: str) -> Resources:
    return {
        _machine_id(component): {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {
                "StateMachineName": sync_machine_name(plan, component),
                "StateMachineType": "STANDARD",
                "DefinitionString": json.dumps(sync_machine(component), indent=1),
                "DefinitionSubstitutions": {
                    logical_id(it): {"Fn::GetAtt": [logical_id(it), "Arn"]} for it in FUNCTIONS
                },
                "RoleArn": {"Fn::GetAtt": ["ShardsRole", "Arn"]},
            },
        }
    }
