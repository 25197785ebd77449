"""The stack of the standby region: the same code, for what runs when the primary region is lost.

Made from the primary stack's template: the functions that its scenarios use, state and evidence of
its own, the replica of the key that opens copies outside AWS. What stays in the primary region (the
backup bucket, replicas, the key itself) is a parameter here, of the name of the primary stack's
output; nothing here asks the primary region for anything when it is deployed or runs.
"""

from __future__ import annotations

import json
import re
from typing import Any

from chalicelib.plan.model import Plan
from chalicelib.scenarios.compile import logical_id
from chalicelib.scenarios.steps import STEP_KINDS
from leeward.packaging.exercises import exercise_resources
from leeward.packaging.names import check_outputs, switch_resources
from leeward.packaging.outage import outage_resources, watched_sites
from leeward.packaging.people import people_resources
from leeward.packaging.status import status_outputs, status_resources
from leeward.packaging.tasks import FUNCTION, TASK_PARTS
from leeward.packaging.template import machine_resources

Template = dict[str, Any]

# In both regions: they open incidents, hear people, and close runs.
IN_BOTH = ("on_alarm", "ask", "answer", "show", "tell", "escalate", "record", "exercise", "chat")
# What Chalice makes of the HTTP routes, by its own names.
API = (
    "APIHandler",
    "ApiHandlerRole",
    "ApiHandlerLogGroup",
    "APIHandlerInvokePermission",
    "RestAPI",
)
ENDPOINT = {
    "EndpointURL": {
        "Value": {"Fn::Sub": "https://${RestAPI}.execute-api.${AWS::Region}.${AWS::URLSuffix}/api/"}
    }
}
OWN_STORES = (
    "StateTable",
    "DataKey",
    "FactorKey",
    "SigningKey",
    "EvidenceBucket",
    "EvidenceBucketPolicy",
    "TokenKey",
)
FUNCTION_PARTS = ("", "Role", "LogGroup")
RIGHTS_ARE_GIVEN_BY_IAM = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "RightsAreGivenByIam",
            "Effect": "Allow",
            "Principal": {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}},
            "Action": "kms:*",
            "Resource": "*",
        }
    ],
}
KEY = "EnvelopeKey"
KEY_ARN = "arn:${AWS::Partition}:kms:${PrimaryRegion}:${AWS::AccountId}:key/${EnvelopeKey}"
# The key of the primary stack's backup bucket, for a standby stack that reads that bucket.
BACKUP_KEY = "BackupKey"
BACKUP_KEY_ARN = KEY_ARN.replace("${EnvelopeKey}", "${BackupKey}")
BUCKET_ARN = "arn:${AWS::Partition}:s3:::${%s}"
_NAMED = re.compile(r"\$\{(\w+)(?:\.Arn)?\}")


def standby_scenarios(plan: Plan) -> tuple[str, ...]:
    """Those that run in the standby region."""
    return tuple(name for name in plan.scenarios if plan.runs_in_standby(name))


def standby_functions(plan: Plan) -> tuple[str, ...]:
    """The functions of the standby stack."""
    steps = (step for name in standby_scenarios(plan) for step in plan.scenarios[name].all_steps())
    used = {STEP_KINDS[step.uses].function for step in steps if step.uses}
    watching = {"probe"} if watched_sites(plan) else set()
    watching |= {"publish"} if plan.has_status_page else set()
    return tuple(sorted(used | watching | set(IN_BOTH)))


def standby_template(plan: Plan, primary: Template) -> Template:
    """SAM, from the primary stack's (also SAM), for a plan with a standby region in AWS."""
    wanted = {
        f"{logical_id(name)}{part}" for name in standby_functions(plan) for part in FUNCTION_PARTS
    }
    wanted |= set(TASK_PARTS) if FUNCTION in standby_functions(plan) else set()
    kept = {
        name: resource
        for name, resource in primary["Resources"].items()
        if name in wanted or name in OWN_STORES or name in API
    }
    kept |= machine_resources(plan, standby_scenarios(plan), standby_functions(plan))
    kept |= _key_replica() | switch_resources(plan) | outage_resources(plan)
    kept |= exercise_resources(plan) | people_resources(plan) | status_resources(plan)
    body = _Elsewhere(set(kept)).moved({"Globals": primary["Globals"], "Resources": kept})
    if keeps_copies(plan):
        body = _opening_backups(body)
    parameters = primary["Parameters"] | _parameters(plan, primary["Resources"])
    used = _named_in(body)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": primary["Transform"],
        "Description": "Leeward: the standby region",
        "Parameters": {name: it for name, it in parameters.items() if name in used},
        **body,
        "Outputs": {name: {"Value": {"Ref": name}} for name in OWN_STORES[:5]}
        | check_outputs(plan)
        | status_outputs(plan)
        | ENDPOINT,
    }


