"""CloudFormation parts made from a plan: state machines, schedules, alarms.

Merged into the template that Chalice packages (package.py): functions are referred to by the
logical ids that Chalice gives them. Parts that do not depend on the plan are in infra/.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from chalicelib.plan.components import BaseComponent, Files, Git, Postgres, Redis
from chalicelib.plan.model import Plan
from chalicelib.scenarios.compile import compile_scenario, logical_id
from chalicelib.scenarios.steps import STEP_KINDS
from leeward.packaging.buckets import replica_resources
from leeward.packaging.copies import bucket_resources, copy_resources
from leeward.packaging.exercises import exercise_resources
from leeward.packaging.limits import require_names
from leeward.packaging.many import many_resources
from leeward.packaging.names import switch_resources
from leeward.packaging.outage import heartbeat_resources
from leeward.packaging.parts import (
    CLOUDWATCH_PERIOD_SECONDS,
    Resources,
    alarm,
    alarm_resource,
    require_utc,
    run_alarms,
    schedule,
    sign_alarm,
    silence_alarm,
    title,
)
from leeward.packaging.people import people_resources
from leeward.packaging.proofs import proof_resources
from leeward.packaging.seldom import seldom_resources
from leeward.packaging.status import status_resources

# How often the source is probed. Not in a plan: alarms are evaluated once a minute by CloudWatch.
WATCH_SCHEDULE = "rate(1 minute)"
WATCH_SILENT_MINUTES = 5

# What is taken of a database for each kind of backup of a plan: logs cannot be replayed on a
# dump, so that for a dump a base backup is taken (docs/decisions/0016).
TAKEN_AS = {"full": "full", "incremental": "incremental", "wal": "wal", "dump": "full"}

SIGN_OF_DAMAGE = "a check of the source failed, or a change looks wrong"
SIGN_OF_BLINDNESS = "a check of the source could not run; nothing is known until it does"
SIGN_OF_GAP = "WAL was lost before it was stored; a new full backup is being taken"
SIGN_OF_ANOTHER = (
    "another cluster answers than the one that is backed up; nothing of it is taken "
    "(docs/operator-role.md)"
)
SIGN_OF_LAG = "the server writes WAL faster than it is stored: its disk fills, or its slot is lost"
NO_WAL = "; the server keeps what its slot still owes, and its disk fills (docs/operator-role.md)"

STEP_FUNCTIONS = sorted({kind.function for kind in STEP_KINDS.values()} | {"ask", "record"})


def step_parameters(plan: Plan) -> dict[str, Any]:
    """The functions that the plan's scenarios call, in either stack: who opens an incident warms
    them, and may invoke no others."""
    steps = (step for it in plan.scenarios.values() for step in it.all_steps())
    used = {STEP_KINDS[step.uses].function for step in steps if step.uses} | {"record"}
    arns = [f"arn:aws:lambda:*:*:function:leeward-*-{name}" for name in sorted(used)]
    return {"StepFunctions": {"Type": "CommaDelimitedList", "Default": ",".join(arns)}}


def plan_resources(plan: Plan) -> Resources:
    """Every resource that follows from the plan, by logical id.

    Raises:
        PlanError: codes "name-too-long", "zone-not-scheduled".
    """
    here = tuple(name for name in plan.scenarios if not plan.runs_in_standby(name))
    resources = machine_resources(plan, here, STEP_FUNCTIONS)
    resources |= _evidence_lock(plan) | bucket_resources(plan)
    resources |= replica_resources(plan) | many_resources(plan) | heartbeat_resources(plan)
    resources |= exercise_resources(plan) | people_resources(plan) | proof_resources(plan)
    if plan.aws_region("standby") is None:
        resources |= switch_resources(plan) | status_resources(plan)
    for name, component in plan.components.items():
        if name in plan.stand_ins:
            continue  # what it holds comes from another's backups
        if _is_taken(component):
            resources |= copy_resources(plan, name, component)
        if component.retired is None:
            resources |= _taking(plan, name, component)
    resources |= seldom_resources(plan, resources)
    require_names(resources)
    return resources


def machine_resources(plan: Plan, scenarios: Iterable[str], functions: Iterable[str]) -> Resources:
    """The state machines of these scenarios, their alarms, and the role that calls `functions`."""
    resources = _machine_role(functions)
    for name in scenarios:
        resources |= _machine(plan, name) | run_alarms(
            name, "run", machine_id(name), f"a run of {name}, or a drill of it, {{how}}"
        )
    return resources


def machine_name(plan: Plan, scenario: str) -> str:
    return f"leeward-{plan.name}-{scenario}"


def machine_id(scenario: str) -> str:
    """The logical id of a scenario's state machine."""
    return f"Scenario{title(scenario)}"


def _machine(plan: Plan, name: str) -> Resources:
    definition = compile_scenario(name, plan.scenarios[name])
    used = [f for f in STEP_FUNCTIONS if f"${{{logical_id(f)}}}" in json.dumps(definition)]
    return {
        machine_id(name): {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {
                "StateMachineName": machine_name(plan, name),
                "StateMachineType": "STANDARD",
                "DefinitionString": json.dumps(definition, indent=1),
                "DefinitionSubstitutions": {
                    logical_id(f): {"Fn::GetAtt": [logical_id(f), "Arn"]} for f in used
                },
                "RoleArn": {"Fn::GetAtt": ["ScenarioRole", "Arn"]},
            },
        }
    }


