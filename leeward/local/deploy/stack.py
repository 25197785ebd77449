"""One template, made resource by resource, each after those that it refers to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from leeward.local.cloud import LocalCloud
from leeward.local.deploy.made import STACK, Made, Properties, unknown
from leeward.local.deploy.resources import KINDS
from leeward.local.iam import ACCOUNT

# Tasks run on this machine, in no network of their own.
TASK_NETWORK = {"TaskSubnets": ["subnet-local"], "TaskSecurityGroups": ["sg-local"]}


@dataclass(frozen=True)
class Deployed:
    """What stands after a deployment: physical names by logical id, and the outputs."""

    region: str
    names: dict[str, str]
    outputs: dict[str, Any]
    standby: Deployed | None = None


class Stack:
    """Makes the resources of one template, each after those that it refers to."""

    def __init__(
        self,
        cloud: LocalCloud,
        template: dict[str, Any],
        region: str,
        given: dict[str, Any] | None = None,
        *,
        stack_name: str = STACK,
    ) -> None:
        """`given`: values of parameters, before their defaults."""
        self.name = stack_name
        self.region = region
        self._cloud = cloud
        self._template = template
        self._made: dict[str, Made] = {}
        self._apis: dict[str, tuple[str, str]] = {}
        self._values: dict[str, Any] = {
            "AWS::Region": region,
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::StackName": stack_name,
            "AWS::URLSuffix": "amazonaws.com",
        }
        for name, parameter in template.get("Parameters", {}).items():
            self._values[name] = (TASK_NETWORK | (given or {})).get(name) or _default(parameter)

    def apply(self) -> Deployed:
        for logical in self._template["Resources"]:
            self.make(logical)
        outputs = self._template.get("Outputs", {})
        return Deployed(
            region=self.region,
            names={logical: made.ref for logical, made in self._made.items()},
            outputs={name: self.resolve(it["Value"]) for name, it in outputs.items()},
        )

    def logicals(self, *kinds: str) -> list[str]:
        """The logical ids of the resources of these types."""
        found = self._template["Resources"].items()
        return [name for name, it in found if it["Type"] in kinds]

    def has(self, logical: str) -> bool:
        return logical in self._template["Resources"]

    def take_over(self, logical: str, other: Stack) -> None:
        """Make a resource of the other stack's template as this one's own."""
        self._template["Resources"][logical] = other._template["Resources"][logical]
        self.make(logical)

    def client(self, service: str) -> Any:
        return self._cloud.client(service, self.region)

    def serve_api(self, logical: str, body: Properties) -> str:
        """Serve a REST API as its one stage, which names the first part of its paths."""
        stages = (self._template["Resources"][it] for it in self.logicals("AWS::ApiGateway::Stage"))
        [stage] = [
            it["Properties"]["StageName"]
            for it in stages
            if it["Properties"]["RestApiId"] == {"Ref": logical}
        ]
        api = f"{self.name}-{logical}"
        self._apis[api] = (stage, self._cloud.serve_api(api, stage, body))
        return api

    def client_in(self, service: str, region: str) -> Any:
        return self._cloud.client(service, region)

    def make(self, logical: str) -> Made:
        """The resource, made now when it does not exist yet."""
        if logical not in self._made:
            resource = self._template["Resources"][logical]
            kind = resource["Type"]
            if kind not in KINDS:
                raise unknown(f"resource type {kind} of {logical}")
            properties = self.resolve(resource.get("Properties", {}))
            self._made[logical] = KINDS[kind](self, logical, properties)
        return self._made[logical]

    def resolve(self, value: Any) -> Any:
        """The value with every intrinsic function in it replaced by its result."""
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            name, argument = next(iter(value.items()))
            if name == "Ref" or name.startswith("Fn::"):
                return self._call(name, argument)
        return {key: self.resolve(item) for key, item in value.items()}

    def _call(self, name: str, argument: Any) -> Any:
        if name == "Ref":
            return self._ref(argument)
        if name == "Fn::GetAtt":
            return self._attribute(*argument)
        if name == "Fn::Sub" and isinstance(argument, str):
            text = re.sub(r"\$\{([\w:.]+)\}", lambda it: self._named(it[1]), argument)
            return self._on_loopback(text)
        if name == "Fn::Sub":
            text, given = argument
            for key, value in given.items():
                text = text.replace(f"${{{key}}}", str(self.resolve(value)))
            return self._call(name, text)
        if name == "Fn::Join":
            between, parts = argument
            return between.join(self.resolve(parts))
        raise unknown(f"function {name}")

    def _on_loopback(self, text: str) -> str:
        """An API's address in AWS as the one that serves it here."""
        for api, (stage, address) in self._apis.items():
            text = text.replace(
                f"https://{api}.execute-api.{self.region}.amazonaws.com/{stage}/", address
            )
        return text

    def _named(self, name: str) -> str:
        logical, _, attribute = name.partition(".")
        return str(self._attribute(logical, attribute) if attribute else self._ref(name))

    def _ref(self, name: str) -> Any:
        return self._values[name] if name in self._values else self.make(name).ref

    def _attribute(self, logical: str, attribute: str) -> str:
        made = self.make(logical)
        if attribute not in made.attributes:
            raise unknown(f"attribute {attribute} of {logical}")
        return made.attributes[attribute]


def _default(parameter: dict[str, str]) -> Any:
    default = parameter["Default"]
    return default.split(",") if parameter["Type"] == "CommaDelimitedList" else default