def handed_over(plan: Plan, resources: Template) -> tuple[str, ...]:
    """What the primary stack must put out for the standby's parameters: names and the key's id."""
    if plan.aws_region("standby") is None:
        return ()
    return tuple(name for name, it in resources.items() if _stays(name, it))


def keeps_copies(plan: Plan) -> bool:
    """Whether the backup bucket is there when the primary site is lost: that is not its region."""
    if plan.aws_region("standby") is None:
        return False
    return _home(plan) is not None and plan.aws_region("primary") != _home(plan)


def key_outputs(plan: Plan) -> Template:
    """Outputs of the primary stack: the key of its backups, where the standby's functions read
    them."""
    return {BACKUP_KEY: {"Value": {"Ref": "DataKey"}}} if keeps_copies(plan) else {}


def _stays(name: str, resource: Template) -> bool:
    is_bucket = resource.get("Type") == "AWS::S3::Bucket" and name not in OWN_STORES
    return is_bucket or name == KEY


def _parameters(plan: Plan, resources: Template) -> Template:
    given = {
        name: {"Type": "String", "Description": f"Output {name} of the primary stack"}
        for name, resource in resources.items()
        if _stays(name, resource)
    }
    if keeps_copies(plan):
        what = f"Output {BACKUP_KEY} of the primary stack"
        given[BACKUP_KEY] = {"Type": "String", "Description": what}
    region = {"Type": "String", "Default": plan.aws_region("primary") or _home(plan) or "none"}
    return given | {"PrimaryRegion": region}


def _home(plan: Plan) -> str | None:
    """Where the primary stack is when no site of the plan that is primary is in AWS: in the region
    of the location that backups are taken to."""
    ours = (it for it in plan.locations.values() if it.provider == "aws")
    return next((it.region for it in ours if it.role in ("primary", "remote")), None)


def _key_replica() -> Template:
    return {
        "EnvelopeKeyReplica": {
            "Type": "AWS::KMS::ReplicaKey",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {
                "Description": "Leeward: data keys of copies outside AWS",
                "PrimaryKeyArn": {"Fn::GetAtt": [KEY, "Arn"]},
                "KeyPolicy": RIGHTS_ARE_GIVEN_BY_IAM,
                "PendingWindowInDays": 30,
            },
        }
    }


def _opening_backups(value: Any) -> Any:
    """Who may use this stack's data key may use that of the backup bucket too."""
    own = {"Fn::GetAtt": ["DataKey", "Arn"]}
    if isinstance(value, list):
        return [_opening_backups(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "kms:Decrypt" in value.get("Action", ()) and value.get("Resource") == own:
        return value | {"Resource": [own, {"Fn::Sub": BACKUP_KEY_ARN}]}
    return {key: _opening_backups(item) for key, item in value.items()}


class _Elsewhere:
    """Rewrites what a template says of resources that are not among `here`."""

    def __init__(self, here: set[str]) -> None:
        self._here = here

    def moved(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.moved(item) for item in value]
        if isinstance(value, str):
            return _of_standby(value)
        if not isinstance(value, dict):
            return value
        if set(value) == {"Fn::GetAtt"} and value["Fn::GetAtt"][0] not in self._here:
            return {"Fn::Sub": _arn(value["Fn::GetAtt"][0])}
        if set(value) == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
            text = re.sub(r"\$\{(\w+)\.Arn\}", self._named, value["Fn::Sub"])
            return {"Fn::Sub": _of_standby(text)}
        return {key: self.moved(item) for key, item in value.items()}

    def _named(self, found: re.Match[str]) -> str:
        return found[0] if found[1] in self._here else _arn(found[1])


def _of_standby(text: str) -> str:
    if text == "primary":
        return "standby"
    return text.replace("leeward-primary-", "leeward-standby-").replace(
        "stage=primary", "stage=standby"
    )


def _arn(name: str) -> str:
    return KEY_ARN if name == KEY else BUCKET_ARN % name


def _named_in(body: Template) -> set[str]:
    """Every logical name that the template refers to."""
    text = json.dumps(body)
    return set(re.findall(r'"Ref": "(\w+)"', text)) | set(_NAMED.findall(text))
