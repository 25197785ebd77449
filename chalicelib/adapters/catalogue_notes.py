"""What the notes beside a manifest say. One that cannot be read is {}."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chalicelib.plan.records import parse_time


def time_in(note: dict[str, Any] | None, name: str) -> datetime | None:
    """A note that cannot be read proves nothing."""
    try:
        return parse_time(note[name]) if note else None
    except (KeyError, ValueError, TypeError):
        return None


def reason_in(note: dict[str, Any] | None) -> str:
    """ "" when there is no note. One that cannot be read still says that there is something."""
    if note is None:
        return ""
    return str(note.get("reason") or "its note cannot be read")


def ended_in(note: dict[str, Any] | None) -> str:
    """Of the end of a quarantine: who, when (UTC) and why; "" when there is no note."""
    if note is None or (at := time_in(note, "unquarantined_at")) is None:
        return reason_in(note)
    return f"by {note.get('by') or 'nobody known'}, {at:%Y-%m-%d %H:%M} UTC: {reason_in(note)}"
