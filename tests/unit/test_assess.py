"""What is rebuilt after a disaster, in which order, and what a person can change of it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import BadInput
from chalicelib.ports.infrastructure import Reach, Sighting
from chalicelib.recover.sites.assess import (
    NO_COPY,
    CopyFacts,
    Facts,
    Scope,
    ask_all,
    change_scope,
    decide_scope,
    judge,
)

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
PROVEN = CopyFacts("remote", "p1", NOW - timedelta(hours=2), NOW - timedelta(days=1), "newest")
LOST, HERE = "primary", "secondary"
NAMES = "abcdef"
reaches = st.sampled_from(["serves", "falters", "refuses", "silent", "unasked"])
kinds = st.sampled_from(["postgres", "bucket", "service", "names", "files", "server"])


def seen(*how: Reach) -> tuple[Sighting, ...]:
    return tuple(Sighting("it", reach, f"it {reach}") for reach in how)


def fact(name: str, *how: Reach, kind: str = "postgres", **more: object) -> Facts:
    known: dict[str, object] = {
        "site": LOST,
        "depends_on": (),
        "restored": True,
        "copy": PROVEN,
        "seconds": 60.0,
    }
    return Facts(component=name, kind=kind, sightings=seen(*how), **(known | more))  # type: ignore[arg-type]


def scope(*facts: Facts, **more: object) -> Scope:
    given_: dict[str, object] = {"lost": {LOST}, "site": HERE, "now": NOW}
    return decide_scope(facts, **(given_ | more))  # type: ignore[arg-type]


@st.composite
def worlds(draw: st.DrawFn) -> list[Facts]:
    """Components whose dependencies may even run in a circle."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    return [
        fact(
            name,
            *draw(st.lists(reaches, max_size=3)),
            kind=draw(kinds),
            site=draw(st.sampled_from([LOST, "elsewhere", ""])),
            restored=draw(st.booleans()),
            depends_on=tuple(draw(st.sets(st.sampled_from(names)))),
            copy=draw(st.sampled_from([PROVEN, None])),
            seconds=draw(st.sampled_from([None, 0.0, 60.0])),
        )
        for name in names
    ]


@pytest.mark.parametrize(
    ("how", "verdict"),
    [
        (("serves", "serves"), "serving"),
        (("serves", "falters"), "degraded"),
        (("serves", "silent"), "degraded"),
        (("falters",), "degraded"),
        (("refuses", "silent"), "gone"),
        (("silent",), "unknown"),
        (("unasked",), "unknown"),
        ((), "unknown"),
    ],
)
def test_one_word_for_what_was_seen(how: tuple[Reach, ...], verdict: str) -> None:
    assert judge(seen(*how)) == verdict


def test_what_is_silent_is_rebuilt_as_what_is_gone() -> None:
    decided = scope(fact("a", "silent"), fact("b", "refuses"), fact("c", "serves"))
    assert decided.rebuilt == ("a", "b")
    assert decided.serving == ("c",)


def test_the_degraded_is_rebuilt_where_its_site_is_given_up_alone() -> None:
    decided = scope(fact("a", "falters"), fact("b", "falters", site="elsewhere"))
    assert decided.rebuilt == ("a",)


def test_an_application_is_rebuilt_after_the_database_that_it_depends_on() -> None:
    app = fact("app", "serves", kind="service", depends_on=("db",), seconds=30.0)
    decided = scope(app, fact("dns", kind="names", seconds=5.0), fact("db", "silent"))
    assert decided.rebuilt == ("db", "app", "dns")
    assert decided.worst_seconds == 95.0


def test_side_by_side_the_slowest_counts() -> None:
    decided = scope(fact("a", "silent", seconds=10.0), fact("b", "silent", seconds=70.0))
    assert decided.worst_seconds == 70.0


def test_a_time_that_nobody_knows_makes_the_whole_unknown() -> None:
    decided = scope(fact("a", "silent", seconds=None), fact("b", "silent"))
    assert decided.worst_seconds is None
    assert decided.untimed == ("a",)


def test_what_has_no_usable_copy_is_named() -> None:
    decided = scope(fact("a", "silent", copy=None, copies=("remote: damaged",)), fact("b"))
    assert decided.unrestorable == ("a",)
    assert decided.items[0].warnings == (NO_COPY, "remote: damaged")


