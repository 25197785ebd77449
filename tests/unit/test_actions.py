"""Actions after an incident: one for each request, visible until done, reminded of once a day."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chalicelib.errors import BadInput, Refused
from chalicelib.incidents.actions import (
    ActionDesk,
    Wanted,
    add_action,
    end_action,
    find_action,
    list_actions,
)
from chalicelib.incidents.messages_outbox import keep, undelivered
from chalicelib.incidents.reminders import (
    Reminder,
    decide_reminders,
    reminder_delivery,
    reviewers_of,
)
from chalicelib.incidents.streams import review_stream
from chalicelib.plan.actions import Action, in_order, standing_of
from chalicelib.plan.model import Plan
from chalicelib.plan.plan_review import ReviewDue
from leeward.plan_file import load_plan
from tests.fakes_records import InMemoryRecords
from tests.fakes_state import InMemoryState, ManualClock

PLANS = Path(__file__).parents[2] / "policies" / "plans"

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest.fixture
def desk() -> ActionDesk:
    return ActionDesk(InMemoryState(), InMemoryRecords(), ManualClock(NOW))


def wanted(**change: Any) -> Wanted:
    fields = {
        "incident": "inc-1", "what": "Alarm on the dump", "owner": "dba-lead",
        "due_on": "2026-12-24", "by": "cto", "request": "r1",
    }  # fmt: skip
    return Wanted(**fields | change)


def add(desk: ActionDesk, **change: Any) -> Action:
    return add_action(wanted(**change), today=TODAY, desk=desk)


def kinds(desk: ActionDesk) -> list[str]:
    return [it.kind for it in desk.records.read(review_stream("inc-1"))]


def test_the_same_request_is_one_action_and_one_record(desk: ActionDesk) -> None:
    assert add(desk) == add(desk)
    assert add(desk, request="r2").id == "act-2"
    assert kinds(desk) == ["action-added", "action-added"]


def test_a_death_before_the_record_is_made_up_for_by_the_same_request(desk: ActionDesk) -> None:
    lost = ActionDesk(desk.state, InMemoryRecords(), desk.clock)
    add(lost)
    assert kinds(desk) == []
    add(desk)
    assert kinds(desk) == ["action-added"]


def test_many_at_once_have_numbers_of_their_own(desk: ActionDesk) -> None:
    with ThreadPoolExecutor(8) as people:
        made = list(people.map(lambda n: add(desk, request=f"r{n % 6}"), range(12)))
    assert sorted({it.id for it in made}) == [f"act-{n}" for n in range(1, 7)]
    assert len(list_actions(desk.state)) == 6


@pytest.mark.parametrize(
    ("due_on", "code"),
    [("2026-11-21", "day-over"), ("tomorrow", "bad-day"), ("", "bad-day"), ("20261224", "bad-day"),
     ("2026-02-30", "bad-day")],
)  # fmt: skip
def test_a_day_that_is_over_or_none_is_refused(desk: ActionDesk, due_on: str, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        add(desk, due_on=due_on)
    assert refused.value.instance_code == code
    assert list_actions(desk.state) == []


def test_an_action_ends_once_whoever_says_so_and_however_often(desk: ActionDesk) -> None:
    made = add(desk)
    for _ in range(2):
        ended = end_action(made, "done", by="dba-lead", says="#12", request="d1", desk=desk)
        assert ended.status == "done"
    with pytest.raises(Refused) as refused:
        end_action(made, "dropped", by="cto", says="no", request="d2", desk=desk)
    assert refused.value.instance_code == "action-over"
    assert find_action(made.id, state=desk.state).status == "done"
    assert kinds(desk) == ["action-added", "action-ended"]


def test_two_who_end_it_at_once_end_it_once(desk: ActionDesk) -> None:
    made = add(desk)

    def end(number: int) -> str:
        try:
            end_action(made, "done", by="cto", says="", request=f"d{number}", desk=desk)
        except Refused:
            return "refused"
        return "done"

    with ThreadPoolExecutor(4) as people:
        assert sorted(people.map(end, range(4))) == ["done", "refused", "refused", "refused"]
    assert kinds(desk) == ["action-added", "action-ended"]


@pytest.mark.parametrize(
    ("due_on", "standing"),
    [("2026-11-21", "overdue"), ("2026-11-22", "due soon"), ("2026-11-29", "due soon"),
     ("2026-11-30", "open")],
)  # fmt: skip
def test_a_day_is_over_when_it_is_over(desk: ActionDesk, due_on: str, standing: str) -> None:
    made = replace(add(desk), due_on=due_on)
    assert standing_of(made, today=TODAY) == standing


def test_what_is_overdue_longest_comes_first_and_what_is_over_last(desk: ActionDesk) -> None:
    far, near, over = (add(desk, request=r, due_on=d) for r, d in
                       (("a", "2027-01-01"), ("b", "2026-11-23"), ("c", "2026-11-22")))  # fmt: skip
    over = end_action(over, "done", by="cto", says="", request="x", desk=desk)
    assert in_order([over, far, near]) == [near, far, over]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(PLANS / "nexus-studio.yaml").plan


def due(standing: Any, due_on: str | None = "2026-11-30") -> ReviewDue:
    return ReviewDue(standing, due_on, "last reviewed on 2026-05-31")


def remind(actions: list[Action], review: ReviewDue | None, today: date) -> list[Reminder]:
    return decide_reminders(actions, review, ("cto",), today=today, soon=WEEK)


def ids(found: list[Reminder], plan: Plan) -> list[str]:
    return [reminder_delivery(it, plan=plan, at=NOW).id for it in found]


def test_an_owner_is_reminded_from_a_week_before_once_a_day_until_it_is_done(
    desk: ActionDesk, plan: Plan
) -> None:
    made = add(desk, due_on="2026-11-30")
    assert remind([made], None, date(2026, 11, 22)) == []
    first = remind([made], None, date(2026, 11, 23))
    again = remind([made], None, date(2026, 11, 23))
    next_day = remind([made], None, date(2026, 11, 24))
    assert ids(first, plan) == ids(again, plan) != ids(next_day, plan)
    overdue = reminder_delivery(remind([made], None, date(2026, 12, 2))[0], plan=plan, at=NOW)
    assert overdue.message.subject == "Overdue: Alarm on the dump"
    assert "2026-11-30, 2 days ago" in overdue.message.text
    done = end_action(made, "done", by="cto", says="", request="d", desk=desk)
    assert remind([done], None, date(2026, 12, 2)) == []


def test_a_reminder_that_was_told_is_not_told_again_the_same_day(
    desk: ActionDesk, plan: Plan
) -> None:
    delivery = reminder_delivery(
        remind([add(desk)], None, date(2026, 12, 24))[0], plan=plan, at=NOW
    )
    keep([delivery], state=desk.state)
    keep([delivery], state=desk.state)
    assert len(undelivered(desk.state)) == 1


def test_nobody_is_woken_and_nothing_goes_to_drills(desk: ActionDesk, plan: Plan) -> None:
    [reminder] = remind([add(desk)], None, date(2026, 12, 24))
    delivery = reminder_delivery(reminder, plan=plan, at=NOW)
    kinds = [way.kind for way in delivery.ways]
    assert kinds
    assert "pagerduty" not in kinds
    assert not delivery.message.drill


def test_reviewers_are_told_once_when_it_is_due_and_each_month_that_it_is_overdue(
    plan: Plan,
) -> None:
    soon = [remind([], due("due soon"), date(2026, 11, day)) for day in (20, 30)]
    assert len({tuple(ids(it, plan)) for it in soon}) == 1
    overdue = [remind([], due("overdue"), date(*day))
               for day in ((2026, 12, 1), (2026, 12, 31), (2027, 1, 1))]  # fmt: skip
    told = [ids(it, plan) for it in overdue]
    assert told[0] == told[1] != told[2]
    assert ids(soon[0], plan) != told[0]
    assert remind([], due("standing"), TODAY) == []


def test_markup_and_line_breaks_in_an_action_are_one_line_of_text(
    desk: ActionDesk, plan: Plan
) -> None:
    made = replace(
        add(desk), what="<b>x</b>\r\nBcc: all@example.org {{ 7*7 }}", due_on="2026-11-22"
    )
    delivery = reminder_delivery(remind([made], None, TODAY)[0], plan=plan, at=NOW)
    assert delivery.message.subject == "Due today: <b>x</b> Bcc: all@example.org {{ 7*7 }}"


def test_who_reviews_a_plan_is_whom_it_names(plan: Plan) -> None:
    data = plan.to_json()
    data["review"]["approvers"] = ["CTO"]
    assert reviewers_of(Plan.from_json(data)) == ("cto",)
    data["review"].pop("approvers")
    assert reviewers_of(Plan.from_json(data)) == ()
    data["roles"]["incident-commander"]["held_by"] = ["vp-engineering"]
    assert reviewers_of(Plan.from_json(data)) == ("vp-engineering",)
    data["document"]["owner"] = "DBA Lead"
    assert reviewers_of(Plan.from_json(data)) == ("dba-lead",)
    assert reviewers_of(load_plan(PLANS / "artist-tech.yaml").plan) == ("devops-lead", "cto")
