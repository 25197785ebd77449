"""What a scenario that loses a site can not bring back, because every copy is lost with the site.

Pure: reads no clock, calls nothing. A run of such a scenario ends as "partial" at best
(services/steps/closing.py), and `leeward check` tells it before (rule LW087).
"""

from __future__ import annotations

from collections.abc import Iterable

from chalicelib.plan.model import Plan

RULE = "LW087"


def lost_locations(plan: Plan, sites: Iterable[str]) -> frozenset[str]:
    """The locations that are in the region, or at the own servers, of one of these sites."""
    lost = {(plan.sites[name].provider, plan.sites[name].region) for name in sites}
    found = plan.locations.items()
    return frozenset(name for name, it in found if (it.provider, it.region) in lost)


def lost_for_good(plan: Plan, scenario: str) -> dict[str, str]:
    """Component -> why it does not come back, of those that the scenario is to bring back.

    One counts when it is at a lost site, is copied to locations, and all of them are lost too. Of a
    scenario that the plan names no more nothing is known.
    """
    found = plan.scenarios.get(scenario)
    if found is None:
        return {}
    gone, lost = lost_locations(plan, found.loses), {}
    for name, component in plan.components.items():
        named = dict.fromkeys(to for backup in component.backups for to in backup.to)
        here = component.site in found.loses and name in found.restored_components()
        if here and named and gone.issuperset(named):
            where = ", ".join(f"{to} ({plan.locations[to].region})" for to in named)
            lost[name] = f"no copy outside the lost region: every one is in {where}"
    return lost
