"""The plan as a value: it survives JSON, keeps its promises apart, and adds up its times."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import PlanError
from chalicelib.plan.components import Assertion, Backup, DamageKind
from chalicelib.plan.load import read_plan_json
from chalicelib.plan.model import Plan
from chalicelib.plan.people import Role
from chalicelib.plan.scenario import Approval, Estimate, Scenario, Step, Together
from leeward.plan_file import load_plan

PLANS = Path(__file__).parents[2] / "policies/plans"


@pytest.fixture(params=["nexus-studio", "artist-tech"])
def plan(request: pytest.FixtureRequest) -> Plan:
    return load_plan(PLANS / f"{request.param}.yaml").plan


def test_a_plan_survives_json(plan: Plan) -> None:
    text = json.dumps(plan.to_json())

    assert Plan.from_json(json.loads(text)) == plan
    assert Plan.from_json(json.loads(text)).plan_sha256 == plan.plan_sha256


def test_compiled_plan_is_read_from_its_file(plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan.to_json()))

    assert read_plan_json(file) == plan


@pytest.mark.parametrize("text", [None, "", "{}", "[", '{"name": 3}'])
def test_what_is_no_compiled_plan_is_refused(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    if text is not None:
        file.write_text(text)

    with pytest.raises(PlanError) as caught:
        read_plan_json(file)

    assert "leeward compile" in caught.value.hint


def test_another_content_has_another_digest(plan: Plan) -> None:
    other = plan.model_copy(update={"organisation": "Somebody else"})

    assert other.plan_sha256 != plan.plan_sha256


def test_json_holds_seconds_bytes_and_fractions() -> None:
    plan = load_plan(PLANS / "nexus-studio.yaml").plan.to_json()

    assert plan["objectives"] == {"rto": 14400, "rpo": 3600, "uptime": 0.999}
    assert plan["components"]["nexus-db"]["size"] == 40 * 10**9


def test_the_strictest_promise_of_what_is_restored_counts() -> None:
    plan = load_plan(PLANS / "artist-tech.yaml").plan
    hours = {name: plan.rto_of_scenario(name) for name in plan.scenarios}

    assert hours["database-corruption"] == timedelta(hours=4)
    assert hours["server-failure"] == timedelta(hours=8)
    assert hours["data-center-disaster"] == timedelta(hours=24)
    assert plan.rpo_of("artist-db") == timedelta(hours=1)
    assert plan.rpo_of("user-files") == timedelta(hours=24)


def test_a_scenario_without_a_class_is_held_to_the_strictest_of_its_components() -> None:
    plan = load_plan(PLANS / "artist-tech.yaml").plan
    scenario = plan.scenarios["infrastructure-failure"].model_copy(update={"system": None})
    changed = plan.model_copy(update={"scenarios": {"all": scenario}})

    assert changed.rto_of_scenario("all") == timedelta(hours=4)


def step(name: str, minutes: int | None, approve_minutes: int = 0) -> Step:
    approve = (
        Approval(by=("boss",), within=timedelta(minutes=approve_minutes))
        if approve_minutes
        else None
    )
    takes = None if minutes is None else timedelta(minutes=minutes)
    return Step(name=name, says=name, by="boss", takes=takes, approve=approve)


def test_longest_path_waits_for_the_slowest_branch_and_for_approvals() -> None:
    branches = ((step("a", 5), step("b", 5)), (step("c", 7, approve_minutes=15),))
    scenario = Scenario(title="t", steps=(step("first", 1), Together(parallel=branches)))

    assert scenario.longest_path() == timedelta(minutes=23)


def test_a_step_of_unknown_length_makes_the_path_unknown() -> None:
    branches = ((step("a", 5),), (step("b", None),))

    assert Scenario(title="t", steps=(Together(parallel=branches),)).longest_path() is None


def test_what_a_scenario_restores_is_what_it_names_and_what_its_steps_act_on() -> None:
    acting = Step.model_validate(
        {"name": "x", "says": "x", "uses": "cache.flush", "with": {"component": "cache"}}
    )
    scenario = Scenario(title="t", component="db", restores=("files",), steps=(acting,))

    assert scenario.restored_components() == {"db", "files", "cache"}


@pytest.mark.parametrize(
    ("expect", "value", "holds"),
    [
        ("> 0", 1, True),
        ("> 0", 0, False),
        (">= 10", 10, True),
        ("== 3", 3, True),
        ("!= 0", 0, False),
        ("< -1.5", -2, True),
        ("100..200", 200, True),
        ("100..200", 201, False),
        ("-5..5", -5, True),
    ],
)
def test_assertion_judges_a_value(expect: str, value: float, holds: bool) -> None:
    assert Assertion(name="n", sql="SELECT 1", expect=expect).holds(value) is holds


@pytest.mark.parametrize("expect", ["", "many", "> x", "=> 3", "1..", "> 1; DROP"])
def test_assertion_without_a_clear_expectation_is_refused(expect: str) -> None:
    with pytest.raises(ValueError, match="comparison"):
        Assertion(name="n", sql="SELECT 1", expect=expect)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("30-60 minutes", 30, 60),
        ("2 - 4 hours", 120, 240),
        ("45 minutes", 45, 45),
        ("30m-2h", 30, 120),
    ],
)
def test_estimate_in_words(text: str, low: int, high: int) -> None:
    estimate = Estimate.model_validate(text)

    assert (estimate.at_least, estimate.at_most) == (
        timedelta(minutes=low),
        timedelta(minutes=high),
    )


@pytest.mark.parametrize("text", ["", "soon", "60-30 minutes", "-5 minutes", "5-"])
def test_estimate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Estimate.model_validate(text)


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Role(title="r").title = "s"  # type: ignore[misc]


def test_only_continuous_backups_need_no_schedule() -> None:
    assert Backup(kind="replication").when is None
    with pytest.raises(ValueError, match="schedule"):
        Backup(kind="full")


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)
DURATIONS = st.builds("{}{}".format, st.integers(1, 500), st.sampled_from("smhd"))
SIZES = st.builds("{} {}".format, st.integers(1, 999), st.sampled_from(["MB", "GiB", "TB"]))
SCHEDULES = st.sampled_from(
    ["daily at 02:00", "every 6 hours", "hourly", "weekly on monday at 03:00 Europe/Berlin"]
)


def optional(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=parts)


BACKUPS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["full", "incremental", "wal", "dump", "sync"]), "when": SCHEDULES},
    optional={"says": TEXTS, "takes": DURATIONS, "copied_within": DURATIONS},
)
COMPONENT_PARTS = {
    "says": TEXTS,
    "size": SIZES,
    "backups": st.lists(BACKUPS, max_size=3),
    "retention": optional(all=DURATIONS, daily=st.integers(0, 30), logs=DURATIONS),
}
EXPECTED = st.fixed_dictionaries(
    {
        "tables": st.lists(TEXTS, min_size=1, max_size=2),
        "kinds": st.lists(st.sampled_from(get_args(DamageKind)), min_size=1, max_size=2),
    }
)
POSTGRES = st.fixed_dictionaries(
    {
        "kind": st.just("postgres"),
        "database": TEXTS,
        "operator_secret": TEXTS,
        "application_secret": TEXTS,
        "application_role": TEXTS,
    },
    optional=COMPONENT_PARTS
    | {
        "damage": optional(
            rows=st.integers(1, 10**6),
            times_usual=st.floats(1, 1e6),
            expected=st.lists(EXPECTED, max_size=2),
        )
    },
)
FILES = st.fixed_dictionaries({"kind": st.just("files")}, optional=COMPONENT_PARTS)
STEPS = st.fixed_dictionaries(
    {"name": NAMES, "says": TEXTS, "by": NAMES},
    optional={
        "with": st.dictionaries(NAMES, st.one_of(TEXTS, st.integers(), st.booleans()), max_size=2),
        "takes": DURATIONS,
        "approve": st.fixed_dictionaries({"by": st.lists(NAMES, min_size=1), "within": DURATIONS}),
        "commands": TEXTS,
    },
)
ENTRIES = st.one_of(
    STEPS,
    st.fixed_dictionaries(
        {"parallel": st.lists(st.lists(STEPS, min_size=1, max_size=2), min_size=2, max_size=3)}
    ),
)
SCENARIOS = st.fixed_dictionaries(
    {"title": TEXTS, "steps": st.lists(ENTRIES, min_size=1, max_size=3)},
    optional={"detection": st.lists(TEXTS, max_size=2), "detected_within": DURATIONS},
)
PLAN_DATA = st.fixed_dictionaries(
    {
        "name": NAMES,
        "organisation": TEXTS,
        "document": st.fixed_dictionaries({"title": TEXTS}),
        "objectives": optional(
            rto=DURATIONS, rpo=DURATIONS, uptime=st.sampled_from(["99.9%", "0%"])
        ),
        "sites": st.just({}),
        "locations": st.just({}),
        "components": st.dictionaries(NAMES, st.one_of(POSTGRES, FILES), min_size=1, max_size=3),
        "scenarios": st.dictionaries(NAMES, SCENARIOS, min_size=1, max_size=2),
    },
    optional={
        "thresholds": st.lists(
            st.fixed_dictionaries(
                {"metric": TEXTS, "level": st.just("warning")},
                optional={"above": st.sampled_from(["5 min", "80%", "10 GB", "3"])},
            ),
            max_size=2,
        )
    },
)


@settings(deadline=None, max_examples=60)
@given(PLAN_DATA)
def test_any_plan_survives_json(data: dict[str, Any]) -> None:
    plan = Plan.model_validate_json(json.dumps(data), context={"written": True})

    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))

    assert again == plan
    assert again.plan_sha256 == plan.plan_sha256
