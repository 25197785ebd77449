"""What AWS refuses of a stack when it is deployed, found when it is made.

Source: the quotas in the user guides of CloudFormation (resources of a template, size of one in
S3), EventBridge (name of a rule, input of a target), Step Functions (name of a machine), CloudWatch
(name of an alarm) and Lambda (environment variables of a function).
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from chalicelib.errors import PlanError

NAMES = {
    "AWS::Events::Rule": ("Name", 64),
    "AWS::StepFunctions::StateMachine": ("StateMachineName", 80),
    "AWS::CloudWatch::Alarm": ("AlarmName", 255),
}
LONGEST_RULE_NAME = NAMES["AWS::Events::Rule"][1]
LONGEST_INPUT = 8192
MOST_RESOURCES = 500
LARGEST_TEMPLATE_BYTES = 1_000_000
LARGEST_ENVIRONMENT_BYTES = 4096
# Of a bucket; most of what a variable refers to is one, and an ARN is hardly longer.
REFERRED_BYTES = 63
DIGEST_DIGITS = 8


def fitting(name: str, longest: int) -> str:
    """The name, or as much of it as fits and a digest that tells it from others."""
    if len(name) <= longest:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST_DIGITS]
    return f"{name[: longest - DIGEST_DIGITS - 1]}-{digest}"


def require_names(resources: dict[str, Any]) -> None:
    """Raises PlanError (code "name-too-long")."""
    for it in resources.values():
        named, longest = NAMES.get(it.get("Type", ""), ("", 0))
        name = it.get("Properties", {}).get(named)
        if isinstance(name, str) and len(name) > longest:
            raise PlanError(
                f"expected names of at most {longest} letters for {it['Type']}, found {name}",
                hint="shorten the name of the plan, or of the scenario or component in it",
                code="name-too-long",
            )


def require_deployable(stack: str, template: dict[str, Any], size_bytes: int) -> None:
    """What can be counted before anybody tries.

    Args:
        stack: what it is called for a person.
        template: after the SAM transform.
        size_bytes: of the template as it is uploaded.
    Raises:
        PlanError: codes "name-too-long", "stack-too-large", "environment-too-large".
    """
    require_names(template["Resources"])
    count = len(template["Resources"])
    if count > MOST_RESOURCES or size_bytes > LARGEST_TEMPLATE_BYTES:
        raise PlanError(
            f"expected at most {MOST_RESOURCES} resources and {LARGEST_TEMPLATE_BYTES:,} bytes in "
            f"the template of the {stack} stack, found {count} and {size_bytes:,}",
            hint="leave components to a plan of another account: each has its schedules and alarms",
            code="stack-too-large",
        )
    for name, it in template["Resources"].items():
        if it["Type"] == "AWS::Lambda::Function":
            _require_environment(name, it["Properties"])


def _require_environment(function: str, properties: dict[str, Any]) -> None:
    variables = properties.get("Environment", {}).get("Variables", {})
    size = sum(len(name) + _bytes_of(value) for name, value in variables.items())
    if size > LARGEST_ENVIRONMENT_BYTES:
        raise PlanError(
            f"expected at most {LARGEST_ENVIRONMENT_BYTES} bytes in the environment of {function}, "
            f"found some {size}",
            hint="each bucket with a replica takes some 100 of them: leave some to another plan",
            code="environment-too-large",
        )


def _bytes_of(value: Any) -> int:
    """Of a variable's value, as far as it is known before the deployment."""
    if isinstance(value, str):
        return len(value)
    text = value.get("Fn::Sub") if isinstance(value, dict) else None
    if isinstance(text, list):
        text = text[0]
    if text is None:
        return REFERRED_BYTES
    return len(re.sub(r"\$\{[^}]*\}", "x" * REFERRED_BYTES, str(text)))
