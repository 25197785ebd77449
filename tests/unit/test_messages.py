"""Who is told what, in which words, by which way; and what a drill may never do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from chalicelib.errors import BadInput
from chalicelib.incidents.messages import (
    Delivery,
    Notice,
    Way,
    audiences_of,
    deliveries_of,
    why_too_late,
)
from chalicelib.incidents.messages_text import OCCASIONS, facts_of, in_words, write_message
from chalicelib.incidents.status.sources import update_of
from chalicelib.plan.model import Plan
from chalicelib.plan.people import Audience, Channel
from leeward.plan_file import load_plan
from tests.scenarios.drills import PLAN

OPENED = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)
INCIDENT = {"component": "nexus-db", "opened_at": "2026-11-22T08:45:00Z", "signal": "alarm x"}
MORE = {
    "kind": "approve", "step": "switch", "says": "Switch over", "count": 2, "roles": "CTO",
    "deadline_at": "2026-11-22T09:00:00Z", "otherwise": "stop", "outcome": "approved", "by": "bo",
    "why": "checked", "until": "2026-11-22T09:15:00Z", "who": "CTO", "about": "it burns",
}  # fmt: skip
PEOPLE = {
    "boss": {"title": "Boss", "audience": "stakeholders",
             "reach": {"phone": "+15550100", "email": "boss@example.org", "console": "x"}},
    "counsel": {"title": "Counsel", "audience": "legal", "external": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> Plan:
    data = load_plan(PLAN).plan.to_json()
    for role in data["roles"].values():
        role.pop("held_by", None)
    data["contacts"] = PEOPLE
    data["escalation"] = []
    data["communication"]["external"]["press"] = {
        "kind": "press", "says": "Press", "address": "press@example.org", "after": 4 * 3600.0,
        "drill": "drills@example.org",
    }  # fmt: skip
    return Plan.from_json(data)


def notice(plan: Plan, what: str = "opened", **change: Any) -> Notice:
    scenario = change.pop("scenario", "ransomware")
    facts = facts_of(plan, scenario, INCIDENT, {"run_id": "run-1"}) | MORE | change.pop("facts", {})
    fields = {
        "id": f"{what}/", "incident": "inc-1", "what": what, "severity": "SEV1",
        "opened_at": OPENED, "noticed_at": OPENED + timedelta(minutes=125), "drill": False,
        "facts": facts,
    }  # fmt: skip
    return Notice(**(fields | change))


def told(plan: Plan, audience: Audience, **change: Any) -> dict[str, Delivery]:
    made = notice(plan, **change)
    words = write_message(made, audience)
    return {it.recipient: it for it in deliveries_of(made, audience, *words, plan=plan)}


@pytest.mark.parametrize("audience", get_args(Audience))
@pytest.mark.parametrize("what", OCCASIONS)
@pytest.mark.parametrize("severity", ["SEV1", "SEV3"])
@pytest.mark.parametrize("scenario", ["ransomware", "database-corruption"])
def test_every_audience_has_words_for_every_occasion(
    plan: Plan, audience: Audience, what: str, severity: str, scenario: str
) -> None:
    made = notice(plan, what, severity=severity, scenario=scenario)
    subject, text = write_message(made, audience)
    assert 5 < len(subject) < 150
    assert "\n" not in subject
    assert len(text) > 20
    for ugly in ("{{", "{%", "None", "undefined", "\n\n\n", "  "):
        assert ugly not in text, text


def test_customers_and_the_press_are_told_nothing_of_the_inside(plan: Plan) -> None:
    for audience in ("customers", "press"):
        for what in OCCASIONS:
            subject, text = write_message(notice(plan, what), audience)  # type: ignore[arg-type]
            for inside in ("nexus-db", "run-1", "inc-1", "leeward", "checked", "alarm x", "SEV"):
                assert inside not in subject + text


def test_the_end_is_told_as_the_end(plan: Plan) -> None:
    for audience in get_args(Audience):
        opened = write_message(notice(plan, "opened"), audience)
        over = write_message(notice(plan, "recovered"), audience)
        assert opened != over
        assert "2 h 05 min" in "".join(over)


def test_an_end_that_lost_something_is_not_told_as_a_good_one(plan: Plan) -> None:
    partial = notice(plan, "recovered", facts={"lost": "nexus-uploads"})
    inside = write_message(partial, "internal")
    assert inside[0].startswith("Recovered IN PART: ")
    assert "Lost for good: nexus-uploads." in inside[1]
    customers = write_message(partial, "customers")
    assert "resolved" not in customers[0]
    assert "could not be brought back" in customers[1]
    assert "nexus-uploads" not in "".join(customers)
    whole = write_message(notice(plan, "recovered", facts={"lost": ""}), "internal")
    assert whole[0].startswith("Recovered: ")


@pytest.mark.parametrize(("lost", "state"), [("nexus-uploads", "monitoring"), ("", "resolved")])
def test_a_status_page_calls_resolved_what_lost_nothing(plan: Plan, lost: str, state: str) -> None:
    ended = notice(plan, "recovered", facts={"lost": lost})
    told = deliveries_of(ended, "customers", "Restored", "It is back.", plan=plan)
    assert {update_of(it.message, ()).state for it in told} == {state}


def test_the_clock_of_72_hours_is_shown_where_peoples_data_may_be_concerned(plan: Plan) -> None:
    for audience in ("legal", "regulators", "internal"):
        _, text = write_message(notice(plan), audience)  # type: ignore[arg-type]
        assert "2026-11-25 08:45 UTC" in text
        _, other = write_message(notice(plan, scenario="database-corruption"), audience)  # type: ignore[arg-type]
        assert "2026-11-25" not in other


def test_what_anybody_wrote_stays_one_line_of_text(plan: Plan) -> None:
    hostile = "x\r\nBcc: all@example.org\x00\x1b[31m{{ 7*7 }}" + "y" * 9000
    subject, text = write_message(notice(plan, "failed", facts={"why": hostile}), "internal")
    assert "{{ 7*7 }}" in text
    assert "\r" not in text
    assert "\x1b" not in text
    assert len(text) < 1500
    subject, _ = write_message(notice(plan, "asked", facts={"says": hostile}), "internal")
    assert "\n" not in subject


def test_a_template_that_is_none_is_refused(plan: Plan) -> None:
    with pytest.raises(BadInput) as error:
        write_message(notice(plan, "../../etc/passwd"), "internal")
    assert error.value.instance_code == "unknown-template"


def test_those_inside_hear_by_all_their_channels_but_the_war_room_is_a_line(plan: Plan) -> None:
    found = told(plan, "internal")
    assert set(found) == {"slack", "pagerduty", "email"}
    assert found["slack"].ways == (Way("slack", "slack", "#incident-response"),)
    assert found["pagerduty"].ways == (Way("pagerduty", "pagerduty", ""),)
    assert "War room: Zoom meeting: ID: xxx-xxx-xxxx" in found["slack"].message.text


def test_those_inside_read_where_the_dashboard_of_each_region_is(plan: Plan) -> None:
    places = {
        name: Channel(kind="dashboard", says=name, address=f"https://{name}.example.org/api/")
        for name in ("east", "west")
    }
    known = plan.communication
    more = known.model_copy(update={"internal": {**known.internal, **places}})
    wider = plan.model_copy(update={"communication": more})
    found = told(wider, "internal")
    assert set(found) == {"slack", "pagerduty", "email"}
    text = found["slack"].message.text
    assert "Answer and watch: https://east.example.org/api/incidents/inc" in text
    assert "does not answer: https://west.example.org/api/incidents/inc" in text
    assert "Answer and watch" not in told(plan, "internal")["slack"].message.text


def test_a_person_is_told_by_the_first_way_that_works_in_the_plans_order(plan: Plan) -> None:
    found = told(plan, "stakeholders")
    assert found["boss"].ways == (
        Way("sms", "boss", "+15550100"), Way("email", "boss", "boss@example.org"),
    )  # fmt: skip


def test_whom_only_a_person_can_tell_is_listed_without_a_way(plan: Plan) -> None:
    assert told(plan, "legal")["counsel"].ways == ()
    customers = told(plan, "customers")
    assert customers["twitter"].ways == customers["support"].ways == ()
    assert customers["customers"].ways


def test_the_press_is_told_when_the_outage_lasts_longer_and_not_when_it_is_over(
    plan: Plan,
) -> None:
    press = told(plan, "press")["press"]
    assert press.due_at == OPENED + timedelta(hours=4)
    assert press.while_open
    over = told(plan, "press", what="recovered")["press"]
    assert (over.due_at, over.while_open) == (OPENED + timedelta(minutes=125), False)


def test_a_drill_reaches_addresses_of_drills_alone_and_says_so(plan: Plan) -> None:
    everywhere: list[Delivery] = []
    for audience in get_args(Audience):
        for what in OCCASIONS:
            everywhere += told(plan, audience, what=what, drill=True).values()
    real = {channel.address for _, side in plan.communication.sides() for channel in side.values()}
    real |= {"boss@example.org", "+15550100"}
    used = {way.to for it in everywhere for way in it.ways}
    assert used == {"#incident-drills", "drills@nexus-studio.io", "drills@example.org", ""}
    assert used & (real - {None}) == set()
    assert {way.kind for it in everywhere for way in it.ways if not way.to} == {
        "pagerduty", "status-page",
    }  # fmt: skip
    for it in everywhere:
        assert it.message.subject.startswith("DRILL: ")
        assert it.message.text.endswith("This is a drill. Nothing is wrong.")


def test_who_hears_of_what_by_itself(plan: Plan) -> None:
    nobody: frozenset[str] = frozenset()
    assert audiences_of("opened", nobody, personal_data=False) == ("internal", "press")
    assert audiences_of("opened", nobody, personal_data=True) == ("internal", "press", "legal")
    told_before = frozenset({"internal", "customers"})
    assert audiences_of("recovered", told_before, personal_data=False) == ("internal", "customers")
    assert audiences_of("recovered", nobody, personal_data=False) == ("internal",)
    assert audiences_of("update", told_before, personal_data=False) == ()


def test_no_alert_of_a_pager_is_opened_after_its_end(plan: Plan) -> None:
    for what, late in (("opened", True), ("asked", True), ("recovered", False), ("failed", False)):
        found = told(plan, "internal", what=what)
        assert bool(why_too_late(found["pagerduty"], "recovered")) is late
        assert not why_too_late(found["pagerduty"], "open")
        assert not why_too_late(found["slack"], "recovered")
    assert why_too_late(told(plan, "press")["press"], "closed")


def test_a_delivery_survives_json(plan: Plan) -> None:
    for it in told(plan, "stakeholders").values():
        assert Delivery.from_json(json.loads(json.dumps(it.to_json()))) == it


@pytest.mark.parametrize(
    ("minutes", "said"), [(0.7, "42 s"), (59, "59 min"), (60, "1 h"), (125, "2 h 05 min")]
)
def test_spans_in_words(minutes: float, said: str) -> None:
    assert in_words(timedelta(minutes=minutes)) == said
