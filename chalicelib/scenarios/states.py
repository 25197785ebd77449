"""What the states of a machine are made of: tasks that are tried again, choices, what is caught."""

from __future__ import annotations

from typing import Any

from chalicelib.errors import retryable_names

INVOKE = "arn:aws:states:::lambda:invoke"
RECORDER = "Record failure"

# What Lambda reports for a worker that was throttled, killed, timed out or never started.
# Source: "Handle transient Lambda service exceptions", Step Functions best practices; Sandbox and
# Runtime names as the Lambda runtime reports a dead sandbox.
SANDBOX_ERRORS = [
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
]


def task_state(
    comment: str, function: str, payload: dict[str, Any], seconds: int
) -> dict[str, Any]:
    """One invocation of a function, tried again after what passes; no Next, no Catch."""
    return {
        "Type": "Task",
        "Comment": comment,
        "Resource": INVOKE,
        "Parameters": {"FunctionName": f"${{{logical_id(function)}}}", "Payload": payload},
        "TimeoutSeconds": seconds,
        "Retry": [
            retry(SANDBOX_ERRORS, interval_seconds=1, attempts=4),
            retry(retryable_names(), interval_seconds=2, attempts=8),
        ],
    }


def retry(errors: list[str], *, interval_seconds: int, attempts: int) -> dict[str, Any]:
    return {
        "ErrorEquals": errors,
        "IntervalSeconds": interval_seconds,
        "MaxAttempts": attempts,
        "BackoffRate": 1.5,
        "MaxDelaySeconds": 60,
        "JitterStrategy": "FULL",
    }


def catch(following: str = RECORDER) -> list[dict[str, Any]]:
    return [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": following}]


def choice(comment: str, rule: dict[str, Any], otherwise: str) -> dict[str, Any]:
    return {"Type": "Choice", "Comment": comment, "Choices": [rule], "Default": otherwise}


def logical_id(function: str) -> str:
    """ "find_damage" -> "FindDamage": the id that Chalice gives a function in its template."""
    return "".join(word.capitalize() for word in function.split("_"))
