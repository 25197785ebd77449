"""No sequence of requests, retries, late answers, deaths and restarts gets a step approved without
its quorum; and none loses an answer that was enough."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chalicelib.errors import LeewardError
from chalicelib.incidents.answer import find_question, read_run, settle, take_answer
from chalicelib.incidents.approval import Answer
from chalicelib.incidents.question import put_question
from tests.fakes_people import PEOPLE, Office
from tests.fakes_state import InMemoryState

RUN, STEPS = "run-1", ("switch", "wipe")
# Most workers live.
DEATHS = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5, 6])
# Most of those who answer are the ones who may.
WHO = st.sampled_from(["ada", "ada", "bo", "bo", "bo", "cy", "cy", "cy", *PEOPLE])


class Died(Exception):
    """The worker was killed here: nothing catches it."""


class MortalState(InMemoryState):
    """Its worker dies at write number `dies_at` from now on: before it is done, or after."""

    def __init__(self) -> None:
        super().__init__()
        self.dies_at, self.done_first = 0, False

    def create(self, *args: Any) -> bool:
        return self._mortal(lambda: InMemoryState.create(self, *args))

    def replace(self, *args: Any, **expected: Any) -> bool:
        return self._mortal(lambda: InMemoryState.replace(self, *args, **expected))

    def remove(self, *args: Any, **expected: Any) -> bool:
        return self._mortal(lambda: InMemoryState.remove(self, *args, **expected))

    def _mortal(self, write: Any) -> bool:
        self.dies_at -= 1
        if self.dies_at == 0 and not self.done_first:
            raise Died
        done: bool = write()
        if self.dies_at == 0:
            raise Died
        return done


class Approvals(RuleBasedStateMachine):
    """A run with two approvals, of two people each: ada asked for the run, so bo and cy must."""

    def __init__(self) -> None:
        super().__init__()
        self.state = MortalState()
        self.office = Office(self.state)
        self.office.start_run(RUN, requested_by="ada")
        self.tokens: dict[str, list[str]] = {step: [] for step in STEPS}
        # What really happened: (step, person) -> said with a good code, in time, for this step.
        self.agreed: set[tuple[str, str]] = set()
        self.deadline: dict[str, float] = {}
        for step in STEPS:
            self._wait(step, 0, False)
        self.last: tuple[Answer, str] | None = None
        self.used_codes: list[tuple[str, str]] = []
        self.answers = 0

    @rule(step=st.sampled_from(STEPS), dies_at=DEATHS, done_first=st.booleans())
    def the_state_waits(self, step: str, dies_at: int, done_first: bool) -> None:
        """It is tried again after its function died: with a new token."""
        self._wait(step, dies_at, done_first)

    def _wait(self, step: str, dies_at: int, done_first: bool) -> None:
        token = f"{step}-{len(self.tokens[step])}"
        for old in self.tokens[step]:
            self.office.tokens.time_out(old)
        self.tokens[step].append(token)
        event = self.office.question(RUN, step, token)
        self.deadline[step] = self.office.clock.at.timestamp() + 900
        self._mortal(dies_at, done_first, lambda: put_question(event, desk=self.office.desk))

    @rule(
        step=st.sampled_from(STEPS),
        by=WHO,
        decision=st.sampled_from([*["approve"] * 8, "decline", "done"]),
        good=st.booleans(),
        dies_at=DEATHS,
        done_first=st.booleans(),
    )
    def somebody_answers(
        self, step: str, by: str, decision: Any, good: bool, dies_at: int, done_first: bool
    ) -> None:
        code = self.office.next_code(by) if good and by != "fay" else "000000"
        self.answers += 1
        answer = Answer(RUN, step, decision, by, "", f"{self.answers}")
        self.last = answer, code
        in_time = self.office.clock.at.timestamp() < self.deadline.get(step, 0)
        if good and decision == "approve" and by in ("bo", "cy") and in_time:
            self.agreed.add((step, by))
        before = self.state.get(f"factor#{by}", "totp")
        self._answer(answer, code, dies_at, done_first)
        if self.state.get(f"factor#{by}", "totp") != before:
            self.used_codes.append((by, code))

    @precondition(lambda self: self.last)
    @rule(dies_at=DEATHS, done_first=st.booleans())
    def the_same_request_comes_again(self, dies_at: int, done_first: bool) -> None:
        assert self.last
        self._answer(*self.last, dies_at, done_first)

    @precondition(lambda self: self.used_codes)
    @rule(step=st.sampled_from(STEPS), back=st.integers(1, 3))
    def a_code_that_was_used_is_replayed(self, step: str, back: int) -> None:
        by, code = self.used_codes[-min(back, len(self.used_codes))]
        self._answer(Answer(RUN, step, "approve", by, "", f"replay-{code}"), code, 0, False)

    @rule(seconds=st.sampled_from([1, 1, 10, 40, 1000]))
    def time_passes(self, seconds: int) -> None:
        self.office.clock.sleep(seconds)
        now = self.office.clock.at.timestamp()
        for step in STEPS:
            if self.tokens[step] and now >= self.deadline[step]:
                self.office.tokens.time_out(self.tokens[step][-1])

    @rule(step=st.sampled_from(STEPS), dies_at=DEATHS, done_first=st.booleans())
    def the_clock_of_the_escalation_looks(self, step: str, dies_at: int, done_first: bool) -> None:
        self._mortal(dies_at, done_first, lambda: self._settle(step))

    @rule(really=st.integers(0, 9))
    def the_run_ends(self, really: int) -> None:
        if really:
            return
        run = self.state.get(f"run#{RUN}", "run") or {}
        self._mortal(
            0,
            False,
            lambda: self.state.replace(
                f"run#{RUN}", "run", run | {"status": "failed"}, expected={}
            ),
        )
        for tokens in self.tokens.values():
            for token in tokens:
                self.office.tokens.time_out(token)

    @invariant()
    def nothing_is_approved_without_its_quorum(self) -> None:
        for step, tokens in self.tokens.items():
            for token in tokens:
                how, _ = self.office.tokens.ended.get(token, ("", None))
                if how == "succeeded":
                    people = {by for at, by in self.agreed if at == step}
                    assert people == {"bo", "cy"}, (step, people)

    @invariant()
    def a_verdict_that_waits_is_told_by_the_next_who_looks(self) -> None:
        for step, tokens in self.tokens.items():
            verdict = self.state.get(f"run#{RUN}", f"verdict#approve#{step}")
            if not verdict or not tokens or tokens[-1] not in self.office.tokens.waiting:
                continue
            asked = self.state.get(f"run#{RUN}", f"question#approve#{step}") or {}
            if asked.get("token") == tokens[-1]:
                self._settle(step)
                assert tokens[-1] in self.office.tokens.ended

    def _settle(self, step: str) -> None:
        run = read_run(RUN, self.state)
        try:
            question = find_question(RUN, step, state=self.state, run=run)
        except LeewardError:
            return
        settle(question, run, desk=self.office.desk)

    def _answer(self, answer: Answer, code: str, dies_at: int, done_first: bool) -> None:
        self._mortal(dies_at, done_first, lambda: take_answer(answer, code, desk=self.office.desk))

    def _mortal(self, dies_at: int, done_first: bool, work: Any) -> None:
        self.state.dies_at, self.state.done_first = dies_at, done_first
        try:
            work()
        except (LeewardError, Died):
            pass
        finally:
            self.state.dies_at = 0


Approvals.TestCase.settings = settings(max_examples=250, stateful_step_count=30, deadline=None)
TestApprovals = Approvals.TestCase
