"""In which region of AWS something of a plan is. Pure."""

from __future__ import annotations

from chalicelib.plan.components import BaseComponent
from chalicelib.plan.model import Plan


def home_region(plan: Plan) -> str | None:
    """Where the primary stack is: the region of the primary site; where that is not in AWS, of the
    location there that backups are taken to. None without either."""
    ours = (it for it in plan.locations.values() if it.provider == "aws")
    taken_to = next((it.region for it in ours if it.role in ("primary", "remote")), None)
    return plan.aws_region("primary") or taken_to


def region_of(plan: Plan, component: BaseComponent) -> str | None:
    """Where the secrets of a component are changed; None: the plan does not say."""
    site = plan.sites.get(component.site or "")
    if site is None:
        return None
    if site.provider == "aws":
        return site.region
    return home_region(plan) if site.role == "primary" else None
