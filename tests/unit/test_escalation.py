"""Who is called when, on the path of the plan's document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from chalicelib.incidents.escalation import (
    ACKNOWLEDGED_FOR,
    Decision,
    Level,
    Progress,
    decide_escalation,
    levels_of,
)
from chalicelib.plan.people import EscalationStep

START = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
# "On-call engineer (0-15 min), team lead (15-30), engineering manager (30-60), CTO (60+), CEO
# (major incidents only)".
PATH = tuple(
    EscalationStep(who=who, contact=contact, after=after, until=until, only=only)
    for who, contact, after, until, only in (
        ("On-call engineer", "on-call", timedelta(0), timedelta(minutes=15), None),
        ("Team lead", "lead", timedelta(minutes=15), timedelta(minutes=30), None),
        ("Engineering manager", "manager", timedelta(minutes=30), timedelta(minutes=60), None),
        ("CTO", "cto", timedelta(minutes=60), None, None),
        ("CEO", "ceo", None, None, "Major incidents only"),
    )
)


class Night:
    """Plays an incident minute by minute; `calls` is who was called at which minute."""

    def __init__(
        self,
        severity: str = "SEV2",
        *,
        acks: tuple[float, ...] = (),
        unreachable: tuple[str, ...] = (),
        ends_at: float = 1e9,
        factor: float = 1.0,
    ) -> None:
        self.levels = levels_of(PATH, severity)
        self.acks, self.unreachable = acks, unreachable
        self.ends_at, self.factor = ends_at, factor
        self.made: dict[str, bool] = {}
        self.calls: list[tuple[int, str]] = []

    def play(self, minutes: float) -> list[tuple[int, str]]:
        at = 0.0
        while at <= minutes:
            decision = self.decide(at)
            if decision.ended:
                break
            for call in decision.calls:
                level = self.levels[call.level]
                self.made[call.name] = level.contact not in self.unreachable
                self.calls.append((int(at), level.contact))
            at += 0 if decision.calls else decision.wait_seconds / 60 / self.factor
        return self.calls

    def decide(self, minute: float) -> Decision:
        def real(minutes: float) -> datetime:
            return START + timedelta(minutes=minutes) * self.factor

        progress = Progress(
            START,
            tuple(real(it) for it in self.acks if it <= minute),
            tuple(self.made.items()),
            "over" if minute >= self.ends_at else "",
        )
        return decide_escalation(self.levels, progress, factor=self.factor, now=real(minute))


def test_the_path_of_the_document_is_followed_by_its_clocks() -> None:
    assert Night().play(89) == [(0, "on-call"), (15, "lead"), (30, "manager"), (60, "cto")]


def test_the_ceo_is_called_in_major_incidents_alone() -> None:
    assert Night("SEV1").play(89)[-2:] == [(60, "cto"), (60, "ceo")]
    assert all(who != "ceo" for _, who in Night("SEV2").play(600))


def test_the_end_of_the_path_is_called_again_until_somebody_answers() -> None:
    assert [it for it in Night().play(150) if it[1] == "cto"] == [
        (60, "cto"), (90, "cto"), (120, "cto"), (150, "cto"),
    ]  # fmt: skip


def test_nobody_is_called_after_an_acknowledgement_until_it_lapses() -> None:
    calls = Night(acks=(5,)).play(60)
    # The path's clock stood still from minute 5 to 35: it goes on where it stopped.
    assert calls == [(0, "on-call"), (35, "on-call"), (45, "lead"), (60, "manager")]


def test_a_second_acknowledgement_holds_as_long_as_the_first() -> None:
    calls = Night(acks=(5, 30)).play(80)
    assert calls == [(0, "on-call"), (60, "on-call"), (70, "lead")]


def test_nobody_is_called_after_the_end() -> None:
    assert Night(ends_at=20).play(300) == [(0, "on-call"), (15, "lead")]


def test_who_cannot_be_reached_is_passed_over_at_once() -> None:
    calls = Night(unreachable=("on-call", "lead")).play(59)
    assert calls == [(0, "on-call"), (0, "lead"), (0, "manager")]


def test_a_machine_that_slept_too_long_calls_all_whose_time_came() -> None:
    decision = Night().decide(40)
    assert [it.level for it in decision.calls] == [0, 1, 2]


def test_scaled_time_is_the_same_path() -> None:
    night = Night(factor=0.1)
    assert night.play(59) == [(0, "on-call"), (15, "lead"), (30, "manager")]


def test_the_machine_never_sleeps_for_days() -> None:
    night = Night(acks=(0,))
    night.play(1)
    assert night.decide(1).wait_seconds <= 3600
    assert decide_escalation((), Progress(START), now=START).ended


@pytest.mark.parametrize("factor", [1.0, 0.001])
def test_waits_are_whole_seconds_and_never_none(factor: float) -> None:
    night = Night(factor=factor)
    for minute in range(0, 200, 7):
        wait = night.decide(minute).wait_seconds
        assert isinstance(wait, int)
        assert wait >= 1


@given(
    acks=st.lists(st.floats(0, 300), max_size=4).map(sorted).map(tuple),
    unreachable=st.lists(st.sampled_from(["on-call", "lead", "manager", "cto"])).map(tuple),
    ends_at=st.floats(1, 400),
)
def test_whatever_happens_nobody_is_called_while_acknowledged_or_after_the_end(
    acks: tuple[float, ...], unreachable: tuple[str, ...], ends_at: float
) -> None:
    night = Night("SEV1", acks=acks, unreachable=unreachable, ends_at=ends_at)
    calls = night.play(400)
    held = ACKNOWLEDGED_FOR.total_seconds() / 60
    for minute, _ in calls:
        assert minute <= ends_at
        for ack in acks:
            assert not ack + 1 < minute < ack + held - 1, (minute, ack)
    assert len(night.made) == len(calls)
    order: Mapping[str, int] = {level.contact: level.number for level in night.levels}
    first = [
        who for number, (_, who) in enumerate(calls) if who not in [w for _, w in calls[:number]]
    ]
    assert [order[who] for who in first] == sorted(order[who] for who in first)


def test_levels_are_what_the_document_says() -> None:
    assert levels_of(PATH, "SEV1")[-1] == Level(4, "CEO", "ceo", 3600.0)
    assert len(levels_of(PATH, "SEV3")) == 4
