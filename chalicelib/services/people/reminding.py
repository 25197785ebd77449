"""People are reminded of actions and of the plan's review, in the morning of the plan's time zone.

Asked each hour: a lost hour is made up for by the next one, and what was written today already is
not written again.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from chalicelib.incidents.actions import list_actions
from chalicelib.incidents.messages import Delivery
from chalicelib.incidents.messages_outbox import keep
from chalicelib.incidents.reminders import (
    OF_THE_PLAN,
    decide_reminders,
    reminder_delivery,
    reviewers_of,
)
from chalicelib.incidents.streams import PLAN_REVIEWS
from chalicelib.plan.actions import SOON, plan_zone, today_in
from chalicelib.plan.plan_review import ReviewDue, decide_review
from chalicelib.plan.records import format_time, parse_time
from chalicelib.services import build
from chalicelib.services.people.hearing import Event

# People read it when they begin to work.
FROM_HOUR = 9
LAST = "last"


def remind() -> dict[str, Any]:
    """Put today's reminders into the outbox, once each; the outbox sends them."""
    from chalicelib.services.people.notices import tells_anybody

    plan, now = build.plan(), build.clock().now()
    build.metrics().put("people", {"RemindersLooked": 1.0})
    if now.astimezone(plan_zone(plan)).hour < FROM_HOUR or not tells_anybody():
        return {"found": "nobody is reminded now", "reminded": 0}
    primary = build.environment().stack == "primary"
    reminders = decide_reminders(
        list_actions(build.state()),
        review_standing() if primary else None,
        reviewers_of(plan),
        today=today_in(plan, now),
        soon=plan.post_incident.remind_before or SOON,
    )
    keep([reminder_delivery(it, plan=plan, at=now) for it in reminders], state=build.state())
    return {"found": f"{len(reminders)} reminders stand for today", "reminded": len(reminders)}


def why_no_reminder(delivery: Delivery) -> str:
    """Why somebody need not be reminded any more, of what was done in the meantime."""
    if delivery.message.incident == OF_THE_PLAN:
        return "the plan was reviewed" if review_standing().standing == "standing" else ""
    found = [it for it in list_actions(build.state()) if it.id == delivery.subject]
    return "" if found and found[0].is_open else "the action is over"


def review_standing() -> ReviewDue:
    """How the plan's own review stands today."""
    plan, last = build.plan(), build.state().get(OF_THE_PLAN, LAST)
    reviewed = _day(parse_time(last["reviewed_at"])) if last else None
    return decide_review(plan.review, reviewed_on=reviewed, today=_day(build.clock().now()))


def _day(at: Any) -> date:
    return today_in(build.plan(), at)


def reviewed(event: Event) -> Event:
    """{"by", "code", "says"?, "key"}: a person says that the plan was reviewed, as it is deployed.

    Raises:
        BadInput: codes "unknown-person", "bad-words".
        Refused: code "not-entitled", where the plan names who approves it, and those of a code.
        NotReady: code "not-enrolled".
    """
    from chalicelib.services.people.reviewing import known_person, words_of
    from chalicelib.services.people.second_factor import require_code

    by = known_person(event)
    _require_reviewer(by)
    says = words_of(event, "says", 2000) if event.get("says") else ""
    require_code(event, by, "plan-reviewed")
    body = {"plan_sha256": build.plan().plan_sha256, "says": says}
    key = f"plan-reviewed/{event.get('key') or format_time(build.clock().now())}"
    kept = build.records().append(PLAN_REVIEWS, "plan-reviewed", body, actor=by, key=key)
    item = {"reviewed_at": format_time(kept.at), "by": by, "says": str(kept.body["says"])}
    _keep_last(item)
    due = review_standing()
    return {"due_on": due.due_on, "found": f"reviewed by {by}; next by {due.due_on or 'no date'}"}


def _keep_last(item: Event) -> None:
    while not build.state().create(OF_THE_PLAN, LAST, item):
        kept = build.state().get(OF_THE_PLAN, LAST) or {}
        if kept.get("reviewed_at", "") >= item["reviewed_at"]:
            return
        expected = {"reviewed_at": kept["reviewed_at"]}
        if build.state().replace(OF_THE_PLAN, LAST, item, expected=expected):
            return


def _require_reviewer(by: str) -> None:
    from chalicelib.errors import Refused

    reviewers = reviewers_of(build.plan())
    if reviewers and by not in reviewers:
        raise Refused(
            f"{by} does not review this plan",
            hint=f"one of them says it: {', '.join(reviewers)}",
            code="not-entitled",
        )
