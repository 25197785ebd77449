"""The documents in policies/iam/, as they are deployed for a plan."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from chalicelib.plan.model import Plan
from leeward.local.iam import Need, allows, needs_of
from leeward.packaging.parameters import plan_parameters

IAM = Path(__file__).parents[1] / "policies" / "iam"
FUNCTIONS = sorted(path.stem for path in IAM.iterdir())
REGION, ACCOUNT = "us-east-1", "123456789012"
PSEUDO = {"AWS::Partition": "aws", "AWS::AccountId": ACCOUNT, "AWS::Region": REGION}


class Document:
    """A function's own, in REGION. What a stack makes has the ARN "arn:of:<logical id>"."""

    def __init__(self, plan: Plan, function: str) -> None:
        self._given = {name: it["Default"] for name, it in plan_parameters(plan).items()}
        self.body = self._filled(json.loads((IAM / f"{function}.json").read_text()))

    @property
    def statements(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body["Statement"]
        return found

    def may(self, action: str, resource: str, **facts: str) -> bool:
        """facts: what AWS knows, `__` for a colon and `_of_` for a slash."""
        named = {key.replace("__", ":").replace("_of_", "/"): it for key, it in facts.items()}
        named = {"aws:RequestedRegion": REGION} | named
        return allows([self.body], Need(action, resource, tuple(named.items())))

    def allows_call(
        self, service: str, operation: str, parameters: dict[str, str], region: str
    ) -> bool:
        needs = needs_of(service, operation, parameters, region)
        return all(allows([self.body], it) for it in needs)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._filled(it) for it in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"Ref"}:
            return PSEUDO.get(value["Ref"]) or self._given[value["Ref"]].split(",")
        if set(value) == {"Fn::GetAtt"}:
            return f"arn:of:{value['Fn::GetAtt'][0]}"
        if set(value) == {"Fn::Sub"}:
            text = re.sub(r"\$\{(\w+)\.Arn\}", r"arn:of:\1", value["Fn::Sub"])
            for name, given in (self._given | PSEUDO).items():
                text = text.replace(f"${{{name}}}", given)
            return text
        return {key: self._filled(it) for key, it in value.items()}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
