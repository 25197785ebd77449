"""PagerDuty's Events API v2: one alert for each incident, opened, acknowledged and resolved.

Source: developer.pagerduty.com, "Events API v2 Overview" and "Send an Alert Event".
"""

from __future__ import annotations

import json
from typing import Any

from chalicelib.adapters.notify.http import LIMIT_SECONDS, post
from chalicelib.plan.records import format_time
from chalicelib.ports.notify import Message

URL = "https://events.pagerduty.com/v2/enqueue"
LONGEST_SUMMARY, LONGEST_KEY = 1024, 255
SEVERITIES = {"SEV1": "critical", "SEV2": "error", "SEV3": "warning", "SEV4": "info"}
# What an occasion does to the alert; all others add to it.
ACTIONS = {"acknowledged": "acknowledge", "recovered": "resolve", "closed": "resolve",
           "over": "resolve"}  # fmt: skip


class PagerDutySender:
    """`settings`: {"routing_key": ..., "url": another address}. `to`: another routing key, that of
    a person's or a team's own service, "" for none."""

    def __init__(self, settings: dict[str, Any], *, seconds: float = LIMIT_SECONDS) -> None:
        self._settings, self._seconds = settings, seconds

    def send(self, message: Message, to: str) -> str:
        event = {
            "routing_key": str(to or self._settings["routing_key"]),
            "event_action": ACTIONS.get(message.what, "trigger"),
            "dedup_key": dedup_key(message),
            "payload": {
                "summary": message.subject[:LONGEST_SUMMARY],
                "source": "leeward",
                "severity": SEVERITIES.get(message.severity, "error"),
                "timestamp": format_time(message.written_at),
                "custom_details": {"text": message.text, "incident": message.incident},
            },
        }
        url = str(self._settings.get("url") or URL)
        headers = {"Content-Type": "application/json"}
        answer = post(
            url, json.dumps(event).encode(), headers, whose="PagerDuty", seconds=self._seconds
        )
        return _key_in(answer)


def dedup_key(message: Message) -> str:
    """One for each incident, so that whatever happens to it happens to one alert."""
    return f"leeward/{message.incident}"[:LONGEST_KEY]


def _key_in(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["dedup_key"])
    except (ValueError, KeyError, TypeError):
        return ""
