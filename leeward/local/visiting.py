"""A way into the dashboard of a local cloud, for whoever watches it."""

from __future__ import annotations

import json

from chalicelib.plan.model import Plan
from leeward.local.cloud import PRIMARY_REGION, LocalCloud


def visitor_of(plan: Plan) -> str | None:
    """Whom the link signs in: the first of the plan's people who may approve, else the first."""
    approvers = (role.held_by for role in plan.roles.values() if "approve" in role.may)
    return next((by for held_by in approvers for by in held_by), next(iter(plan.contacts), None))


def dashboard_link(cloud: LocalCloud, plan: Plan, region: str = PRIMARY_REGION) -> str | None:
    """Good once, for ten minutes; None when the plan has no people."""
    person = visitor_of(plan)
    stack = "primary" if region == PRIMARY_REGION else "standby"
    if person is None or f"leeward-{stack}-answer" not in {it.name for it in cloud.functions()}:
        return None
    answer = cloud.client("lambda", region).invoke(
        FunctionName=f"leeward-{stack}-answer",
        Payload=json.dumps({"verb": "link", "by": person}),
    )
    address: str | None = json.loads(answer["Payload"].read()).get("address")
    return address
