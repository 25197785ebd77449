"""Rules on how and when copies are made, and how long they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise, takewhile

from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.check.timing import ZERO
from chalicelib.plan.components import Backup, BaseComponent, Retention
from chalicelib.plan.model import Plan
from chalicelib.plan.units import format_duration as show

HOLDS_DATA = ("postgres", "bucket", "redis", "files")
_BASES = ("full", "dump")
_HEAVY = ("full", "dump", "incremental", "sync")
# A daily run in a zone with summer time is 25 hours after the one before, once a year.
_CLOCK_CHANGE = timedelta(hours=1)
_TIERS = {
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
    "monthly": timedelta(days=31),
    "yearly": timedelta(days=366),
}


def find_data_without_backup(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        ours = component.kind in HOLDS_DATA and name not in plan.stand_ins
        if ours and not component.backups:
            yield ("components", name), f"{name} holds data, and no backup of it is planned"


def find_logs_without_base(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        kinds = {backup.kind for backup in component.backups}
        for number, backup in enumerate(component.backups):
            if backup.kind == "wal" and "full" not in kinds:
                base = "dumps, which WAL cannot be replayed on" if "dump" in kinds else "no base"
                yield (
                    ("components", name, "backups", number),
                    f"{name} keeps its transaction logs, but has {base}: recovery ends at the "
                    "last full copy",
                )


def find_incremental_without_full(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        kinds = {backup.kind for backup in component.backups}
        for number, backup in enumerate(component.backups):
            if backup.kind == "incremental" and "full" not in kinds:
                yield (
                    ("components", name, "backups", number),
                    f"the incremental backup of {name} has no full backup to build on",
                )


def find_runs_that_overtake(plan: Plan, now: datetime) -> Hits:
    for name, number, backup in _all_backups(plan):
        if backup.when is None or backup.takes is None:
            continue
        shortest = _shortest_interval(backup, now)
        if backup.takes >= shortest:
            yield (
                ("components", name, "backups", number),
                f"a run takes {show(backup.takes)}, and the next begins after {show(shortest)}",
            )


def _shortest_interval(backup: Backup, now: datetime) -> timedelta:
    """The shortest gap among the next firings, which cover a day and a week's change."""
    assert backup.when is not None
    if backup.when.is_rate:
        return backup.when.longest_interval()
    upcoming = _firings(backup, now, timedelta(days=14))
    gaps = [later - earlier for earlier, later in pairwise(upcoming)]
    return min(gaps, default=backup.when.longest_interval())


def _firings(backup: Backup, now: datetime, horizon: timedelta) -> list[datetime]:
    assert backup.when is not None
    until = now + horizon
    return list(takewhile(lambda at: at < until, backup.when.firings_after(now)))


