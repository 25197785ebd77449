"""Rules on buckets and their replicas: what stays how long, what is erased without a word, whose
bucket it is."""

from __future__ import annotations

from datetime import datetime, timedelta

from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.components import BaseComponent, Bucket
from chalicelib.plan.model import Plan
from chalicelib.plan.prices import format_usd, usd_per_month
from chalicelib.plan.units import format_duration as show
from chalicelib.plan.units import format_size

# An inventory is taken each night, and one night may fail.
INVENTORIES_APART = timedelta(days=2)


def find_replica_versions(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.components.items():
        kept = component.retention
        versions = kept.versions if kept else None
        if not _has_replica(component):
            if versions:
                yield (
                    ("components", name, "retention", "versions"),
                    f"{name} has no replica, so that there are no versions to keep",
                )
        elif versions is None:
            yield (
                ("components", name, *(("retention",) if kept else ())),
                f"what is replaced or deleted in {name} stays in its replica for ever"
                f"{_price(component)}",
            )
        else:
            needed, why = _needed(plan, name)
            if versions < needed:
                yield (
                    ("components", name, "retention", "versions"),
                    f"versions of {name} go {show(versions)} after they were replaced, and {why}: "
                    "what was written in between comes back from no copy",
                )


def _has_replica(component: BaseComponent) -> bool:
    return isinstance(component, Bucket) and component.is_in_step


def _needed(plan: Plan, name: str) -> tuple[timedelta, str]:
    """The least that is safe, and why."""
    noticed = {
        it.detected_within: scenario
        for scenario, it in plan.scenarios.items()
        if it.component == name and it.detected_within is not None
    }
    latest = max(noticed, default=timedelta(0))
    if latest > INVENTORIES_APART:
        return latest, f"{noticed[latest]} is noticed within {show(latest)}"
    return INVENTORIES_APART, f"its inventories are up to {show(INVENTORIES_APART)} apart"


def _price(component: BaseComponent) -> str:
    """That of everything being written anew once."""
    if component.size is None:
        return ", and is paid for"
    price = usd_per_month(component.size, "aws") or 0
    return (
        f": each time that all of its {format_size(component.size)} are written anew costs "
        f"{format_usd(price)} more a month"
    )


def find_unseen_erasures(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.components.items():
        if not isinstance(component, Bucket) or not component.erases_at_most:
            continue
        path, share = ("components", name, "erases_at_most"), component.erases_at_most
        if not _has_replica(component):
            yield path, f"{name} has no replica, so that nobody looks what was removed from it"
            continue
        if share > component.deletes_at_most:
            yield (
                path,
                f"{share:.1%} of {name} may be removed for good in a night and nobody is told, "
                f"where {component.deletes_at_most:.1%} may be deleted",
            )
        if not component.mirror:
            yield path, f"what {name} erases stays in its replica for ever, which mirrors nothing"


def find_shared_buckets(plan: Plan, now: datetime) -> Hits:
    """A retired component keeps what it has, and takes nothing any more."""
    owners: dict[str, str] = {}
    for name, component in plan.live.items():
        if not isinstance(component, Bucket):
            continue
        first = owners.setdefault(component.bucket, name)
        if first != name:
            yield (
                ("components", name, "bucket"),
                f"{name} and {first} are the same bucket, {component.bucket}: what is restored, "
                "deleted or quarantined as the one changes the other, and every copy is paid for "
                "twice",
            )


RULES = (
    Rule(
        "LW114",
        "warning",
        "A replica whose versions stay for ever, or not long enough",
        "state `retention.versions`, at least the time in which damage is noticed",
        find_replica_versions,
    ),
    Rule(
        "LW115",
        "error",
        "An erasure that hides an attack, or that its copies outlive",
        "mirror the bucket, and declare what is erased in a night: less than may be deleted",
        find_unseen_erasures,
    ),
    Rule(
        "LW116",
        "error",
        "Two components that are one bucket",
        "make one component of them, or retire the one that the other replaces",
        find_shared_buckets,
    ),
)
