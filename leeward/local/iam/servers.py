"""The rights that calls about servers need: one for each resource, with its tags.

EC2 asks for a right on each resource that a call touches, those that it makes too; SSM on the
document and on each instance. What a launch takes from its template is marked as the template's,
and what the call itself names instead is not.
Source: service authorization reference, "Amazon EC2" and "AWS Systems Manager"; EC2 user guide,
"Use launch templates to control launching instances".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from leeward.local.iam.need import ACCOUNT, Facts, Need

# Beside the instance and the template a launch asks for the use of these.
LAUNCHED_WITH = ("image", "network-interface", "security-group", "subnet", "volume")
# What a launch may name in the template's stead.
OVERRIDING = frozenset(
    {"BlockDeviceMappings", "IamInstanceProfile", "ImageId", "KeyName", "NetworkInterfaces",
     "Placement", "SecurityGroupIds", "SecurityGroups", "SubnetId"}
)  # fmt: skip
# Images and snapshots have no account in their ARN.
OF_NOBODY = ("image", "snapshot")
KINDS = {
    "*": "instance",
    "i-": "instance",
    "snap-": "snapshot",
    "vol-": "volume",
    "eni-": "network-interface",
}


def needs_of_servers(
    service: str, operation: str, parameters: dict[str, str], region: str
) -> list[Need]:
    """Those of a call in ABOUT_SERVERS. Lists of names come as one text, with commas."""
    return ABOUT_SERVERS[service, operation](f"{service}:{operation}", parameters, region)


def _on_instances(action: str, parameters: dict[str, str], region: str) -> list[Need]:
    return [_on(action, it, region) for it in _named(parameters, "InstanceIds", "InstanceId")]


def _tagging(action: str, parameters: dict[str, str], region: str) -> list[Need]:
    asked = _asked_tags(parameters)
    return [_on(action, it, region, asked) for it in _named(parameters, "Resources")]


def _modifying(action: str, parameters: dict[str, str], region: str) -> list[Need]:
    changed = _named(parameters, "InstanceId", "NetworkInterfaceId")
    groups = [_arn("security-group", it, region) for it in _listed(parameters, "Groups")]
    return [_on(action, it, region) for it in changed] + [Need(action, it) for it in groups]


def _snapshots(action: str, parameters: dict[str, str], region: str) -> list[Need]:
    asked, snapshots = _asked_tags(parameters), _arn("snapshot", "*", region)
    needs = _on_instances(action, parameters, region)
    needs.append(Need(action, _arn("volume", "*", region)))
    needs.append(Need(action, snapshots, asked))
    return needs + _tags_at(action, snapshots, asked)


def _launch(action: str, parameters: dict[str, str], region: str) -> list[Need]:
    asked, instance = _asked_tags(parameters), _arn("instance", "*", region)
    facts: Facts = ()
    needs = []
    if "LaunchTemplate" in parameters:
        template = _template(parameters["LaunchTemplate"], region)
        arn = _arn("launch-template", template.id if template else "lt-unknown", region)
        kept = "false" if OVERRIDING & set(parameters) else "true"
        facts = (("ec2:LaunchTemplate", arn), ("ec2:IsLaunchTemplateResource", kept))
        needs.append(Need(action, arn, facts))
        needs += _lent_role(template)
    needs += [Need(action, _arn(kind, "*", region), facts) for kind in LAUNCHED_WITH]
    needs.append(Need(action, instance, facts + asked))
    return needs + _tags_at(action, instance, asked)


def _command(action: str, parameters: dict[str, str], region: str) -> list[Need]:
    document = f"arn:aws:ssm:{region}::document/{parameters['DocumentName']}"
    return [Need(action, document), *_managed(action, parameters, region)]


def _managed(action: str, parameters: dict[str, str], region: str) -> list[Need]:
    """On instances by SSM, which has a key of its own for their tags."""
    return [
        Need(action, _arn("instance", it, region), _tag_facts("ssm:resourceTag", region, it))
        for it in _named(parameters, "InstanceIds")
    ]


ABOUT_SERVERS: dict[tuple[str, str], Callable[[str, dict[str, str], str], list[Need]]] = {
    ("ec2", "CreateSnapshots"): _snapshots,
    ("ec2", "CreateTags"): _tagging,
    ("ec2", "DescribeInstanceAttribute"): _on_instances,
    ("ec2", "ModifyInstanceAttribute"): _modifying,
    ("ec2", "ModifyNetworkInterfaceAttribute"): _modifying,
    ("ec2", "RunInstances"): _launch,
    ("ec2", "StartInstances"): _on_instances,
    ("ec2", "StopInstances"): _on_instances,
    ("ec2", "TerminateInstances"): _on_instances,
    ("ssm", "DescribeInstancePatchStates"): _managed,
    ("ssm", "SendCommand"): _command,
}


def _on(action: str, named: str, region: str, asked: Facts = ()) -> Need:
    kind = next((kind for start, kind in KINDS.items() if named.startswith(start)), "unknown")
    return Need(
        action, _arn(kind, named, region), _tag_facts("aws:ResourceTag", region, named) + asked
    )


def _tags_at(action: str, resource: str, asked: Facts) -> list[Need]:
    """Who makes something with tags needs the right to tag it as well."""
    made_by = ("ec2:CreateAction", action.partition(":")[2])
    return [Need("ec2:CreateTags", resource, (made_by, *asked))] if asked else []


def _asked_tags(parameters: dict[str, str]) -> Facts:
    tags: dict[str, str] = json.loads(parameters.get("Tags") or "{}")
    named = tuple(("aws:TagKeys", key) for key in sorted(tags))
    return tuple((f"aws:RequestTag/{key}", it) for key, it in sorted(tags.items())) + named


def _tag_facts(key: str, region: str, named: str) -> Facts:
    return tuple((f"{key}/{name}", it) for name, it in sorted(tags_of(region, named).items()))


def _arn(kind: str, named: str, region: str) -> str:
    return f"arn:aws:ec2:{region}:{'' if kind in OF_NOBODY else ACCOUNT}:{kind}/{named}"


def _named(parameters: dict[str, str], *names: str) -> Iterable[str]:
    """What a call names by one of these parameters; "*" when it names nothing, which is all."""
    return next((_listed(parameters, it) for it in names if parameters.get(it)), ["*"])


def _listed(parameters: dict[str, str], name: str) -> list[str]:
    return [it for it in parameters.get(name, "").split(",") if it]


def tags_of(region: str, named: str) -> dict[str, str]:
    """Of something in EC2 of the local cloud; none of what it does not know."""
    backend = _backend(region)
    return dict(backend.tags.get(named, {})) if backend else {}


def _template(named: str, region: str) -> Any:
    """A launch template by its name or id; None when there is none."""
    backend = _backend(region)
    if backend is None:
        return None
    return backend.launch_templates.get(backend.launch_template_name_to_ids.get(named, named))


def _lent_role(template: Any) -> list[Need]:
    """The role of the profile that the template names is passed to EC2."""
    from moto.iam.models import iam_backends

    named = template.default_version().data.get("IamInstanceProfile", {}) if template else {}
    wanted = set(named.values())
    found = iam_backends[ACCOUNT]["aws"].instance_profiles.values() if wanted else ()
    roles = [role for it in found if wanted & {it.name, it.arn} for role in it.roles]
    return [Need("iam:PassRole", role.arn, (_TO_EC2,)) for role in roles]


_TO_EC2 = ("iam:PassedToService", "ec2.amazonaws.com")


def _backend(region: str) -> Any:
    if "moto.ec2.models" not in sys.modules:
        return None
    from moto.ec2.models import ec2_backends

    return ec2_backends[ACCOUNT][region]
