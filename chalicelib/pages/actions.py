"""What incidents left to be done, with what is late first."""

from __future__ import annotations

from typing import Any

from chalicelib.pages.words import ACTION, REVIEW, UNKNOWN

Json = dict[str, Any]


def action_rows(seen: Json) -> list[Json]:
    """{"what", "incident", "owner", "due", "mark"} of each action that `show` tells, in its order:
    what is overdue first, by the days of the plan's own time zone."""
    return [_row(it) for it in seen["actions"]]


def review_row(review: Json | None) -> Json | None:
    """{"mark", "why"} of the plan's own review; None where another stack looks after it."""
    if review is None:
        return None
    return {"mark": REVIEW.get(review["standing"], UNKNOWN), "why": review["why"]}


def _row(action: Json) -> Json:
    return {
        "action": action["action"],
        "what": action["what"],
        "incident": action["incident"],
        "owner": action["owner_title"],
        "due": action["due_on"],
        "mark": ACTION.get(action["standing"], UNKNOWN),
    }
