"""The job that copies a component's recovery points and WAL to one of the plan's locations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from chalicelib.backup.copies import CopyResult, apply_copies
from chalicelib.backup.copy_decision import decide_copies
from chalicelib.backup.long_copies import LONG_BYTES, LongPlace, Unfinished, give_up_old
from chalicelib.errors import Unavailable
from chalicelib.evidence.text import counted
from chalicelib.plan.records import format_time, parse_time
from chalicelib.services import build
from chalicelib.services.jobs.kept_keys import KeptKeys, keep_keys

# Lambda ends an invocation after 15 minutes; one object may take the rest of them, and is put
# down in time when it is a long one.
WORK = timedelta(minutes=10)
PUT_DOWN_AFTER = timedelta(minutes=13)
LEASE = timedelta(minutes=15)
SHOWN = 5


def copy(component: str, location: str, long: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Copy what the location lacks, as far as one invocation reaches.

    Publishes `CopyLag.<location>` in seconds, and `Copied.<location>` when the location holds all
    that the primary one can vouch for, that is something, and each key of the plan opens all of it:
    without it the copy is late, or broken, or worth less than promised, and an alarm. What the
    location has lost is copied again, and told as `Damaged.<location>` as a check does. A long
    object that was put down is gone on with at once, by another invocation.

    Args:
        long: "seconds" after which a long object is put down, "bytes" from which on one is long.
    Raises:
        Unavailable: code "copy-incomplete", when an object could not be copied.
    """
    started_at = build.clock().now()
    if not _take_turn(component, location, started_at):
        return {"found": f"another copy to {location} is still at work", "complete": False}
    try:
        result, old, keys = _copy(component, location, started_at, long or {})
    finally:
        build.state().remove(f"copies#{component}", location, expected=_turn(started_at))
    if result.put_down:
        event = {"component": component, "location": location, "long": dict(long or {})}
        build.functions().start("copy", event)
    values = {f"CopyLag.{location}": result.lag_seconds}
    if result.complete and result.vouched and not (keys.lacking or keys.changed):
        values[f"Copied.{location}"] = 1.0
    if damaged := (*result.lost, *keys.changed, *keys.put_back):
        values[f"Damaged.{location}"] = float(len(damaged))
    build.metrics().put(component, values)
    if result.failures or result.differing:
        raise _incomplete(location, result)
    found = _tell(location, result) + _tell_old(old) + _tell_keys(keys)
    return {"found": found, "complete": result.complete}


def _copy(
    component: str, location: str, started_at: datetime, long: Mapping[str, float]
) -> tuple[CopyResult, tuple[Unfinished, ...], KeptKeys]:
    places = build.locations()
    source, target = (places.store(name, component) for name in (places.primary, location))
    decision = decide_copies(build.catalogue(component).holdings(), source.list(), target.list())
    seconds = long.get("seconds", PUT_DOWN_AFTER.total_seconds())
    until = started_at + timedelta(seconds=seconds)
    long_bytes = int(long.get("bytes", LONG_BYTES))
    place = LongPlace(build.backups(component), location, build.clock(), until, long_bytes)
    old = give_up_old(place, target)
    result = apply_copies(
        decision, source, target, clock=build.clock(), until=started_at + WORK, long=place
    )
    return result, old, keep_keys(location, source, target)


def _take_turn(component: str, location: str, now: datetime) -> bool:
    """One at a time; the turn of a worker that died ends when its invocation would have."""
    partition, own = f"copies#{component}", _turn(now)
    if build.state().create(partition, location, own):
        return True
    held = build.state().get(partition, location)
    if held is None or parse_time(held["until"]) > now:
        return False
    kept = {name: value for name, value in held.items() if name != "sort"}
    return build.state().replace(partition, location, own, expected=kept)


def _turn(started_at: datetime) -> dict[str, Any]:
    return {"until": format_time(started_at + LEASE)}


def _incomplete(location: str, result: CopyResult) -> Unavailable:
    named = [f"{failure.key}: {failure.found}" for failure in result.failures]
    named += [f"{key}: another size than the source's" for key in result.differing]
    return Unavailable(
        f"expected every object in {location}, {counted(len(named), 'object')} could not be "
        f"copied: {'; '.join(named[:SHOWN])}",
        hint="it is tried again; `leeward verify` tells which side is damaged",
        code="copy-incomplete",
        location=location,
        copied=result.copied,
    )


def _tell(location: str, result: CopyResult) -> str:
    copied = f"{counted(result.copied, 'object')} ({result.copied_bytes / 1e6:.1f} MB)"
    left = f", {len(result.left)} points left: the source cannot vouch for them"
    rest = f", {result.remaining} to come" if result.remaining else ""
    down = f", {', '.join(result.put_down)} to be gone on with" if result.put_down else ""
    lost = f"; GONE THERE, and copied again: {', '.join(result.lost[:SHOWN])}"
    return f"{location}: {copied} copied{rest}{down}{left if result.left else ''}" + (
        lost if result.lost else ""
    )


def _tell_old(old: tuple[Unfinished, ...]) -> str:
    """What lay there unseen, and was paid for."""
    told = [
        f"{it.key} ({it.sent_bytes / 1e6:.1f} MB, begun {format_time(it.begun_at)})" for it in old
    ]
    return f"; uploads that nobody went on with, removed: {', '.join(told)}" if told else ""


def _tell_keys(keys: KeptKeys) -> str:
    """`lacking`: made while a region was lost, or before the plan named that key."""
    told = ""
    if keys.lacking:
        told += f"; NOT ALL OPENS for {', '.join(keys.lacking)}: `leeward keys update`"
    if keys.changed:
        told += f"; KEY SETS CHANGED, compare with sealed-keys/: {', '.join(keys.changed)}"
    if keys.put_back:
        told += f"; KEY SETS GONE, put back from sealed-keys/: {', '.join(keys.put_back)}"
    return told
