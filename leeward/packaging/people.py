"""CloudFormation for people: the machine of the escalation, the clocks of alarms and outbox."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from chalicelib.incidents.paths import MACHINE
from chalicelib.plan.model import Plan
from chalicelib.scenarios.compile import logical_id, task_state
from leeward.packaging.parts import Resources, schedule, sign_alarm, silence_alarm

# As long as an incident may wait for somebody; the execution's history lasts for weeks of it.
LONGEST_ESCALATION_SECONDS = 30 * 86400
CALL_SECONDS = 120
EVERY, HOUR = timedelta(minutes=1), timedelta(hours=1)
# Ten minutes past: services/people/reminding.py says from which hour of the plan's zone on.
EACH_HOUR = "cron(10 * * * ? *)"
PEOPLE = "people"
ALARMS = "alarms"
SILENCE = "SilenceTopic"
SIGN_OF_UNSWEPT = "nobody looks which alarms are raised: people are told of none"
SIGN_OF_UNTOLD = "a message reached nobody; leeward incident messages lists it"


def people_resources(plan: Plan) -> Resources:
    resources = _escalation(plan) | schedule(plan, PEOPLE, "tell", "tell", "rate(1 minute)", {})
    remind = {"verb": "remind"}
    resources |= schedule(plan, PEOPLE, "reminders", "tell", EACH_HOUR, remind)
    unlooked = "nobody looks at whom to remind"
    resources |= silence_alarm(PEOPLE, "reminders-silent", "RemindersLooked", HOUR, unlooked)
    resources |= schedule(plan, ALARMS, "sweep", "on_alarm", "rate(1 minute)", None)
    silent = "nobody sends what is to be told"
    resources |= _told_by_cloudwatch(
        plan,
        silence_alarm(PEOPLE, "tell-silent", "OutboxLooked", EVERY, silent)
        | silence_alarm(ALARMS, "sweep-silent", "AlarmsLooked", EVERY, SIGN_OF_UNSWEPT),
    )
    return resources | sign_alarm(PEOPLE, "untold", "Untold", SIGN_OF_UNTOLD)


def _told_by_cloudwatch(plan: Plan, alarms: Resources) -> Resources:
    """By mail, without anything of Leeward's in between: what tells people cannot tell of itself.

    SNS asks each address once to confirm that it wants to be written to.
    """
    inside = plan.communication.heard_by("internal").values()
    addresses = {str(it.address) for it in inside if it.kind == "email" and it.address}
    if not addresses:
        return alarms
    subscribed = [{"Protocol": "email", "Endpoint": it} for it in sorted(addresses)]
    topic = {"Type": "AWS::SNS::Topic", "Properties": {"Subscription": subscribed}}
    actions = {"AlarmActions": [{"Ref": SILENCE}], "OKActions": [{"Ref": SILENCE}]}
    told = {name: it | {"Properties": it["Properties"] | actions} for name, it in alarms.items()}
    return {SILENCE: topic} | told


def escalation_machine() -> dict[str, Any]:
    """Ask who is to be called, wait as long as the answer says, ask again, until it is over.

    Input of an execution: {"incident", "subject"}, and {"factor"} to try it in less time.
    """
    ask = task_state("who is called now?", "escalate", {}, CALL_SECONDS)
    ask["Parameters"]["Payload.$"] = "$"
    del ask["Parameters"]["Payload"]
    # One that fails for good must not end the escalation of an incident that goes on.
    again = {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Try again"}
    return {
        "Comment": "calls people by the plan's path until somebody answers",
        "StartAt": "Call",
        "TimeoutSeconds": LONGEST_ESCALATION_SECONDS,
        "States": {
            "Call": ask
            | {
                "ResultSelector": {
                    "ended.$": "$.Payload.ended",
                    "wait.$": "$.Payload.wait_seconds",
                },
                "ResultPath": "$.decision",
                "Catch": [again],
                "Next": "Is it over",
            },
            "Is it over": {
                "Type": "Choice",
                "Comment": "answered, recovered, closed, or out of time",
                "Choices": [
                    {"Variable": "$.decision.ended", "BooleanEquals": True, "Next": "Over"}
                ],
                "Default": "Wait",
            },
            "Wait": {
                "Type": "Wait",
                "Comment": "until the next clock of the path, or until an acknowledgement lapses",
                "SecondsPath": "$.decision.wait",
                "Next": "Call",
            },
            "Try again": {
                "Type": "Wait",
                "Comment": "the function failed for good; the incident has not ended for that",
                "Seconds": 60,
                "Next": "Call",
            },
            "Over": {"Type": "Succeed", "Comment": "nobody is called any more"},
        },
    }


def _escalation(plan: Plan) -> Resources:
    arn = {"Fn::GetAtt": [logical_id("escalate"), "Arn"]}
    invoke = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": arn}
    return {
        "EscalationRole": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "states.amazonaws.com"},
                            "Action": "sts:AssumeRole",
                        }
                    ],
                },
                "Policies": [
                    {
                        "PolicyName": "invoke-escalate",
                        "PolicyDocument": {"Version": "2012-10-17", "Statement": [invoke]},
                    }
                ],
            },
        },
        "Escalation": {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {
                "StateMachineName": f"leeward-{plan.name}-{MACHINE}",
                "StateMachineType": "STANDARD",
                "DefinitionString": json.dumps(escalation_machine(), indent=1),
                "DefinitionSubstitutions": {logical_id("escalate"): arn},
                "RoleArn": {"Fn::GetAtt": ["EscalationRole", "Arn"]},
            },
        },
    }


def message_secrets(plan: Plan) -> list[str]:
    """Names of the secrets with the channels' logins."""
    return [plan.communication.secret] if plan.communication.secret else []
