"""A component is ready by proof alone: everything that is not known, old or bad is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.evidence.readiness import CopyFacts, FailedTest, decide_readiness
from chalicelib.evidence.rpo import decide_rpo, worst_ages
from chalicelib.plan.records import CheckResult, PointStanding, Proof, RecoveryPoint, RecoveryTarget
from chalicelib.ports import RejectedPoint

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)


def standing(name: str, *, quarantined: str = "") -> PointStanding:
    at = NOW - timedelta(days=2)
    point = RecoveryPoint(
        id=name, component="db", kind="full", taken_at=at, finished_at=at, objects=(),
        source_bytes=1, encryption="",
    )  # fmt: skip
    return PointStanding(point=point, quarantined=quarantined)


def proof(point: str = "p1", *, at: datetime = NOW - HOUR, ok: bool = True) -> Proof:
    checks = (CheckResult("tables", ok, "3 tables"),)
    return Proof("db", point, at, RecoveryTarget("end", ""), 1, at, checks)


GOOD = CopyFacts("db", standings=(standing("p0"), standing("p1")), proofs=(proof(),))


def test_a_young_proof_of_a_whole_point_is_ready_and_told() -> None:
    found = decide_readiness(GOOD, copied=True, valid_for=WEEK, now=NOW)
    assert found.level == "ready"
    assert found.why == "p1 was restored and found sound 1 h ago"
    assert found.proof == proof()
    assert found.proof_age_seconds == 3600


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (replace(GOOD, problem="access denied"), "cannot be read: access denied"),
        (CopyFacts("db"), "there is no recovery point"),
        (replace(GOOD, standings=(), rejected=(RejectedPoint("p1", "x", "torn"),)), "whole: torn"),
        (replace(GOOD, proofs=()), "was ever restored"),
        (replace(GOOD, proofs=(), unreadable=("p1",)), "proof of p1 cannot be read"),
        (replace(GOOD, proofs=(proof(ok=False),)), "was ever restored"),
        (replace(GOOD, proofs=(replace(proof(), checks=()),)), "was ever restored"),
        (replace(GOOD, proofs=(replace(proof(), component="other"),)), "was ever restored"),
        (replace(GOOD, proofs=(proof("gone"),)), "was ever restored"),
        (replace(GOOD, standings=(standing("p1", quarantined="virus"), standing("p2"))),
         "was ever restored"),
        (replace(GOOD, standings=(standing("p1"), standing("p2", quarantined="virus"))),
         "newest point p2 is quarantined: virus"),
        (replace(GOOD, proofs=(proof(at=NOW - WEEK - HOUR),)), "its proof is 7 d 1 h old"),
        (replace(GOOD, proofs=(proof(at=NOW + HOUR),)), "which has not come"),
        (replace(GOOD, failed=(FailedTest(NOW, "corruption", "inc-1", "failed"),)),
         "the last drill of corruption ended as failed"),
        (replace(GOOD, failed=(FailedTest(NOW, "restore-test-weekly", "", "not-tried"),)),
         "its last restore-test-weekly ended as not tried"),
    ],
)  # fmt: skip
def test_what_is_not_proven_now_is_not_ready(facts: CopyFacts, why: str) -> None:
    found = decide_readiness(facts, copied=True, valid_for=WEEK, now=NOW)
    assert found.level == "not-ready"
    assert why in found.why


def test_a_drill_that_failed_before_the_proof_is_past() -> None:
    failed = FailedTest(NOW - 2 * HOUR, "corruption", "inc-1", "failed")
    facts = replace(GOOD, failed=(failed,))
    assert decide_readiness(facts, copied=True, valid_for=WEEK, now=NOW).level == "ready"


def test_without_a_promise_nothing_is_young_enough_and_without_copies_nothing_is_judged() -> None:
    assert decide_readiness(GOOD, copied=True, valid_for=None, now=NOW).level == "not-ready"
    assert decide_readiness(GOOD, copied=False, valid_for=WEEK, now=NOW).level == "no-copies"


@given(st.integers(-400, 400), st.booleans(), st.booleans(), st.booleans())
def test_ready_is_never_said_without_a_young_sound_proof(
    hours: int, ok: bool, quarantined: bool, failed: bool
) -> None:
    at = NOW - timedelta(hours=hours)
    facts = CopyFacts(
        "db",
        standings=(standing("p1", quarantined="bad" if quarantined else ""),),
        proofs=(proof(at=at, ok=ok),),
        failed=(FailedTest(at + HOUR, "s", "i", "failed"),) if failed else (),
    )
    found = decide_readiness(facts, copied=True, valid_for=WEEK, now=NOW)
    sound = ok and not quarantined and not failed and 0 <= hours <= 7 * 24
    assert (found.level == "ready") == sound


def test_the_age_of_the_newest_moment_is_judged_by_the_promise() -> None:
    assert decide_rpo(NOW - HOUR, HOUR, now=NOW).level == "within"
    over = decide_rpo(NOW - HOUR - timedelta(seconds=1), HOUR, now=NOW)
    assert (over.level, over.age_seconds) == ("over", 3601)
    assert decide_rpo(None, HOUR, now=NOW).level == "unknown"
    assert decide_rpo(NOW + HOUR, HOUR, now=NOW).level == "unknown"
    assert decide_rpo(NOW, None, now=NOW).level == "not-promised"


def test_the_worst_age_of_a_stretch_is_just_before_the_next_copy() -> None:
    start = NOW - 4 * HOUR
    moments = [start - HOUR, start + HOUR * 1.5, start + HOUR * 2]
    found = worst_ages(moments, start=start, end=NOW, count=4)
    assert found == (2 * 3600, 2.5 * 3600, 3600, 2 * 3600)


def test_before_the_first_copy_is_known_no_age_is() -> None:
    found = worst_ages([NOW - HOUR], start=NOW - 4 * HOUR, end=NOW, count=4)
    assert found == (None, None, None, 3600)
    assert worst_ages([], start=NOW - HOUR, end=NOW, count=2) == (None, None)
