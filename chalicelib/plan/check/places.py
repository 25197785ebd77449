"""Rules on where copies lie and how they are encrypted."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from itertools import combinations

from chalicelib.plan.check.regions import area_of, nearest_region, region_key, same_place
from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.check.timing import locations_off_site
from chalicelib.plan.model import Plan
from chalicelib.plan.places import Place


def find_no_copy_off_site(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.components.items():
        used = dict.fromkeys(to for backup in component.backups for to in backup.to)
        if used and not locations_off_site(plan, component):
            yield (
                ("components", name, "backups"),
                f"every copy of {name} ({', '.join(used)}) lies where {name} itself is: what "
                "takes the one takes the others",
            )


def find_one_copy_off_site(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.components.items():
        outside = locations_off_site(plan, component)
        if len(outside) == 1:
            yield (
                ("components", name, "backups"),
                f"{outside[0]} holds the only copy of {name} outside its own site: 3-2-1 asks for "
                "three copies that do not share their fate, and here are two",
            )


def find_same_area(plan: Plan, now: datetime) -> Hits:
    for (one, first), (other, second) in combinations(plan.locations.items(), 2):
        area = area_of(first)
        if area is not None and area == area_of(second) and not same_place(first, second):
            yield (
                ("locations", other, "region"),
                f"{one} ({first.region}) and {other} ({second.region}) are different providers or "
                f"regions, but both are in {area}: one event there takes both",
            )


def find_same_region(plan: Plan, now: datetime) -> Hits:
    for section, places in (("locations", plan.locations), ("sites", plan.sites)):
        items: list[tuple[str, Place]] = list(places.items())
        for (one, first), (other, second) in combinations(items, 2):
            if same_place(first, second):
                yield (
                    (section, other, "region"),
                    f"{one} and {other} are the same region, {second.region}: one does not back "
                    "up the other",
                )


def find_unknown_region(plan: Plan, now: datetime) -> Hits:
    for section, places in (("locations", plan.locations), ("sites", plan.sites)):
        for name, place in places.items():
            if region_key(place) is not None and area_of(place) is None:
                near = nearest_region(place)
                yield (
                    (section, name, "region"),
                    f"{place.provider} has no public region {place.region!r}"
                    + (f", the nearest name is {near}" if near else ""),
                )


def find_missing_region(plan: Plan, now: datetime) -> Hits:
    for section, places in (("locations", plan.locations), ("sites", plan.sites)):
        for name, place in places.items():
            if place.region is None and getattr(place, "role", "") != "local":
                yield (
                    (section, name),
                    f"nothing says where {name} is, so nothing says what it shares its fate with",
                )


def find_standby_without_copy(plan: Plan, now: datetime) -> Hits:
    for name, site in plan.sites.items():
        here = any(same_place(site, location) for location in plan.locations.values())
        if site.role == "standby" and site.region is not None and not here:
            yield (
                ("sites", name),
                f"the standby site {name} ({site.region}) holds no copy: after the loss of the "
                "primary everything is first fetched from "
                f"{', '.join(_elsewhere(plan)) or 'nowhere'}",
            )


def _elsewhere(plan: Plan) -> list[str]:
    primaries = [site for site in plan.sites.values() if site.role == "primary"]
    return [
        name
        for name, location in plan.locations.items()
        if location.role != "local" and not any(same_place(location, site) for site in primaries)
    ]


def find_unnamed_store(plan: Plan, now: datetime) -> Hits:
    for name, location in plan.locations.items():
        if location.bucket is None and location.path is None:
            yield (
                ("locations", name),
                f"{name} is named as a location of copies, but no bucket or path of it is",
            )


def find_unencrypted(plan: Plan, now: datetime) -> Hits:
    for name, location in plan.locations.items():
        if location.encryption is None:
            yield ("locations", name), f"nothing says that copies in {name} are encrypted"


def find_key_in_one_region(plan: Plan, now: datetime) -> Hits:
    users = defaultdict(list)
    for name, location in plan.locations.items():
        key = location.encryption.key if location.encryption else None
        if key is not None and not key.offline and len(key.regions) == 1:
            users[key].append(name)
    for key, names in users.items():
        yield (
            ("locations", names[0], "encryption", "key"),
            f"the key of {' and '.join(names)} is in one account and one region, "
            f"{key.regions[0]}: when either is lost, none of these copies can be decrypted",
        )


def find_unstated_key(plan: Plan, now: datetime) -> Hits:
    for name, location in plan.locations.items():
        if location.encryption is not None and location.encryption.key is None:
            yield (
                ("locations", name, "encryption"),
                f"copies in {name} are encrypted, and nothing says where the key is",
            )


def find_deletable_copies(plan: Plan, now: datetime) -> Hits:
    if plan.locations and not any(location.is_locked for location in plan.locations.values()):
        yield (
            ("locations",),
            "no location keeps its copies from being deleted: whoever takes over an administrator "
            "takes the backups too",
        )


RULES = (
    Rule(
        "LW025",
        "error",
        "No copy outside the site",
        "copy to a location in another region",
        find_no_copy_off_site,
    ),
    Rule(
        "LW026",
        "warning",
        "One copy outside the site",
        "add a second location with another provider or region (3-2-1)",
        find_one_copy_off_site,
    ),
    Rule(
        "LW027",
        "warning",
        "Locations in one area",
        "move one of them to another part of the country",
        find_same_area,
    ),
    Rule(
        "LW028",
        "error",
        "Two names for one region",
        "choose different regions",
        find_same_region,
    ),
    Rule(
        "LW029",
        "warning",
        "A region that the provider does not have",
        "write the region as the provider does",
        find_unknown_region,
    ),
    Rule(
        "LW030",
        "note",
        "A place without a region",
        "state `region`; for a data center of your own, its town",
        find_missing_region,
    ),
    Rule(
        "LW031",
        "warning",
        "A standby site without copies",
        "keep a copy of the backups in the region that takes over",
        find_standby_without_copy,
    ),
    Rule(
        "LW032",
        "warning",
        "A location without a bucket or path",
        "name the bucket or path, so that a person finds the copies at night",
        find_unnamed_store,
    ),
    Rule(
        "LW033",
        "error",
        "Copies that nobody says are encrypted",
        "state `encryption` of the location: cipher and key",
        find_unencrypted,
    ),
    Rule(
        "LW034",
        "error",
        "A key that is lost with the region",
        "replicate the key to another region (KMS multi-region key) and add an offline recipient",
        find_key_in_one_region,
    ),
    Rule(
        "LW035",
        "warning",
        "Nobody knows where the key is",
        "state `encryption.key`: its service and every region it can be used from",
        find_unstated_key,
    ),
    Rule(
        "LW036",
        "warning",
        "Copies that anyone can delete",
        "lock one location (S3 Object Lock in compliance mode) and state `locks_follow_tiers`",
        find_deletable_copies,
    ),
)
