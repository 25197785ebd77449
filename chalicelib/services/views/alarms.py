"""Which alarms are raised that start no scenario: people were told of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from chalicelib.plan.records import format_time
from chalicelib.services import build
from chalicelib.services.people.alarm_bursts import standing_alarms
from chalicelib.services.people.alarms import looked_at

Event = dict[str, Any]
# The sweep looks each minute.
KNOWN_FOR = timedelta(minutes=5)


def alarms_view(_event: Event) -> Event:
    """{"as_of", "looked_at", "known", "alarms": [{"alarm", "description", "reason", "raised_at"}]},
    the oldest first. Where `known` is false nobody has looked of late: none may be taken for good.
    """
    now, looked = build.clock().now(), looked_at()
    alarms = sorted((it.alarm for it in standing_alarms()), key=lambda it: it.raised_at)
    return {
        "as_of": format_time(now),
        "looked_at": format_time(looked) if looked else None,
        "known": looked is not None and now - looked < KNOWN_FOR,
        "alarms": [
            {
                "alarm": it.name,
                "description": it.description,
                "reason": it.reason,
                "raised_at": format_time(it.raised_at),
            }
            for it in alarms
        ],
    }
