"""EventBridge: events reach Lambda functions and state machines.

moto stores rules and matches patterns, but refuses these targets, lets a rule without a pattern
(a schedule) match every event, and ignores DISABLED. A function must allow events.amazonaws.com
to invoke it, as in AWS; what could not be delivered is in `cloud.runner.lost`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.awslambda.models import LambdaFunction
from moto.awslambda.utils import get_backend as lambda_backend
from moto.events.models import Rule
from moto.stepfunctions.responses import get_backend as stepfunctions_backend

from chalicelib.errors import BadInput
from leeward.local.iam import ACCOUNT
from leeward.local.shims import replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud


@contextmanager
def install(cloud: LocalCloud) -> Iterator[None]:
    def send_to_targets(self: Rule, event: dict[str, Any], transform_input: bool = True) -> None:
        if self.state == "ENABLED" and matches(self, event):
            deliver(cloud, self, as_sent(event))

    with replaced(Rule, "send_to_targets", lambda _original: send_to_targets):
        yield


def matches(rule: Rule, event: dict[str, Any]) -> bool:
    return bool(rule.event_pattern.get_pattern()) and rule.event_pattern.matches_event(event)


def as_sent(event: dict[str, Any]) -> dict[str, Any]:
    """The event as AWS sends it: `time` in ISO 8601 and whole seconds."""
    sent = {key: value for key, value in event.items() if key != "ingestion-time"}
    if isinstance(sent["time"], (int, float)):
        sent["time"] = event_time(datetime.fromtimestamp(sent["time"], UTC))
    return sent


def event_time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def scheduled_event(rule: Rule, at: datetime) -> dict[str, Any]:
    """What EventBridge sends when a schedule is due."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": event_time(at),
        "region": rule.region_name,
        "resources": [rule.arn],
        "detail": {},
    }


def deliver(cloud: LocalCloud, rule: Rule, event: dict[str, Any]) -> None:
    """Hand `event` to every target of the rule; returns before they have run."""
    if cloud.faults.stops(rule.region_name, "events", "Deliver"):
        cloud.runner.lost.append((rule.name, event, f"EventBridge of {rule.region_name} is down"))
        return
    for target in rule.targets:
        payload = json.loads(target["Input"]) if "Input" in target else event
        service = target["Arn"].split(":")[2]
        if service == "lambda":
            _to_function(cloud, rule, target["Arn"], payload)
        elif service == "states":
            _to_state_machine(rule.region_name, target["Arn"], payload)
        else:
            raise BadInput(f"rule {rule.name} has a target this cloud cannot reach: {service}")


def _to_function(cloud: LocalCloud, rule: Rule, arn: str, payload: Any) -> None:
    function = lambda_backend(ACCOUNT, rule.region_name).get_function(arn)
    if not may_invoke(function, rule):
        cloud.runner.lost.append((function.function_name, payload, f"{rule.arn} may not invoke it"))
        return
    cloud.runner.invoke_later(cloud.function_of(function), payload)


def may_invoke(function: LambdaFunction, rule: Rule) -> bool:
    """Does the function's resource policy allow EventBridge, for this rule?"""
    for statement in function.policy.statements:
        source = statement.get("Condition", {}).get("ArnLike", {}).get("AWS:SourceArn", rule.arn)
        if statement["Principal"] == {"Service": "events.amazonaws.com"} and source == rule.arn:
            return True
    return False


def _to_state_machine(region: str, arn: str, payload: Any) -> None:
    backend = stepfunctions_backend(ACCOUNT, region)
    backend.start_execution(arn, str(uuid.uuid4()), json.dumps(payload))
