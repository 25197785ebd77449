"""What incidents left to be done, with what is late first."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chalicelib.pages.words import Mark

Json = dict[str, Any]


def action_rows(seen: Json, now: datetime) -> list[Json]:
    """{"what", "incident", "owner", "due", "mark"} of each action that `show` tells."""
    rows = [_row(it, now) for it in seen["actions"]]
    return sorted(rows, key=lambda it: str(it["due"]))


def _row(action: Json, now: datetime) -> Json:
    due = str(action.get("due") or action.get("due_on") or "")[:10]
    status = str(action.get("status", "open"))
    return {
        "what": action.get("what", ""),
        "incident": action.get("incident", ""),
        "owner": action.get("owner", ""),
        "due": due or "no day",
        "mark": _mark(status, due, now),
    }


def _mark(status: str, due: str, now: datetime) -> Mark:
    if status == "done":
        return Mark("Done", "good", "good")
    if status == "dropped":
        return Mark("Dropped", "quiet", "quiet")
    if due and due < now.date().isoformat():
        return Mark("Overdue", "bad", "bad")
    return Mark("Open", "waiting", "warn")
