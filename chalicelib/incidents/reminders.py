"""Who is reminded of what: of actions whose day is near or over, of a plan that is to be reviewed.

A reminder of an action is written once a day, from a week before its day until it is done. Of a
review: once when it is due soon, once when it is overdue, and then once each month. Its id says
which one it is, so that a second try is the same message.

Pure: reads no clock, calls nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from chalicelib.incidents.messages import Delivery, Way, inside_ways, ways_to
from chalicelib.incidents.messages_text import write_reminder
from chalicelib.plan.actions import Action, standing_of
from chalicelib.plan.model import Plan
from chalicelib.plan.plan_review import ReviewDue
from chalicelib.plan.records import digest_of
from chalicelib.ports.notify import Message

REMINDER = "reminder"
# In place of an incident's id, where a reminder is about the plan.
OF_THE_PLAN = "plan-review"
# Nobody is woken for something that has had a week.
_NOT_BY = ("pagerduty",)


@dataclass(frozen=True)
class Reminder:
    """`about`: the action, or OF_THE_PLAN. `occasion`: the day, or which one of the review's.

    `to`: a contact, "" for those inside.
    """

    incident: str
    about: str
    occasion: str
    to: str
    facts: dict[str, str | int]


def decide_reminders(
    actions: Iterable[Action],
    due: ReviewDue | None,
    approvers: Iterable[str],
    *,
    today: date,
    soon: timedelta,
) -> list[Reminder]:
    """Everything that is to be said today.

    Args:
        due: how the plan's review stands; None where another stack looks after it.
        approvers: contacts that review the plan; without any, those inside are told.
        today: in the plan's time zone. soon: how long before its day an action is told of.
    """
    found = [*_of_actions(actions, today, soon)]
    return found + (list(_of_review(due, tuple(approvers) or ("",), today)) if due else [])


def _of_actions(actions: Iterable[Action], today: date, soon: timedelta) -> Iterator[Reminder]:
    for it in actions:
        standing = standing_of(it, today=today, soon=soon)
        if standing in ("overdue", "due soon"):
            late = (today - date.fromisoformat(it.due_on)).days
            facts: dict[str, str | int] = {"action": it.id, "what": it.what, "due_on": it.due_on}
            facts |= {"late": late, "incident": it.incident}
            yield Reminder(it.incident, it.id, today.isoformat(), it.owner, facts)


def _of_review(due: ReviewDue, to: Iterable[str], today: date) -> Iterator[Reminder]:
    if due.standing == "standing":
        return
    when = due.due_on or "unknown"
    overdue = f"overdue/{when}/{today:%Y-%m}"
    occasion = overdue if due.standing == "overdue" else f"due/{when}"
    facts: dict[str, str | int] = {"due_on": due.due_on or "", "why": due.why}
    facts |= {"late": 1 if due.standing == "overdue" else 0}
    for name in to:
        yield Reminder(OF_THE_PLAN, OF_THE_PLAN, occasion, name, facts)


def reminder_delivery(reminder: Reminder, *, plan: Plan, at: datetime) -> Delivery:
    """To the owner by their own ways, then by the channels of those inside; never by a pager."""
    subject, text = write_reminder(reminder.facts, plan)
    recipient = reminder.to or "those-inside"
    message = Message(
        id=digest_of([REMINDER, reminder.about, reminder.occasion, recipient])[:32],
        incident=reminder.incident,
        what=REMINDER,
        audience="internal",
        severity="",
        subject=subject,
        text=text,
        drill=False,
        written_at=at,
    )
    return Delivery(message, recipient, _ways(reminder.to, plan), at, subject=reminder.about)


def _ways(to: str, plan: Plan) -> tuple[Way, ...]:
    contact = plan.contacts.get(to)
    own = ways_to(to, contact) if contact else ()
    return tuple(it for it in (*own, *inside_ways(plan, drill=False)) if it.kind not in _NOT_BY)


def reviewers_of(plan: Plan) -> tuple[str, ...]:
    """The contacts that the plan names as approvers of a review, by their title, name or role; else
    those of its owner; else whoever may approve."""
    approve = tuple(name for role in plan.roles.values() if "approve" in role.may
                    for name in role.held_by)  # fmt: skip
    owners = (plan.document.owner,) if plan.document.owner else ()
    named = _named(plan.review.approvers, plan) or _named(owners, plan) or approve
    return tuple(dict.fromkeys(named))


def _named(words: Iterable[str], plan: Plan) -> tuple[str, ...]:
    wanted = {word.casefold() for word in words}
    people = [n for n, it in plan.contacts.items() if wanted & {n, it.title.casefold()}]
    for name, role in plan.roles.items():
        if wanted & {name, role.title.casefold()}:
            people += role.held_by
    return tuple(people)
