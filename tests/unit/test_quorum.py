"""A failover by itself needs several signals that last, and happens once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.plan.scenario import SignalKind, Trigger
from chalicelib.verify.quorum import LEAST_LOOKS, Sign, decide_failover

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TRIGGER = Trigger(quorum=2)
KINDS = get_args(SignalKind)


def row(kind: SignalKind, said: str, *, every: timedelta = MINUTE) -> list[Sign]:
    """ "..xx" -> good, good, bad, bad; a look each minute, the last one now."""
    ages = range(len(said) - 1, -1, -1)
    return [
        Sign(kind, NOW - every * age, letter == "x", "said")
        for age, letter in zip(ages, said, strict=True)
    ]


def standings(signs: list[Sign], trigger: Trigger = TRIGGER) -> dict[str, str]:
    return {it.kind: it.standing for it in decide_failover(signs, trigger, now=NOW).votes}


def test_a_site_that_was_gone_back_to_is_left_by_a_person_alone_for_a_while() -> None:
    signs = row("probe", "..xxxx") + row("heartbeat", "..xxxx")
    held = decide_failover(signs, TRIGGER, now=NOW, settles_at=NOW + MINUTE)
    assert not held.go
    assert "until 2026-11-22 12:01:00Z a person declares it" in held.why
    assert decide_failover(signs, TRIGGER, now=NOW, settles_at=NOW).go


def test_two_signals_that_last_decide() -> None:
    signs = row("probe", "..xxxx") + row("heartbeat", "..xxxx")
    decision = decide_failover(signs, TRIGGER, now=NOW)
    assert decision.go
    assert [vote.kind for vote in decision.for_it] == ["probe", "heartbeat"]
    assert decision.why == "2 of 4 signals say that the site is lost, 2 are needed"


def test_one_signal_alone_decides_nothing_however_long_it_lasts() -> None:
    assert not decide_failover(row("probe", "x" * 60), TRIGGER, now=NOW).go


@pytest.mark.parametrize("probe", ["......", "....xx", "x.x.x.x.x", ""])
def test_nothing_is_failed_over_while_services_answer_or_have_just_stopped(probe: str) -> None:
    signs = row("probe", probe) + row("heartbeat", "xxxxxx") + row("aws-health", "xxxxxx")
    decision = decide_failover(signs, TRIGGER, now=NOW)
    assert len(decision.for_it) == 2
    assert not decision.go


@pytest.mark.parametrize(
    ("said", "standing"),
    [
        ("xxxx", "votes"),
        ("...x", "too-short"),
        ("..xx", "too-short"),
        ("xxx.", "good"),
        ("xx.xx", "too-short"),
        ("x.x.xxxx", "flapping"),
        ("", "unknown"),
    ],
)
def test_a_signal_votes_only_when_it_is_bad_for_long_and_without_a_break(
    said: str, standing: str
) -> None:
    assert standings(row("probe", said))["probe"] == standing


def test_what_nobody_looked_at_lately_is_unknown_and_not_bad() -> None:
    old = [Sign("probe", NOW - MINUTE * age, True, "no answer") for age in (9, 8, 7, 6, 5, 4)]
    assert standings(old)["probe"] == "unknown"


def test_an_alarm_is_told_once_and_holds_until_it_is_over_or_long_ago() -> None:
    told = [Sign("alarm", NOW - MINUTE * 10, True, "ALARM")]
    assert standings(told)["alarm"] == "votes"
    assert standings([*told, Sign("alarm", NOW - MINUTE, False, "OK")])["alarm"] == "good"
    assert standings([Sign("alarm", NOW - MINUTE * 16, True, "ALARM")])["alarm"] == "unknown"


def test_one_look_is_no_row_even_when_it_was_long_ago() -> None:
    trigger = Trigger(quorum=1, fresh=timedelta(minutes=10))
    assert LEAST_LOOKS > 1
    signs = [Sign("probe", NOW - MINUTE * 5, True, "no answer")]
    assert standings(signs, trigger)["probe"] == "too-short"


def test_decided_once_is_never_decided_again_by_itself() -> None:
    signs = row("probe", "xxxxx") + row("heartbeat", "xxxxx") + row("alarm", "xxxxx")
    decision = decide_failover(signs, TRIGGER, now=NOW, latched_at=NOW - timedelta(days=30))
    assert not decision.go
    assert decision.why.startswith("decided already at 2026-10-23")


def test_signs_of_the_future_and_of_signals_that_do_not_count_are_left_out() -> None:
    future = [Sign("probe", NOW + MINUTE * n, True, "clock ahead") for n in range(1, 9)]
    signs = future + row("aws-health", "xxxxx") + row("heartbeat", "xxxxx")
    trigger = Trigger(quorum=2, of=("probe", "heartbeat"))
    assert not decide_failover(signs, trigger, now=NOW).go
    bad = row("probe", "xxxxx") + row("heartbeat", "xxxxx")
    ahead = [Sign("probe", NOW + MINUTE, False, "a clock that is ahead says so")]
    assert decide_failover(bad + ahead, trigger, now=NOW).go


signs = st.lists(
    st.builds(
        Sign,
        kind=st.sampled_from(KINDS),
        observed_at=st.integers(-1200, 120).map(lambda s: NOW + timedelta(seconds=s)),
        bad=st.booleans(),
        says=st.just(""),
    ),
    max_size=60,
)
triggers = st.builds(
    Trigger,
    quorum=st.integers(1, 4),
    of=st.lists(st.sampled_from(KINDS), min_size=1, unique=True).map(tuple),
    lasting=st.integers(0, 600).map(lambda s: timedelta(seconds=s)),
    within=st.integers(60, 1200).map(lambda s: timedelta(seconds=s)),
    fresh=st.integers(30, 600).map(lambda s: timedelta(seconds=s)),
)


@given(signs, triggers)
def test_who_goes_has_enough_votes_each_bad_for_long_enough(
    seen: list[Sign], trigger: Trigger
) -> None:
    decision = decide_failover(seen, trigger, now=NOW)
    assert {vote.kind for vote in decision.votes} == set(trigger.of)
    seen_by_users = "probe" not in trigger.of or "probe" in {it.kind for it in decision.for_it}
    assert decision.go == (len(decision.for_it) >= trigger.quorum and seen_by_users)
    for vote in decision.for_it:
        assert vote.bad_since is not None
        assert NOW - vote.bad_since >= trigger.lasting
        since = [
            it for it in seen if it.kind == vote.kind and vote.bad_since <= it.observed_at <= NOW
        ]
        assert since
        assert all(it.bad for it in since if it.observed_at > vote.bad_since)


@given(signs, triggers)
def test_good_news_of_every_signal_stops_it(seen: list[Sign], trigger: Trigger) -> None:
    past = [it for it in seen if it.observed_at < NOW]
    good = [Sign(kind, NOW, False, "") for kind in trigger.of]
    assert not decide_failover(past + good, trigger, now=NOW).go


@given(signs, triggers, st.randoms())
def test_order_and_doubles_make_no_difference(
    seen: list[Sign], trigger: Trigger, random: object
) -> None:
    mixed = seen + seen[: len(seen) // 2]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    expected = decide_failover(seen, trigger, now=NOW)
    assert decide_failover(mixed, trigger, now=NOW) == expected


@given(signs, triggers)
def test_asking_for_more_votes_never_makes_it_easier(seen: list[Sign], trigger: Trigger) -> None:
    stricter = trigger.model_copy(update={"quorum": trigger.quorum + 1})
    strict, loose = (decide_failover(seen, it, now=NOW).go for it in (stricter, trigger))
    assert loose or not strict


@given(signs, triggers)
def test_fewer_signals_than_the_quorum_never_decide(seen: list[Sign], trigger: Trigger) -> None:
    kept = set(trigger.of[: trigger.quorum - 1])
    few = [it for it in seen if it.kind in kept]
    assert not decide_failover(few, trigger, now=NOW).go