def test_an_old_proof_is_a_warning() -> None:
    old = scope(fact("a", "silent"), proof_valid_for=timedelta(hours=1))
    assert "older than the plan allows" in old.items[0].warnings[0]
    assert scope(fact("a", "silent"), proof_valid_for=timedelta(days=2)).items[0].warnings == ()


def test_when_everything_serves_nothing_moves() -> None:
    decided = scope(fact("a", "serves"), fact("dns", kind="names"))
    assert decided.rebuilt == ()
    assert decided.worst_seconds == 0


@given(facts=worlds())
def test_every_component_is_decided_once(facts: list[Facts]) -> None:
    decided = scope(*facts)
    assert [it.component for it in decided.items] == [it.component for it in facts]
    for item in decided.items:
        assert (item.action == "rebuild") == bool(item.stage)
        assert item.why


@given(facts=worlds())
def test_nothing_lost_is_forgotten(facts: list[Facts]) -> None:
    """What the scenario restores and what is gone or silent is rebuilt; names follow."""
    decided = scope(*facts)
    for it in facts:
        lost = judge(it.sightings) in ("gone", "unknown") and it.restored
        if lost and it.kind != "names":
            assert it.component in decided.rebuilt


@given(facts=worlds())
def test_what_depends_on_the_rebuilt_is_rebuilt_and_never_before_it(facts: list[Facts]) -> None:
    decided = scope(*facts)
    stage = {it.component: it.stage for it in decided.items}
    kind = {it.component: it.kind for it in facts}
    for it in facts:
        for other in it.depends_on:
            if not stage[other] or kind[it.component] == "names" or kind[other] == "names":
                continue
            if it.restored:
                assert stage[it.component] >= stage[other]


@given(facts=worlds())
def test_names_move_when_everything_else_stands(facts: list[Facts]) -> None:
    decided = scope(*facts)
    kind = {it.component: it.kind for it in facts}
    named = [it.stage for it in decided.items if it.stage and kind[it.component] == "names"]
    others = [it.stage for it in decided.items if it.stage and kind[it.component] != "names"]
    assert not named or (others and min(named) > max(others))


@given(facts=worlds())
def test_what_serves_and_waits_for_nothing_is_left_alone(facts: list[Facts]) -> None:
    decided = scope(*facts)
    for it in facts:
        alone = not set(it.depends_on) & set(decided.rebuilt)
        if judge(it.sightings) == "serving" and alone and it.kind != "names":
            assert it.component not in decided.rebuilt


@given(facts=worlds())
def test_no_figure_is_better_than_what_is_known(facts: list[Facts]) -> None:
    decided = scope(*facts)
    known = [it.seconds for it in decided.items if it.stage]
    assert (decided.worst_seconds is None) == (None in known)
    if decided.worst_seconds is not None:
        assert decided.worst_seconds >= max((it for it in known if it), default=0)


@pytest.mark.parametrize("answer", ["", "ok", "yes, go on"])
def test_a_person_agrees(answer: str) -> None:
    assert change_scope(["db", "app"], answer, ["db", "app"]) == ("db", "app")


def test_a_person_adds_and_leaves_out() -> None:
    assert change_scope(["db", "app"], "-app +redis", ["db", "app", "redis"]) == ("db", "redis")


def test_a_name_that_nothing_has_is_refused() -> None:
    with pytest.raises(BadInput, match="readis"):
        change_scope(["db"], "+readis", ["db", "redis"])


def test_a_question_that_hangs_holds_nobody_up(capsys: pytest.CaptureFixture[str]) -> None:
    for_ever = threading.Event()
    began = time.monotonic()
    answers = ask_all(
        {
            "good": (lambda: "here", 20.0),
            "hung": (for_ever.wait, 0.2),
            "hung too": (for_ever.wait, 0.3),
        }
    )
    assert time.monotonic() - began < 10
    assert [answers[name].answer for name in ("good", "hung", "hung too")] == ["here", None, None]
    for_ever.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_question_that_breaks_is_no_answer() -> None:
    assert ask_all({"broken": (lambda: 1 / 0, 5.0)})["broken"].answer is None