def _evidence_lock(plan: Plan) -> Resources:
    """Evidence cannot be deleted, by anybody, before the plan's longest promise for records ends.

    Source: S3 Object Lock's compliance mode ("can't be overwritten or deleted by any user").
    """
    kept = [record.keep for record in plan.compliance.records if record.keep is not None]
    if not kept:
        return {}
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": _whole_days(max(kept))}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    return {"EvidenceBucket": {"Properties": {"ObjectLockConfiguration": lock}}}


def _whole_days(period: timedelta) -> int:
    return -(-int(period.total_seconds()) // 86400)


def _machine_role(functions: Iterable[str]) -> Resources:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "states.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    invoke = {
        "Effect": "Allow",
        "Action": "lambda:InvokeFunction",
        "Resource": [{"Fn::GetAtt": [logical_id(f), "Arn"]} for f in functions],
    }
    document = {"Version": "2012-10-17", "Statement": [invoke]}
    return {
        "ScenarioRole": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": trust,
                "Policies": [{"PolicyName": "invoke-steps", "PolicyDocument": document}],
            },
        }
    }


def _is_taken(component: BaseComponent) -> bool:
    """Whether points of it are taken, by a function or by `leeward take` on a host. Those of
    buckets: replica_resources."""
    if isinstance(component, Postgres):
        return True
    if isinstance(component, Redis):
        return bool(component.secret)
    return bool(component.backups) and (
        (isinstance(component, Files) and bool(component.paths))
        or (isinstance(component, Git) and bool(component.repository))
    )


def _taking(plan: Plan, name: str, component: BaseComponent) -> Resources:
    if isinstance(component, Postgres):
        return _database(plan, name, component)
    if isinstance(component, Redis) and component.secret:
        return _dumps(plan, name, component)
    return _on_hosts(name, component) if _is_taken(component) else {}


def _on_hosts(name: str, component: BaseComponent) -> Resources:
    """No function reaches it: what is missed is that no new point arrives."""
    resources: Resources = {}
    for backup in component.backups:
        if backup.when is not None:
            resources |= silence_alarm(
                name,
                f"{backup.kind}-silent",
                f"Taken.{backup.kind}",
                backup.when.longest_interval(),
                "no new point arrived when the plan says so; `leeward take` runs where it lies",
            )
    return resources


def _database(plan: Plan, name: str, component: Postgres) -> Resources:
    resources = schedule(plan, name, "watch", "watch", WATCH_SCHEDULE, {"component": name})
    resources |= _watch_silence_alarm(name)
    resources |= sign_alarm(name, "checks-failing", "DamageSigns", SIGN_OF_DAMAGE)
    resources |= sign_alarm(name, "checks-unable", "ChecksUnable", SIGN_OF_BLINDNESS)
    resources |= sign_alarm(name, "wal-gap", "WalGaps", SIGN_OF_GAP, holds=True)
    resources |= sign_alarm(name, "replaced", "ServerReplaced", SIGN_OF_ANOTHER, holds=True)
    resources |= sign_alarm(name, "wal-behind", "WalBehind", SIGN_OF_LAG, holds=True)
    for backup in component.backups:
        if backup.when is None or backup.kind not in TAKEN_AS:
            continue
        require_utc(name, backup.when)
        taken = TAKEN_AS[backup.kind]
        function = "fetch_wal" if taken == "wal" else "back_up"
        body = {"component": name} | ({} if taken == "wal" else {"kind": taken})
        expression = backup.when.to_eventbridge()
        resources |= schedule(plan, name, backup.kind, function, expression, body)
        resources |= silence_alarm(
            name,
            f"{backup.kind}-silent",
            f"Taken.{taken}",
            backup.when.longest_interval(),
            f"no {backup.kind} was taken when the plan says so{NO_WAL if taken == 'wal' else ''}",
        )
    return resources


def _dumps(plan: Plan, name: str, component: Redis) -> Resources:
    """A key-value store that a function reaches in its network."""
    resources: Resources = {}
    for backup in component.backups:
        if backup.when is None:
            continue
        require_utc(name, backup.when)
        body = {"component": name, "kind": backup.kind}
        expression = backup.when.to_eventbridge()
        resources |= schedule(plan, name, backup.kind, "take", expression, body)
        resources |= silence_alarm(
            name,
            f"{backup.kind}-silent",
            f"Taken.{backup.kind}",
            backup.when.longest_interval(),
            f"no {backup.kind} was taken when the plan says so",
        )
    return resources


def _watch_silence_alarm(component: str) -> Resources:
    """Fires when nobody has looked at the source for WATCH_SILENT_MINUTES."""
    properties = alarm(component, "watch-silent", "Taken.watch", CLOUDWATCH_PERIOD_SECONDS) | {
        "AlarmDescription": f"{component}: nobody looks at the source; its checks are not green",
        "Statistic": "Sum",
        "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "breaching",
        "EvaluationPeriods": WATCH_SILENT_MINUTES,
    }
    return alarm_resource(component, "watch-silent", properties)
