"""More writes, deletions or renames than this bucket ever had at this hour.

A bucket has its habits: a nightly job, a Monday import. The limit of an hour is made of what the
same hour, the one before and the one after had in the last four weeks, never below a floor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from statistics import median

from chalicelib.plan.records import format_time
from chalicelib.plan.signs import BucketEvent, Sign

SLOT_SECONDS = 300
HISTORY_DAYS = 28
# Without a week of history a Monday is a surprise.
LEAST_DAYS = 7
# In five minutes. Below it an attack is slow, and found by what it writes.
FLOOR = 50
# docs/ransomware.md: 1.5 times the highest of four weeks gave 1 to 5 votes a month in vain.
HEADROOM = 1.5
# Median + 6 robust deviations; 1.4826 makes a median absolute deviation one of a normal law.
DEVIATIONS = 6 * 1.4826
SCORES = {"writes": 0.3, "deletes": 0.7, "renames": 0.7}
# Ten times the limit is worth a person's look even if nothing else is found: a folder was cleaned
# up, or a bucket is being emptied.
FLOOD = 10
FLOOD_SCORES = {"writes": 0.5, "deletes": 0.85, "renames": 0.85}

Peaks = Mapping[str, int]


def slot_of(at: datetime) -> datetime:
    """The beginning of the five minutes that `at` lies in."""
    seconds = int(at.timestamp()) // SLOT_SECONDS * SLOT_SECONDS
    return datetime.fromtimestamp(seconds, UTC)


def hour_name(at: datetime) -> str:
    """ "2026112208": the hour as peaks are kept."""
    return at.astimezone(UTC).strftime("%Y%m%d%H")


def count_slots(events: Iterable[BucketEvent]) -> dict[datetime, dict[str, int]]:
    """slot -> {"writes", "deletes"}. What a lifecycle rule deletes is the rule's doing."""
    found: dict[datetime, dict[str, int]] = {}
    for event in events:
        if event.reason.startswith("Lifecycle"):
            continue
        slot = found.setdefault(slot_of(event.at), {"writes": 0, "deletes": 0, "renames": 0})
        slot["writes" if event.kind == "created" else "deletes"] += 1
    return found


def limit_at(peaks: Peaks, slot: datetime) -> int:
    """How many of a kind are usual at most in the five minutes from `slot`.

    Args:
        peaks: hour name -> the most in any five minutes of that hour. Absent hours had none.
    """
    daily = [
        max(peaks.get(hour_name(slot - timedelta(days=day, hours=off)), 0) for off in (-1, 0, 1))
        for day in range(1, HISTORY_DAYS + 1)
    ]
    middle = median(daily)
    deviation = median(abs(n - middle) for n in daily)
    return int(max(FLOOR, HEADROOM * max(daily), middle + DEVIATIONS * deviation))


def find_burst(bucket: str, kind: str, slot: datetime, count: int, peaks: Peaks) -> Sign | None:
    limit = limit_at(peaks, slot)
    if count <= limit:
        return None
    scores = FLOOD_SCORES if count >= FLOOD * limit else SCORES
    return Sign(
        f"burst-{kind}", "burst", scores[kind], bucket, slot,
        f"{count} {kind} in 5 minutes from {slot:%Y-%m-%d %H:%M} UTC; "
        f"up to {limit} are usual at this hour",
        {"count": count, "limit": limit, "slot": format_time(slot)},
    )  # fmt: skip


def trim_peaks(peaks: Peaks, now: datetime) -> dict[str, int]:
    """Only what `limit_at` may still ask for."""
    oldest = hour_name(now - timedelta(days=HISTORY_DAYS, hours=2))
    return {hour: n for hour, n in peaks.items() if hour >= oldest and n}
