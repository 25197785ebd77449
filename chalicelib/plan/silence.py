"""How long a schedule may be silent, and which silences are longer than CloudWatch looks back."""

from __future__ import annotations

from datetime import timedelta

# A schedule may be late by its own interval before its silence is an alarm.
SILENT_INTERVALS = 2
# Source: CloudWatch user guide, "Alarm evaluation": evaluation periods times their length are at
# most seven days.
ALARMS_LOOK_BACK = timedelta(days=7)
HOUR_SECONDS = 3600


def may_be_silent(interval: timedelta) -> timedelta:
    """For so long may what is done once in each `interval` not be done."""
    return interval * SILENT_INTERVALS


def is_seldom(interval: timedelta) -> bool:
    """Whether no alarm of CloudWatch can tell by itself that it was not done."""
    return may_be_silent(interval) > ALARMS_LOOK_BACK


def within_metric(metric: str, silence: timedelta) -> str:
    """ "Taken.full.within-1488h": put as long as `metric` was put within `silence`.

    One metric may be promised twice, as a weekly dump and a monthly full backup are.
    """
    hours = -(-int(silence.total_seconds()) // HOUR_SECONDS)
    return f"{metric}.within-{hours}h"
