"""What the deployment tells a Lambda, or a task: the only reader of Leeward's own variables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chalicelib.errors import NotReady

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Environment:
    """What the deployment tells each Lambda; see docs/design.md, "Names in AWS".

    `stack`: "primary" or "standby". `replica_buckets`: by component. `endpoint_url`: of the local
    cloud, "" in AWS.
    """

    stack: str
    region: str
    state_table: str
    backup_bucket: str
    evidence_bucket: str
    machine_prefix: str
    function_prefix: str
    data_key: str
    envelope_keys: tuple[str, ...]
    signing_key: str
    replica_buckets: Mapping[str, str]
    endpoint_url: str
    plan: Path
    work_dir: Path
    postgres: str | None


@cache
def environment() -> Environment:
    """Raises NotReady (code "not-deployed") naming the variable that is missing."""
    return Environment(
        stack=required("LEEWARD_STACK"),
        region=required("AWS_REGION"),
        state_table=required("LEEWARD_STATE_TABLE"),
        backup_bucket=required("LEEWARD_BACKUP_BUCKET"),
        evidence_bucket=required("LEEWARD_EVIDENCE_BUCKET"),
        machine_prefix=required("LEEWARD_STATE_MACHINE_PREFIX"),
        function_prefix=required("LEEWARD_FUNCTION_PREFIX"),
        data_key=required("LEEWARD_DATA_KEY"),
        envelope_keys=_keys(required("LEEWARD_ENVELOPE_KEYS")),
        signing_key=required("LEEWARD_SIGNING_KEY"),
        replica_buckets=json.loads(required("LEEWARD_REPLICA_BUCKETS")),
        endpoint_url=os.environ.get("AWS_ENDPOINT_URL", ""),
        plan=Path(os.environ.get("LEEWARD_PLAN", ROOT / "plan.json")),
        work_dir=Path(os.environ.get("LEEWARD_WORK_DIR", "/tmp/leeward")),
        postgres=os.environ.get("LEEWARD_POSTGRES"),
    )


def _keys(listed: str) -> tuple[str, ...]:
    """The template names the region "none" where the plan has no standby region in AWS."""
    return tuple(arn for arn in listed.split(",") if ":kms:none:" not in arn)


def required(name: str) -> str:
    """Raises NotReady (code "not-deployed") naming the variable that is missing."""
    try:
        return os.environ[name]
    except KeyError:
        raise NotReady(
            f"the environment variable {name} is not set",
            hint="deploy with the packaged template, which sets it",
            code="not-deployed",
        ) from None


def has_tasks() -> bool:
    """Whether this deployment names a network in which tasks may run."""
    return bool(_listed("LEEWARD_TASK_SUBNETS"))


def task_network() -> dict[str, Any]:
    """Where a task runs, as ECS takes it. Raises NotReady (code "no-task")."""
    subnets = _listed("LEEWARD_TASK_SUBNETS")
    if not subnets:
        raise NotReady(
            "expected subnets in which a task can run, the deployment names none",
            hint="give the stack's parameter TaskSubnets, or let the component run in a Lambda",
            code="no-task",
        )
    return {
        "subnets": subnets,
        "securityGroups": _listed("LEEWARD_TASK_SECURITY_GROUPS"),
        "assignPublicIp": os.environ.get("LEEWARD_TASK_ADDRESS", "DISABLED"),
    }


def task_run() -> str:
    """The run whose steps this task does. Raises NotReady (code "not-deployed")."""
    return required("LEEWARD_RUN")


def factor_key() -> str:
    """The key that opens second factors. Raises NotReady (code "not-deployed")."""
    return required("LEEWARD_FACTOR_KEY")


def endpoint() -> str:
    """Where this stack's API is, with a slash at its end. Raises NotReady ("not-deployed")."""
    return required("LEEWARD_ENDPOINT")


def token_key() -> str:
    """The key of the tokens' MACs. Raises NotReady (code "not-deployed")."""
    return required("LEEWARD_TOKEN_KEY")


def status_bucket() -> str:
    """Where the status page lies; "" when the deployment has none."""
    return os.environ.get("LEEWARD_STATUS_BUCKET", "")


def status_region() -> str:
    """Where that bucket is; "" for this Lambda's own region."""
    return os.environ.get("LEEWARD_STATUS_REGION", "")


def replica_bucket(component: str) -> str:
    """Raises NotReady (code "no-replica") when the deployment made none for the component."""
    found = environment().replica_buckets.get(component)
    if found is None:
        raise NotReady(
            f"expected a replica of {component} in the deployment, found none",
            hint="give the component a backup of kind replication or sync, and deploy the package",
            code="no-replica",
        )
    return found


def recovery_roles() -> tuple[str, ...]:
    """ARNs of the roles that still write to a bucket that is isolated."""
    listed = os.environ.get("LEEWARD_RECOVERY_ROLES", "")
    return tuple(arn for arn in listed.split(",") if arn)


def switch_bucket() -> tuple[str, str]:
    """(bucket, its region) of the objects that move names. Raises NotReady ("not-deployed")."""
    return required("LEEWARD_SWITCH_BUCKET"), required("LEEWARD_SWITCH_REGION")


def redis_program() -> str:
    """A server in which a dump of Redis is proven, where the deployment names one."""
    return os.environ.get("LEEWARD_REDIS", "")


def dns_server() -> str:
    """The one DNS server to ask in the local cloud; "" in AWS, where a zone has its own."""
    return os.environ.get("LEEWARD_DNS", "")


def _listed(name: str) -> list[str]:
    return [it for it in os.environ.get(name, "").split(",") if it]
