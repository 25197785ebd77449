"""What the policies of isolation must know of a plan: its buckets, its identities, its trail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chalicelib.plan.components import Bucket
from chalicelib.plan.model import Plan

# IAM takes no empty list: where there is none stands a name that nothing has.
NOTHING = "leeward-nothing"


def isolation_parameters(plan: Plan) -> dict[str, Any]:
    """Every bucket of the plan, stand-ins too, and every identity that a component names."""
    buckets = {it.bucket for it in plan.components.values() if isinstance(it, Bucket)}
    named = {identity for it in plan.components.values() for identity in it.identities}
    spare = {
        it.recovery_bucket
        for it in plan.components.values()
        if isinstance(it, Bucket) and it.recovery_bucket
    }
    trail = plan.trail
    logs = {trail.bucket} if trail else set()
    files = {f"{trail.bucket}/{trail.prefix}*"} if trail else set()
    return {
        "IsolatedBuckets": _listed("arn:aws:s3:::", buckets),
        "IsolatedObjects": _listed("arn:aws:s3:::", {f"{name}/*" for name in buckets}),
        "RecoveryBuckets": _listed("arn:aws:s3:::", spare),
        "RecoveryObjects": _listed("arn:aws:s3:::", {f"{name}/*" for name in spare}),
        "IsolatedUsers": _listed("arn:aws:iam::*:", _of("user/", named)),
        "IsolatedRoles": _listed("arn:aws:iam::*:", _of("role/", named)),
        "TrailBuckets": _listed("arn:aws:s3:::", logs),
        "TrailObjects": _listed("arn:aws:s3:::", files),
    }


def _of(kind: str, identities: set[str]) -> set[str]:
    return {it for it in identities if it.startswith(kind)} or {f"{kind}{NOTHING}"}


def _listed(start: str, names: Iterable[str]) -> dict[str, str]:
    arns = [f"{start}{name}" for name in sorted(names) or [NOTHING]]
    return {"Type": "CommaDelimitedList", "Default": ",".join(arns)}