def find_colliding_runs(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        runs = sorted(
            (at, at + (backup.takes or ZERO), number)
            for number, backup in enumerate(component.backups)
            if backup.kind in _HEAVY and backup.when and not backup.when.is_rate
            for at in _firings(backup, now, timedelta(days=35))
        )
        for (first, second), at in _first_overlaps(runs).items():
            kinds = component.backups[first].kind, component.backups[second].kind
            yield (
                ("components", name, "backups", second),
                f"the {kinds[1]} backup of {name} runs while the {kinds[0]} one does, next on "
                f"{at:%Y-%m-%d at %H:%M} UTC",
            )


def _first_overlaps(
    runs: list[tuple[datetime, datetime, int]],
) -> dict[tuple[int, int], datetime]:
    """For each two backups that ever run at once, the first moment; `runs` in order of start."""
    found: dict[tuple[int, int], datetime] = {}
    running: dict[int, tuple[datetime, datetime]] = {}
    for start, end, number in runs:
        for other, (began, until) in running.items():
            if other != number and (start < until or start == began):
                found.setdefault((min(other, number), max(other, number)), start)
        running[number] = (start, end)
    return found


def find_clock_changes(plan: Plan, now: datetime) -> Hits:
    for name, number, backup in _all_backups(plan):
        if backup.when is not None and backup.when.has_clock_changes:
            yield (
                ("components", name, "backups", number, "when"),
                f"local time in {backup.when.time_zone} changes twice a year: a run in the hour "
                f"that is skipped does not happen, and {show(backup.when.longest_interval())} pass "
                "between two of them",
            )


def find_backup_without_location(plan: Plan, now: datetime) -> Hits:
    for name, number, backup in _all_backups(plan):
        if backup.kind != "commits" and not backup.to:
            yield (
                ("components", name, "backups", number),
                f"nothing says where the {backup.kind} backup of {name} goes",
            )


def find_missing_retention(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.components.items():
        kept = component.retention
        copies = [backup for backup in component.backups if backup.kind != "commits"]
        if copies and (kept is None or not (kept.all or kept.is_gfs)):
            yield (
                ("components", name),
                f"nothing says how long the copies of {name} are kept",
            )


def find_unbounded_logs(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.components.items():
        has_logs = any(backup.kind == "wal" for backup in component.backups)
        if has_logs and component.retention and component.retention.logs is None:
            yield (
                ("components", name, "retention"),
                f"nothing says how long the transaction logs of {name} are kept, so how far back "
                "a moment can be restored is not known",
            )


def find_point_in_time_gap(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        kept = component.retention
        if kept is None or kept.logs is None:
            continue
        reach = kept.all or timedelta(days=kept.daily)
        if reach > kept.logs:
            yield (
                ("components", name, "retention", "logs"),
                f"backups of {name} are kept {show(reach)}, their logs {show(kept.logs)}: from day "
                f"{kept.logs.days + 1} to day {reach.days} only whole backups can be restored, no "
                "moment between them",
            )


def find_starved_tiers(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        bases = _base_intervals(component)
        if not bases or component.retention is None:
            continue
        for tier, period in _TIERS.items():
            if getattr(component.retention, tier) and min(bases) > period + _CLOCK_CHANGE:
                yield (
                    ("components", name, "retention", tier),
                    f"a {tier} copy of {name} is to be kept, but a full one is made every "
                    f"{show(min(bases))} at most",
                )


def find_retention_gap(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        bases = _base_intervals(component)
        if not bases or component.retention is None:
            continue
        for key, kept in _periods(component.retention):
            if kept < min(bases):
                yield (
                    ("components", name, "retention", key),
                    f"what is kept {show(kept)} is gone before the next full backup, "
                    f"{show(min(bases))} later",
                )


def find_replicated_deletion(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        kinds = {backup.kind for backup in component.backups}
        if kinds == {"replication"} and component.retention is None:
            yield (
                ("components", name),
                f"{name} is only replicated: a deletion or an encryption by ransomware is "
                "replicated too, and no older version is kept",
            )


def _all_backups(plan: Plan) -> Iterator[tuple[str, int, Backup]]:
    for name, component in plan.live.items():
        for number, backup in enumerate(component.backups):
            yield name, number, backup


def _base_intervals(component: BaseComponent) -> list[timedelta]:
    return [
        backup.when.longest_interval()
        for backup in component.backups
        if backup.kind in _BASES and backup.when
    ]


def _periods(retention: Retention) -> Iterator[tuple[str, timedelta]]:
    for key, period in (("all", retention.all), ("logs", retention.logs)):
        if period is not None:
            yield key, period


RULES = (
    Rule(
        "LW012",
        "error",
        "Data without a backup",
        "plan a backup, or say in an acceptance why the data may be lost",
        find_data_without_backup,
    ),
    Rule(
        "LW013",
        "error",
        "Transaction logs that nothing can be replayed on",
        "take physical full backups (pg_basebackup, or Leeward's own) beside or instead of dumps",
        find_logs_without_base,
    ),
    Rule(
        "LW014",
        "error",
        "An incremental backup without a full one",
        "plan full backups for it to build on",
        find_incremental_without_full,
    ),
    Rule(
        "LW015",
        "error",
        "A run is not over when the next begins",
        "run it less often, or make it faster",
        find_runs_that_overtake,
    ),
    Rule(
        "LW016",
        "warning",
        "Two heavy runs of a component collide",
        "move one of them by more than the other takes",
        find_colliding_runs,
    ),
    Rule(
        "LW017",
        "warning",
        "A schedule in a time zone with summer time",
        "schedule in UTC",
        find_clock_changes,
    ),
    Rule(
        "LW018",
        "warning",
        "A backup that goes nowhere",
        "name its locations under `to`",
        find_backup_without_location,
    ),
    Rule(
        "LW019",
        "warning",
        "Nothing says how long copies are kept",
        "state `retention`: a period under `all`, or counts per calendar period",
        find_missing_retention,
    ),
    Rule(
        "LW020",
        "warning",
        "Nothing says how long transaction logs are kept",
        "state `retention.logs`, at least the time in which damage is noticed",
        find_unbounded_logs,
    ),
    Rule(
        "LW021",
        "warning",
        "Backups that no point in time can be reached from",
        "keep the logs as long as the backups, or accept it with the reason",
        find_point_in_time_gap,
    ),
    Rule(
        "LW022",
        "error",
        "A tier of retention that no schedule feeds",
        "take full backups at least as often as the tier's period",
        find_starved_tiers,
    ),
    Rule(
        "LW023",
        "error",
        "Copies expire before the next one is made",
        "keep them longer than the interval between full backups",
        find_retention_gap,
    ),
    Rule(
        "LW024",
        "error",
        "Replication is the only copy",
        "keep versions (retention), or add a backup that is not written through",
        find_replicated_deletion,
    ),
)
