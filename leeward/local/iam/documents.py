"""Whether documents give a right: effects, patterns, and the conditions that are known here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from chalicelib.errors import BadInput
from leeward.local.iam.need import Need

# Of an operator: whether the request's value must be like a pattern, or like none.
OPERATORS = {
    "ArnEquals": True,
    "ArnLike": True,
    "Bool": True,
    "StringEquals": True,
    "StringLike": True,
    "StringNotLike": False,
}
OF_ALL, IS_ABSENT = "ForAllValues:", "Null"
KEYS = re.compile(
    r"(aws|ssm):[Rr]esourceTag/.+|aws:(RequestTag/.+|TagKeys|RequestedRegion)"
    r"|ec2:(CreateAction|LaunchTemplate|IsLaunchTemplateResource)|cloudwatch:namespace"
    r"|codebuild:(environment\.image|secondarySources|serviceRole|source\.(buildspec|location))"
    r"|dynamodb:LeadingKeys|ecs:cluster|iam:PassedToService|s3:(RequestJobOperation|ResourceAccount)"
    r"|route53:ChangeResourceRecordSets(Actions|NormalizedRecordNames|RecordTypes)"
)


def allows(documents: Iterable[dict[str, Any]], need: Need) -> bool:
    """Does any statement allow it, and none deny it?

    Raises BadInput for a statement about it that is not judged here.
    """
    effects = {
        statement["Effect"]
        for document in documents
        for statement in listed(document["Statement"])
        if _speaks_of(statement, need) and _holds(statement, need)
    }
    return effects == {"Allow"}


def _speaks_of(statement: dict[str, Any], need: Need) -> bool:
    if "NotAction" in statement or "NotResource" in statement:
        raise BadInput(f"a policy statement of what is not named is not judged here: {statement}")
    return any(matches(it, need.action) for it in listed(statement["Action"])) and any(
        matches(it, need.resource) for it in listed(statement["Resource"])
    )


def _holds(statement: dict[str, Any], need: Need) -> bool:
    """All keys of all operators, as IAM joins them."""
    condition: dict[str, Any] = statement.get("Condition", {})
    if condition and statement["Effect"] == "Deny":
        raise BadInput(f"a denial with a condition is not judged here: {condition}")
    held = [
        _key_holds(operator, key, listed(patterns), need)
        for operator, keys in condition.items()
        for key, patterns in keys.items()
    ]
    return all(held)  # each is looked at, so that none that is not known hides behind another


def _key_holds(operator: str, key: str, patterns: list[str], need: Need) -> bool:
    """A key that a request does not have is like nothing.

    IAM lets ForAllValues, and what is negated, pass without the key: here that is an error, as
    either the local cloud does not know the request's value or the document asks for too little.
    """
    values = need.values(key)
    if operator == IS_ABSENT and KEYS.fullmatch(key):
        return patterns == ["false" if values else "true"]
    of_all = operator.startswith(OF_ALL)
    wanted = OPERATORS.get(operator.removeprefix(OF_ALL))
    if wanted is None or not KEYS.fullmatch(key) or (not values and (of_all or not wanted)):
        raise BadInput(f"the condition cannot be judged here: {operator} of {key} for {need}")
    if len(values) > 1 and not of_all:
        raise BadInput(f"{key} has more than one value in {need}: {operator} needs a quantifier")
    return bool(values) and all(any(matches(p, v) for p in patterns) is wanted for v in values)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).fullmatch(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."))
