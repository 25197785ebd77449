"""Answers to questions: who may, what they do, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.errors import BadInput, LeewardError
from chalicelib.incidents.answer import Taken, take_answer
from chalicelib.incidents.approval import Answer, read_answer
from chalicelib.incidents.question import put_question
from tests.fakes_people import Office

RUN = "run-1"


@pytest.fixture
def office() -> Office:
    made = Office()
    made.start_run(RUN, requested_by="ada")
    return made


def ask(office: Office, token: str = "t1", step: str = "switch", **more: Any) -> None:
    put_question(office.question(RUN, step, token, **more), desk=office.desk)


def say(
    office: Office,
    by: str,
    decision: Any = "approve",
    *,
    step: str = "switch",
    code: str = "",
    key: str = "",
    reason: str = "",
) -> Taken:
    answer = Answer(RUN, step, decision, by, reason, key or f"{by}-{decision}")
    return take_answer(answer, code or office.next_code(by), desk=office.desk)


def refused(office: Office, by: str, decision: str = "approve", **more: Any) -> str:
    with pytest.raises(LeewardError) as error:
        say(office, by, decision, **more)
    assert error.value.hint
    return error.value.instance_code


def test_two_people_approve_and_the_run_goes_on(office: Office) -> None:
    ask(office)
    assert say(office, "bo", reason="checked").outcome == "waiting"
    assert office.tokens.ended == {}
    taken = say(office, "cy")
    assert (taken.outcome, taken.told) == ("approved", True)
    how, output = office.tokens.ended["t1"]
    assert how == "succeeded"
    assert output == {"found": "approved by bo, cy: checked", "answer": "approved", "by": "bo, cy"}
    assert office.kinds() == ["asked", "answered", "answered", "decided", "answer-told"]


def test_one_persons_two_answers_are_not_two_people(office: Office) -> None:
    ask(office)
    say(office, "bo")
    assert refused(office, "bo", key="another") == "voted-already"
    assert office.tokens.ended == {}


def test_who_asked_for_the_run_is_none_of_the_two(office: Office) -> None:
    ask(office)
    assert refused(office, "ada") == "own-request"
    ask(office, "t2", "alone", count=1)
    assert say(office, "ada", step="alone").outcome == "approved"


def test_who_asked_for_the_run_may_decline_it(office: Office) -> None:
    ask(office)
    assert say(office, "ada", "decline", reason="a false alarm").outcome == "declined"


def test_one_who_declines_ends_it(office: Office) -> None:
    ask(office)
    say(office, "bo")
    assert say(office, "cy", "decline", reason="wait for the backup").outcome == "declined"
    assert office.tokens.ended["t1"] == (
        "failed",
        ("Declined", "switch was declined by cy: wait for the backup"),
    )
    assert refused(office, "ada", "decline") == "already-answered"


@pytest.mark.parametrize("person", ["dee", "eve"])
def test_a_role_that_was_not_asked_may_not_approve(office: Office, person: str) -> None:
    ask(office)
    assert refused(office, person) == "not-entitled"


def test_a_role_that_may_not_approve_may_not(office: Office) -> None:
    ask(office, roles=["engineer"], count=1)
    assert refused(office, "dee") == "not-entitled"


def test_a_persons_step_is_done_by_the_role_that_it_names(office: Office) -> None:
    ask(office, kind="do")
    assert refused(office, "eve", "done") == "not-entitled"
    assert refused(office, "dee", "approve") == "not-that-question"
    taken = say(office, "dee", "done", reason="moved")
    assert taken.outcome == "done"
    assert office.tokens.ended["t1"][1] == {
        "found": "done by dee: moved",
        "answer": "done",
        "by": "dee",
    }


def test_an_approval_is_not_got_by_saying_done(office: Office) -> None:
    ask(office)
    assert refused(office, "bo", "done") == "not-that-question"


def test_a_covering_role_may_answer_after_half_of_the_time(office: Office) -> None:
    ask(office, kind="do")
    assert refused(office, "cy", "done") == "not-entitled"
    office.clock.sleep(450)
    assert say(office, "cy", "done").outcome == "done"


def test_a_late_answer_is_refused(office: Office) -> None:
    ask(office)
    say(office, "bo")
    office.clock.sleep(900)
    office.tokens.time_out("t1")
    assert refused(office, "cy") == "too-late"
    assert office.tokens.ended == {}


def test_nothing_is_answered_after_the_run(office: Office) -> None:
    ask(office)
    say(office, "bo")
    run = office.state.get(f"run#{RUN}", "run") or {}
    office.state.replace(f"run#{RUN}", "run", run | {"status": "failed"}, expected={})
    before = len(office.records.read("inc-1"))
    assert refused(office, "cy") == "run-over"
    assert len(office.records.read("inc-1")) == before  # the evidence was sealed
    [late] = office.records.read("people-inc-1")
    assert late.body["code"] == "run-over"


def test_what_was_never_asked_cannot_be_answered(office: Office) -> None:
    assert refused(office, "bo") == "not-asked"
    with pytest.raises(BadInput) as error:
        take_answer(Answer("run-9", "switch", "approve", "bo", "", "k"), "1", desk=office.desk)
    assert error.value.instance_code == "unknown-run"


def test_strangers_are_refused_and_recorded_once(office: Office) -> None:
    ask(office)
    for name in ("mallory", "trudy", "<script>"):
        assert refused(office, name, code="123456") == "unknown-person"
    refusals = [it for it in office.records.read("inc-1") if it.kind == "answer-refused"]
    assert [it.body["by"] for it in refusals] == ["somebody unknown"]


def test_a_wrong_code_changes_nothing_and_stands_in_the_evidence(office: Office) -> None:
    ask(office)
    for number in range(4):
        assert refused(office, "bo", code="000000", key=str(number)) == "wrong-code"
    refusals = [it for it in office.records.read("inc-1") if it.kind == "answer-refused"]
    assert [(it.actor, it.body["code"]) for it in refusals] == [("bo", "wrong-code")]
    assert say(office, "bo").found == "1 of 2 have answered"


def test_a_code_of_one_step_is_no_answer_to_another(office: Office) -> None:
    ask(office)
    ask(office, "t2", "other")
    code = office.next_code("bo")
    say(office, "bo", code=code)
    assert refused(office, "bo", step="other", code=code) == "code-used"


def test_the_same_answer_again_is_harmless(office: Office) -> None:
    ask(office)
    code = office.next_code("bo")
    first = say(office, "bo", code=code, key="k")
    assert say(office, "bo", code=code, key="k") == first
    say(office, "cy", key="k2")
    assert say(office, "cy", key="k2").outcome == "approved"
    assert office.kinds().count("answered") == 2
    assert office.kinds().count("decided") == 1


class Overtaken:
    """State whose call number `at` comes after somebody else did `first`."""

    def __init__(self, inner: Any, at: int, first: Callable[[], Any]) -> None:
        self._inner, self._left, self._first = inner, at, first

    def __getattr__(self, name: str) -> Any:
        if self._left == 0:
            self._first()
        self._left -= 1
        return getattr(self._inner, name)


@pytest.mark.parametrize("at", range(14))
def test_a_button_pressed_twice_is_one_answer_however_the_two_meet(office: Office, at: int) -> None:
    ask(office)
    say(office, "bo")
    code = office.next_code("cy")
    answer = Answer(RUN, "switch", "approve", "cy", "", "pressed")
    state = Overtaken(office.state, at, lambda: take_answer(answer, code, desk=office.desk))
    factors = replace(office.desk.factors, state=state)
    second = replace(office.desk, state=state, factors=factors)
    assert take_answer(answer, code, desk=second).outcome == "approved"
    assert office.kinds().count("answered") == 2
    assert office.kinds().count("decided") == 1
    assert "answer-refused" not in office.kinds()


def test_a_state_that_is_tried_again_hears_what_was_answered(office: Office) -> None:
    ask(office)
    say(office, "bo")
    say(office, "cy")
    ask(office, "t2")
    assert office.tokens.ended["t2"][0] == "succeeded"


def test_the_new_token_of_a_state_takes_the_place_of_the_old(office: Office) -> None:
    ask(office)
    say(office, "bo")
    office.tokens.time_out("t1")
    ask(office, "t2")
    assert say(office, "cy").told is True
    assert set(office.tokens.ended) == {"t2"}


def test_an_answer_to_a_run_that_waits_no_more_says_so(office: Office) -> None:
    ask(office)
    say(office, "bo")
    office.tokens.time_out("t1")
    taken = say(office, "cy")
    assert taken.told is False
    assert "waited no more" in taken.found
    told = [it.body for it in office.records.read("inc-1") if it.kind == "answer-told"]
    assert told == [{"kind": "approve", "outcome": "approved", "accepted": False}]


def test_a_step_that_was_approved_may_then_be_a_persons_to_do(office: Office) -> None:
    ask(office, count=1)
    say(office, "bo")
    office.clock.sleep(1)
    ask(office, "t2", kind="do")
    assert say(office, "dee", "done").outcome == "done"


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": ""},
        {"step": None},
        {"by": "  "},
        {"key": ""},
        {"decision": "yes"},
        {"decision": ["approve"]},
        {"reason": "x" * 2001},
        {"by": "x" * 5000},
    ],
)
def test_an_answer_that_is_none_is_refused(change: dict[str, Any]) -> None:
    good = {"run_id": "r", "step": "s", "decision": "approve", "by": "ada", "key": "k"}
    assert read_answer(good).decision == "approve"
    with pytest.raises(BadInput) as error:
        read_answer(good | change)
    assert error.value.instance_code == "bad-answer"


def test_no_token_and_no_code_stands_in_the_evidence(office: Office) -> None:
    ask(office, "SECRET-TOKEN")
    code = office.next_code("bo")
    say(office, "bo", code=code)
    say(office, "cy")
    said = "".join(str(it.to_json()["body"]) for it in office.records.read("inc-1"))
    assert "SECRET-TOKEN" not in said
    assert f"'{code}'" not in said
