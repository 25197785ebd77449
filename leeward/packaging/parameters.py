"""The template's parameters: what its policies and the environment need to know of the plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from leeward.packaging.buckets import bucket_parameters
from leeward.packaging.infrastructure import infrastructure_parameters
from leeward.packaging.isolation import isolation_parameters
from leeward.packaging.names import names_parameters
from leeward.packaging.people import message_secrets
from leeward.packaging.servers import server_parameters
from leeward.packaging.template import machine_name, step_parameters
from leeward.packaging.workloads import workload_parameters

if TYPE_CHECKING:
    from chalicelib.plan.model import Plan


def plan_parameters(plan: Plan) -> dict[str, Any]:
    """By name, with the plan's values as defaults.

    Six question marks: Secrets Manager ends each ARN with a dash and six characters.
    """

    databases = [it for it in plan.components.values() if it.kind == "postgres"]
    operator = [it.operator_secret for it in databases]
    application = [it.application_secret for it in databases]
    caches = [it.secret for it in plan.components.values() if it.kind == "redis" and it.secret]
    others = [it.bucket for it in plan.locations.values() if it.provider == "aws" and it.bucket]
    logins = [it.secret for it in plan.locations.values() if it.secret]
    given: dict[str, Any] = {
        "ScenarioPrefix": {"Type": "String", "Default": machine_name(plan, "")},
        # Without a standby region the name stands for no key: the list of keys ends with it.
        "StandbyRegion": {"Type": "String", "Default": plan.aws_region("standby") or "none"},
        "OperatorSecrets": _secret_list(operator),
        "ComponentSecrets": _secret_list(caches or ["leeward-no-component"]),
        # IAM takes no empty list: without a login there is a name that no secret has.
        "LocationBuckets": _bucket_list(others, ""),
        "LocationObjects": _bucket_list(others, "/*"),
        "LocationSecrets": _secret_list(logins or ["leeward-no-location"]),
        "ApplicationSecrets": _secret_list(application),
        "MessageSecrets": _secret_list(message_secrets(plan) or ["leeward-no-channel"]),
        "ServerRoles": _role_list(plan),
    }
    given |= bucket_parameters(plan) | names_parameters(plan)
    given |= infrastructure_parameters(plan)
    given |= workload_parameters(plan)
    given |= isolation_parameters(plan) | server_parameters(plan) | step_parameters(plan)
    return given


def _role_list(plan: Plan) -> dict[str, str]:
    """Roles that a launched server gets; without one there is a name that no role has."""
    roles = {it.role for it in plan.components.values() if it.kind == "server" and it.role}
    arns = [f"arn:aws:iam::*:role/{name}" for name in sorted(roles or {"leeward-no-server"})]
    return {"Type": "CommaDelimitedList", "Default": ",".join(arns)}


def _bucket_list(buckets: Iterable[str], ending: str) -> dict[str, str]:
    names = sorted(set(buckets)) or ["leeward-no-location"]
    arns = [f"arn:aws:s3:::{name}{ending}" for name in names]
    return {"Type": "CommaDelimitedList", "Default": ",".join(arns)}


def _secret_list(names: Iterable[str]) -> dict[str, str]:
    arns = [f"arn:aws:secretsmanager:*:*:secret:{name}-??????" for name in sorted(set(names))]
    return {"Type": "CommaDelimitedList", "Default": ",".join(arns)}
