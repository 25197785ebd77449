"""Whether one may go back after a failover, and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.errors import BadInput, LeewardError, Refused
from chalicelib.plan.model import Plan
from chalicelib.recover.sites.failback import (
    Standing,
    Window,
    choose_window,
    decide_failback,
    parse_window,
)
from chalicelib.scenarios.compile import compile_scenario
from chalicelib.verify.quorum import Sign
from leeward.commands.failback import find_failback
from leeward.plan_file import load_plan
from tests.scenarios.drills import PLAN

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
HALF_AN_HOUR = timedelta(minutes=30)
SOUND = Standing(
    requested_by="ada",
    reason="sound since Friday",
    names_at="dr",
    home="primary",
    failed_over_at=NOW - timedelta(hours=5),
    problems=(),
)


def refused(standing: Standing, *, drill: bool = False) -> str:
    with pytest.raises(Refused) as error:
        decide_failback(standing, stays_for=HALF_AN_HOUR, drill=drill, now=NOW)
    assert error.value.hint
    return error.value.instance_code


def test_a_person_goes_back_to_what_is_sound() -> None:
    verdict = decide_failback(SOUND, stays_for=HALF_AN_HOUR, drill=False, now=NOW)
    assert verdict.why == "ada says: sound since Friday"


def test_nobody_goes_back_by_a_signal() -> None:
    assert refused(replace(SOUND, requested_by="")) == "failback-needs-a-person"
    assert refused(replace(SOUND, reason="")) == "failback-needs-a-person"
    assert refused(replace(SOUND, requested_by=""), drill=True) == "failback-needs-a-person"


def test_nobody_goes_back_to_what_still_fails() -> None:
    failing = replace(SOUND, problems=("nexus-db: server-unreachable",))
    assert refused(failing) == "primary-still-failing"
    assert refused(failing, drill=True) == "primary-still-failing"
    assert refused(replace(failing, reason="early: I know")) == "primary-still-failing"


def test_home_that_failed_a_moment_ago_is_not_sound_yet() -> None:
    """Healthy, unhealthy, healthy: it answers now, and did not at the last look but one."""
    seen = Sign("probe", NOW - timedelta(minutes=29), True, "nexus-api: HTTP 503")
    flapping = replace(SOUND, failing=seen)
    assert refused(flapping) == "primary-failed-lately"
    decide = {"stays_for": HALF_AN_HOUR, "now": NOW}
    steady = replace(SOUND, failing=replace(seen, observed_at=NOW - HALF_AN_HOUR))
    assert decide_failback(steady, drill=False, **decide)
    assert decide_failback(replace(flapping, reason="early: mended"), drill=False, **decide)
    assert decide_failback(flapping, drill=True, **decide)


def test_who_answers_late_may_name_another_window() -> None:
    tonight = "2026-11-28T22:00Z/2026-11-28T23:00Z"
    over = "2026-11-28T10:00Z/2026-11-28T11:00Z"
    assert choose_window(over, tonight, now=NOW) == parse_window(tonight, now=NOW)
    assert choose_window(tonight, "done", now=NOW) == parse_window(tonight, now=NOW)
    for answer in ("done", "yes", "", over):
        with pytest.raises(Refused) as error:
            choose_window(over, answer, now=NOW)
        assert error.value.instance_code == "window-over"
    with pytest.raises(BadInput):
        choose_window(tonight, "tonight/tomorrow", now=NOW)


def test_what_flaps_is_damped_unless_a_person_says_so() -> None:
    lately = replace(SOUND, failed_over_at=NOW - timedelta(minutes=29, seconds=59))
    assert refused(lately) == "failed-over-lately"
    decide_failback(
        replace(lately, failed_over_at=NOW - HALF_AN_HOUR),
        stays_for=HALF_AN_HOUR, drill=False, now=NOW,
    )  # fmt: skip
    early = replace(lately, reason="early: the other site fails too")
    decide_failback(early, stays_for=HALF_AN_HOUR, drill=False, now=NOW)


def test_there_must_be_something_to_go_back_from() -> None:
    assert refused(replace(SOUND, names_at="primary")) == "already-home"
    half = replace(SOUND, names_at="")
    decide_failback(half, stays_for=HALF_AN_HOUR, drill=False, now=NOW)


def test_a_drill_needs_no_failover() -> None:
    home = replace(SOUND, names_at="primary", failed_over_at=None)
    decide_failback(home, stays_for=HALF_AN_HOUR, drill=True, now=NOW)


def test_a_window_is_two_times_or_now() -> None:
    found = parse_window("2026-11-29T02:00Z/2026-11-29T04:00Z", now=NOW)
    begins_at = datetime(2026, 11, 29, 2, tzinfo=UTC)
    assert found == Window(begins_at, begins_at + timedelta(hours=2))
    assert parse_window("now", now=NOW).begins_at == NOW
    assert parse_window("", now=NOW).begins_at == NOW
    open_already = parse_window("2026-11-28T11:00Z/2026-11-28T13:00Z", now=NOW)
    assert open_already.begins_at < NOW


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ("tonight", BadInput, "bad-window"),
        ("2026-11-29T02:00Z", BadInput, "bad-window"),
        ("2026-11-29T02:00/2026-11-29T04:00", BadInput, "bad-window"),
        ("2026-11-29T04:00Z/2026-11-29T02:00Z", BadInput, "bad-window"),
        ("2026-12-29T02:00Z/2026-12-29T04:00Z", BadInput, "bad-window"),
        ("2026-11-28T02:00Z/2026-11-28T12:00Z", Refused, "window-over"),
    ],
)
def test_any_other_window_is_refused(text: str, kind: type[LeewardError], code: str) -> None:
    with pytest.raises(kind) as error:
        parse_window(text, now=NOW)
    assert error.value.instance_code == code
    assert error.value.hint


def test_the_machine_waits_for_the_window_and_looks_again() -> None:
    plan = load_plan(PLAN).plan
    name = find_failback(plan)
    machine = compile_scenario(name, plan.scenarios[name])
    states = machine["States"]
    wait = states[states["Window"]["Next"]]
    assert wait["Type"] == "Wait"
    assert wait["TimestampPath"] == "$.steps.window.outputs.begins_at"
    assert states[wait["Next"]]["Type"] == "Task"
    assert machine["TimeoutSeconds"] > timedelta(days=14).total_seconds()
    others = {name: it for name, it in plan.scenarios.items() if not it.returns_to}
    for other, scenario in others.items():
        assert compile_scenario(other, scenario)["TimeoutSeconds"] < 14 * 86400


def test_it_runs_in_the_standby_and_no_signal_starts_it() -> None:
    plan = load_plan(PLAN).plan
    scenario = plan.scenarios[find_failback(plan)]
    assert plan.runs_in_standby(find_failback(plan))
    assert scenario.recovers_at(plan.sites) == ""
    assert not scenario.alarms
    assert scenario.trigger is None


def test_one_that_was_refused_is_not_in_the_way_of_a_failover() -> None:
    plan = load_plan(PLAN).plan
    about = {name: it.subject(name) for name, it in plan.scenarios.items()}
    failback = about.pop(find_failback(plan))
    assert failback not in about.values()


def test_it_looks_once_more_right_before_the_application_stops() -> None:
    plan = load_plan(PLAN).plan
    steps = [it.name for it in plan.scenarios[find_failback(plan)].all_steps()]
    assert steps[steps.index("stop-dr") - 1] == "look-again"
    after = steps[steps.index("stop-dr") :]
    people = {it.name for it in plan.scenarios[find_failback(plan)].all_steps() if it.by}
    assert not people & set(after)


def test_a_plan_without_a_way_back_says_so() -> None:
    data = load_plan(PLAN).plan.to_json()
    del data["scenarios"]["failback"]
    data["testing"] = []
    with pytest.raises(BadInput) as error:
        find_failback(Plan.from_json(data))
    assert error.value.instance_code == "no-failback"
