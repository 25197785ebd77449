"""Worst cases, computed from what a plan says: how much data, how much time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from chalicelib.plan.check.regions import same_place
from chalicelib.plan.components import Backup, BaseComponent
from chalicelib.plan.model import Plan
from chalicelib.plan.places import Location, Site
from chalicelib.plan.scenario import Scenario

ZERO = timedelta(0)
# Kinds after which nothing is lost between two runs.
CONTINUOUS = ("replication", "commits")


@dataclass(frozen=True)
class Loss:
    """The most that can be lost when one backup is the last that is left.

    A disaster just before a run's copies are complete loses all that happened since the run before
    began: interval + run + copy. `complete` is False when the plan is silent about a part.
    """

    backup: int
    interval: timedelta
    takes: timedelta
    copied: timedelta
    complete: bool

    @property
    def total(self) -> timedelta:
        return self.interval + self.takes + self.copied


def loss_of(backup: Backup, number: int = 0) -> Loss:
    """What can be lost with this backup alone; unstated parts count as zero."""
    interval = backup.when.longest_interval() if backup.when else ZERO
    told = backup.takes is not None or backup.kind in CONTINUOUS
    copied = backup.copied_within is not None or backup.kind == "commits" or not backup.to
    return Loss(
        number, interval, backup.takes or ZERO, backup.copied_within or ZERO, told and copied
    )


def worst_loss(component: BaseComponent) -> Loss | None:
    """The smallest of its backups' worst cases: the best that a restore can be sure of."""
    losses = [loss_of(backup, number) for number, backup in enumerate(component.backups)]
    return min(losses, key=lambda loss: loss.total, default=None)


def worst_loss_with_site(plan: Plan, component: BaseComponent) -> Loss | None:
    """The same when the component's site is gone, and with it every copy that lies there.

    None when no scenario loses the site, or nothing is left (LW025 tells that).
    """
    if not any(component.site in scenario.loses for scenario in plan.scenarios.values()):
        return None
    outside = set(locations_off_site(plan, component))
    losses = [
        loss_of(backup, number)
        for number, backup in enumerate(component.backups)
        if outside & set(backup.to)
    ]
    return min(losses, key=lambda loss: loss.total, default=None)


def locations_off_site(plan: Plan, component: BaseComponent) -> list[str]:
    """The locations of a component's copies that are not where the component is."""
    site = plan.sites[component.site] if component.site else None
    used = dict.fromkeys(name for backup in component.backups for name in backup.to)
    return [name for name in used if not _shares_fate(site, plan.locations[name])]


def _shares_fate(site: Site | None, location: Location) -> bool:
    return location.role == "local" or (site is not None and same_place(site, location))


def worst_recovery(scenario: Scenario) -> timedelta | None:
    """From the damage to the end: detection, then the longer of the estimate and of the steps.

    Steps count along the longest path, approvals waited for to the last. None when neither the
    estimate nor every step says how long it takes.
    """
    estimate = scenario.estimate.at_most if scenario.estimate else None
    known = [time for time in (estimate, scenario.longest_path()) if time is not None]
    return (scenario.detected_within or ZERO) + max(known) if known else None
