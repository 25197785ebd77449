"""A bucket is taken back, proven, and taken forward again; against a model of S3's versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import BadInput, CheckFailed, NotReady, OutsideWindow, Refused, Unavailable
from chalicelib.ports.bucket_rules import BucketRules, Expiry
from chalicelib.recover.bucket.apply import apply_undo
from chalicelib.recover.bucket.elsewhere import apply_copy, require_target, survey_copy
from chalicelib.recover.bucket.history import (
    CutMeter,
    KeyHistory,
    for_each_range,
    for_each_shard,
)
from chalicelib.recover.bucket.outcome import UndoOutcome
from chalicelib.recover.bucket.proof import UndoProof, verify_copy, verify_undo
from chalicelib.recover.bucket.survey import require_history, require_sense, survey_undo
from chalicelib.recover.bucket.undo import UndoRules
from tests.fakes_versions import START, Thawing, VersionedBucket, failing_once, second

T = second(10)
RULES = UndoRules(T)


def undo(
    bucket: VersionedBucket, rules: UndoRules = RULES, prefix: str = "", most_held: int = 100_000
) -> tuple[UndoOutcome, UndoProof]:
    """Survey, do, prove; some time after the last change. `most_held` 0 lists again to act."""

    async def run() -> tuple[UndoOutcome, UndoProof]:
        plan = await survey_undo(bucket, rules, prefix=prefix, most_held=most_held)
        assert (plan.held is None) == (plan.keys - plan.counts["leave"] > most_held)
        bucket.now = max(bucket.now, plan.newest_at or START) + timedelta(seconds=5)
        outcome = await apply_undo(bucket, rules, prefix=prefix, plan=plan, in_flight=4)
        keys = sorted(bucket.versions)
        cuts = tuple(keys[:: len(keys) // 20 + 1])
        return outcome, await verify_undo(bucket, rules, plan.state, prefix=prefix, cuts=cuts)

    return asyncio.run(run())


def ruined() -> VersionedBucket:
    """Five keys of before; one stays, the others are deleted, overwritten or hidden."""
    bucket = VersionedBucket()
    for key in ("deleted", "overwritten", "both", "kept"):
        bucket.write(key, key.encode())
    bucket.now = second(20)
    bucket.remove("deleted")
    bucket.write("overwritten", b"encrypted")
    bucket.write("both", b"encrypted too")
    bucket.remove("both")
    bucket.write("READ_ME.txt", b"pay")
    return bucket


def test_readers_get_what_they_got_then() -> None:
    bucket = ruined()
    outcome, proof = undo(bucket)
    assert bucket.state() == {
        key: key.encode() for key in ("deleted", "overwritten", "both", "kept")
    }
    assert outcome.counts == {"unmarked": 1, "copied": 2, "marked": 1, "left": 1}
    assert outcome.ok
    assert proof.ok
    assert (proof.keys, proof.objects, proof.differing) == (5, 4, 0)


def test_a_second_run_does_nothing() -> None:
    bucket = ruined()
    undo(bucket)
    before = bucket.rows()
    outcome, proof = undo(bucket)
    assert bucket.rows() == before
    assert outcome.counts == {"left": 3, "same": 2}
    assert proof.ok


def test_other_prefixes_are_not_touched() -> None:
    bucket = ruined()
    undo(bucket, prefix="over")
    assert bucket.state() == {
        "overwritten": b"overwritten", "kept": b"kept", "READ_ME.txt": b"pay"
    }  # fmt: skip


changes = st.tuples(
    st.sampled_from(["a", "a/b", "b"]), st.sampled_from(["1", "22", "23", ""]), st.integers(0, 3)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(changes, max_size=20), st.integers(0, 25), st.booleans(), st.sampled_from([0, 100]))
def test_any_history_is_taken_back_and_no_version_is_lost(
    course: list[tuple[str, str, int]], to: int, remove_markers: bool, most_held: int
) -> None:
    """Each change: key, what is written ("" deletes), seconds since the one before."""
    bucket = VersionedBucket()
    was: dict[str, bytes] = {}
    for key, data, pause in course:
        bucket.now += timedelta(seconds=pause)
        if data:
            bucket.write(key, data.encode())
        elif key in bucket.state():
            bucket.remove(key)
        if bucket.now <= second(to):
            was = bucket.state()
    versions, now_state, now = bucket.version_ids(), bucket.state(), bucket.now
    rules = UndoRules(second(to), remove_markers=remove_markers)
    outcome, proof = undo(bucket, rules, most_held=most_held)
    assert bucket.state() == was
    assert versions <= bucket.version_ids()
    assert outcome.ok
    assert proof.ok
    if not remove_markers:
        _, forward = undo(bucket, UndoRules(now, remove_markers=False))
        assert bucket.state() == now_state
        assert forward.ok


def test_a_run_that_was_killed_is_finished_by_another() -> None:
    bucket = ruined()
    bucket.fail = failing_once("copy", 2, NotReady("gone", code="no-credentials"))
    with pytest.raises(NotReady):
        undo(bucket)
    bucket.fail = lambda what, key: None
    outcome, proof = undo(bucket)
    assert outcome.ok
    assert proof.ok
    assert len(bucket.versions["overwritten"]) + len(bucket.versions["both"]) == 2 + 3 + 2


def test_a_key_that_fails_is_named_and_the_others_are_done() -> None:
    bucket = ruined()
    bucket.failing = {"deleted"}
    outcome, proof = undo(bucket)
    [failure] = outcome.failures
    assert (failure.key, failure.code) == ("deleted", "AccessDenied")
    assert not outcome.ok
    assert not proof.ok
    assert [(it.key, it.why) for it in proof.differences] == [("deleted", "missing")]
    assert bucket.state()["both"] == b"both"


def test_a_copy_that_fails_is_named() -> None:
    bucket = ruined()
    bucket.fail = failing_once("copy", 1, Unavailable("no answer"))
    outcome, proof = undo(bucket)
    assert [it.code for it in outcome.failures] == ["unavailable"]
    assert [it.why for it in proof.differences] in (["other-content"], ["missing"])


def test_when_all_fail_it_stops() -> None:
    bucket = VersionedBucket()
    bucket.write("any", b"1")
    bucket.now = second(20)
    for number in range(3000):
        bucket.write(f"{number:05}", b"new")
        bucket.failing.add(f"{number:05}")
    with pytest.raises(CheckFailed) as caught:
        undo(bucket)
    assert caught.value.instance_code == "too-many-failures"


@pytest.mark.parametrize("most_held", [0, 100_000])
def test_thousands_of_markers_go_in_batches(most_held: int) -> None:
    bucket = VersionedBucket()
    for number in range(2500):
        bucket.write(f"old/{number:05}", b"1")
    bucket.now = second(20)
    for number in range(2500):
        bucket.remove(f"old/{number:05}")
        bucket.write(f"new/{number:05}", b"2")
    outcome, proof = undo(bucket, most_held=most_held)
    assert outcome.counts == {"unmarked": 2500, "marked": 2500}
    assert bucket.asked["batch"] <= 22
    assert proof.ok


def keys_of(bucket: VersionedBucket, prefix: str = "") -> list[str]:
    """Of all streams that a listing is cut into."""
    found: list[str] = []

    async def work(histories: AsyncIterator[KeyHistory]) -> None:
        found.extend([history.key async for history in histories])

    asyncio.run(for_each_shard(bucket, prefix, T, work))
    return found


folders = st.lists(st.sampled_from(["a", "b", "/", "//", "c/d"]), min_size=1, max_size=5)


@settings(deadline=None)
@given(st.sets(folders.map("".join), max_size=30), st.sampled_from(["", "a", "a/", "b//"]))
def test_every_key_is_in_exactly_one_stream(keys: set[str], prefix: str) -> None:
    bucket = VersionedBucket()
    for key in keys:
        bucket.write(key, b"1")
        bucket.remove(key)
    assert sorted(keys_of(bucket, prefix)) == sorted(it for it in keys if it.startswith(prefix))


def test_a_listing_is_cut_at_folders_unless_there_are_too_many() -> None:
    bucket = VersionedBucket()
    for folder in range(40):
        bucket.write(f"year/{folder:02}/object", b"1")
    assert len(keys_of(bucket)) == 40
    assert bucket.asked["list"] == 40
    for folder in range(200):
        bucket.write(f"year/{folder:03}/object", b"1")
    bucket.asked.clear()
    assert len(keys_of(bucket)) == 240
    assert bucket.asked["list"] == 1


@settings(deadline=None)
@given(
    st.sets(folders.map("".join), max_size=30),
    st.sets(folders.map("".join), max_size=8),
    st.sampled_from(["", "a", "a/", "b//"]),
)
def test_whatever_the_cuts_are_the_ranges_are_the_whole_listing(
    keys: set[str], cuts: set[str], prefix: str
) -> None:
    bucket = VersionedBucket()
    for key in keys:
        bucket.write(key, b"1")
        bucket.remove(key)
    found: list[KeyHistory] = []

    async def work(histories: AsyncIterator[KeyHistory]) -> None:
        found.extend([history async for history in histories])

    asyncio.run(for_each_range(bucket, prefix, T, tuple(sorted(cuts)), work))
    assert sorted(it.key for it in found) == sorted(it for it in keys if it.startswith(prefix))
    assert all(it.entries == 2 for it in found)


def test_cuts_are_few_in_order_and_make_ranges_of_less_than_a_page() -> None:
    bucket = VersionedBucket()
    meter = CutMeter()
    bucket.write("k", b"1")
    row = bucket.rows()[0]
    places = [number * 7919 % 100_000 for number in range(100_000)]
    for place in places:
        meter.add(KeyHistory(f"{place:06}", row, row, row.modified_at, entries=2))
    cuts = meter.cuts()
    assert list(cuts) == sorted(set(cuts))
    between = [int(b) - int(a) for a, b in pairwise(("0", *cuts, "99999"))]
    assert max(between) * 2 < 1000
    assert len(cuts) < 500


def test_what_changed_since_the_survey_is_never_called_proven() -> None:
    bucket = ruined()
    plan = asyncio.run(survey_undo(bucket, RULES))
    bucket.now = second(40)
    for key in bucket.versions:
        bucket.write(key, b"by an application")
    bucket.now = second(60)
    outcome = asyncio.run(apply_undo(bucket, RULES, plan=plan))
    assert outcome.ok
    proof = asyncio.run(verify_undo(bucket, RULES, plan.state, cuts=("deleted", "kept")))
    assert [(it.key, it.why) for it in proof.differences] == [
        ("deleted", "other-content"), ("kept", "other-content")
    ]  # fmt: skip
    outcome, proof = undo(bucket)
    assert proof.ok


def test_someone_who_writes_meanwhile_is_seen() -> None:
    bucket = ruined()
    plan = asyncio.run(survey_undo(bucket, RULES))
    asyncio.run(apply_undo(bucket, RULES))
    bucket.now = second(60)
    bucket.write("kept", b"by an application")
    proof = asyncio.run(verify_undo(bucket, RULES, plan.state))
    assert not proof.ok
    assert [(it.key, it.why) for it in proof.differences] == [("kept", "other-content")]


def test_a_version_that_vanished_meanwhile_is_seen() -> None:
    bucket = ruined()
    plan = asyncio.run(survey_undo(bucket, RULES))
    asyncio.run(apply_undo(bucket, RULES))
    del bucket.versions["both"]
    proof = asyncio.run(verify_undo(bucket, RULES, plan.state))
    assert proof.differing == 0
    assert not proof.complete
    assert not proof.ok


def test_copies_with_etags_of_their_own_are_compared_by_reading() -> None:
    bucket = VersionedBucket()
    sealed = {"encryption": "aws:kms", "checksums": {}}
    bucket.write("sealed", b"secret", etag="1" * 32, **sealed)
    bucket.now = second(20)
    bucket.write("sealed", b"public", etag="2" * 32, **sealed)
    outcome, proof = undo(bucket)
    assert outcome.counts == {"copied": 1}
    assert bucket.state() == {"sealed": b"secret"}
    assert (proof.ok, proof.read) == (True, 1)
    bucket.versions["sealed"][0].data = b"sepret"
    proof = asyncio.run(verify_undo(bucket, RULES, asyncio.run(survey_undo(bucket, RULES)).state))
    assert [it.why for it in proof.differences] == ["other-content"]


def test_what_may_not_be_read_is_not_proven() -> None:
    bucket = VersionedBucket()
    sealed = {"encryption": "aws:kms", "checksums": {}}
    bucket.write("sealed", b"secret", etag="1" * 32, **sealed)
    bucket.now = second(20)
    bucket.write("sealed", b"secret", etag="2" * 32, **sealed)
    state = asyncio.run(survey_undo(bucket, RULES)).state
    proof = asyncio.run(verify_undo(bucket, RULES, state, read_limit_bytes=11))
    assert [it.why for it in proof.differences] == ["not-compared"]
    assert asyncio.run(verify_undo(bucket, RULES, state, read_limit_bytes=12)).ok


def test_the_same_bytes_under_other_metadata_are_copied() -> None:
    bucket = VersionedBucket()
    bucket.write("page", b"hello", metadata={"type": "html"})
    bucket.now = second(20)
    bucket.write("page", b"hello", metadata={"type": "octets"})
    outcome, _ = undo(bucket)
    assert outcome.counts == {"copied": 1}
    assert bucket.versions["page"][0].facts.metadata == {"type": "html"}


def test_an_unknown_history_is_left_alone_and_red() -> None:
    bucket = VersionedBucket()
    bucket.write("k", b"1")
    bucket.now = second(20)
    bucket.write("k", b"22", version_id="null")
    outcome, proof = undo(bucket)
    assert bucket.state() == {"k": b"22"}
    assert (outcome.ok, proof.ok) == (False, False)
    outcome, proof = undo(bucket, UndoRules(T, accept_gaps=True))
    assert bucket.state() == {"k": b"1"}
    assert outcome.ok
    assert [it.why for it in proof.differences] == ["history-gap"]


def archived() -> VersionedBucket:
    bucket = VersionedBucket()
    bucket.write("old", b"cold", storage_class="DEEP_ARCHIVE")
    bucket.now = second(20)
    bucket.write("old", b"warmer")
    return bucket


def test_what_is_archived_is_left_unless_it_is_asked_for() -> None:
    bucket = archived()
    outcome, proof = undo(bucket)
    assert outcome.counts == {"archived": 1}
    assert (outcome.ok, proof.ok) == (False, False)


def test_what_is_archived_is_asked_for_and_copied_by_the_next_run() -> None:
    bucket = archived()
    control = Thawing(bucket)
    outcome = asyncio.run(apply_undo(bucket, RULES, thaw=control))
    assert outcome.counts == {"thawing": 1}
    assert not outcome.ok
    assert [key for key, _ in control.asked] == ["old"]
    outcome, proof = undo(bucket)
    assert outcome.counts == {"copied": 1}
    assert bucket.versions["old"][0].facts.storage_class == "STANDARD"
    assert proof.ok


def test_the_plan_counts_and_prices() -> None:
    bucket = ruined()
    plan = asyncio.run(survey_undo(bucket, RULES))
    assert plan.counts == {
        "leave": 1, "remove-markers": 1, "copy": 2, "compare": 0, "put-marker": 1, "thaw": 0,
        "unknown": 0,
    }  # fmt: skip
    assert (plan.keys, plan.entries, plan.changes, plan.markers) == (5, 9, 4, 1)
    assert plan.bytes["copy"] == len(b"overwritten") + len(b"both")
    assert plan.cost.requests.to_json() == {
        "list": 2, "head": 0, "copy": 2, "batch": 1, "restore": 0
    }  # fmt: skip
    assert plan.cost.once_usd == pytest.approx(5 * 0.005 / 1000)
    assert plan.to_json()["samples"]["put-marker"] == [
        {"key": "READ_ME.txt", "why": "created-since"}
    ]
    asked = asyncio.run(survey_undo(archived(), RULES)).cost
    assert (asked.requests.restore, asked.wait_hours) == (1, 12)


def test_a_whole_bucket_is_not_emptied_for_a_time_before_it() -> None:
    bucket = ruined()
    early = UndoRules(START - timedelta(days=1))
    with pytest.raises(OutsideWindow) as caught:
        require_sense(asyncio.run(survey_undo(bucket, early)))
    assert caught.value.instance_code == "nothing-then"
    assert "2026-11-22T08:00:00" in caught.value.hint
    require_sense(asyncio.run(survey_undo(bucket, RULES)))
    require_sense(asyncio.run(survey_undo(bucket, early, prefix="READ_ME")))


NOW = second(86400 * 40)
ENABLED = BucketRules("Enabled")


def check(facts: BucketRules, rules: UndoRules = RULES, **how: object) -> str:
    """The code of the refusal."""
    try:
        require_history(
            facts, rules, bucket="uploads", prefix=str(how.get("prefix", "")),
            in_place=bool(how.get("in_place", True)), now=NOW,
        )  # fmt: skip
    except (BadInput, Refused) as error:
        return error.instance_code
    return ""


def test_what_a_bucket_cannot_give_is_refused_before_anything_is_read() -> None:
    assert check(ENABLED) == ""
    assert check(ENABLED, UndoRules(NOW + timedelta(seconds=1))) == "time-in-future"
    assert check(BucketRules("")) == "not-versioned"
    assert check(BucketRules("Suspended")) == "versioning-suspended"
    assert check(BucketRules("Suspended"), in_place=False) == ""


def test_what_a_lifecycle_rule_removed_is_refused() -> None:
    month = BucketRules("Enabled", expiries=(Expiry("logs/", 30), Expiry("logs/", 60)))
    assert check(month) == "versions-expired"
    assert check(month, prefix="logs/app/") == "versions-expired"
    assert check(month, prefix="uploads/") == ""
    assert check(month, UndoRules(NOW - timedelta(days=30))) == ""
    assert check(month, UndoRules(T, accept_gaps=True)) == ""


def test_what_the_plan_removed_of_a_replica_is_refused_naming_the_window() -> None:
    replica = BucketRules("Enabled", expiries=(Expiry("", 30, of_plan=True),))
    assert check(replica, UndoRules(NOW - timedelta(days=30))) == ""
    with pytest.raises(OutsideWindow) as caught:
        require_history(replica, RULES, bucket="r", prefix="", in_place=False, now=NOW)
    assert caught.value.instance_code == "versions-expired"
    assert "`retention.versions`) lets them go 30 days after" in caught.value.message
    assert "after 2026-12-02T08:00:00" in caught.value.hint
    assert "leeward restore inventory" in caught.value.hint


def elsewhere(bucket: VersionedBucket, target: VersionedBucket) -> tuple[UndoOutcome, UndoProof]:
    async def run() -> tuple[UndoOutcome, UndoProof]:
        plan = await survey_copy(bucket, target, RULES)
        require_target(plan)
        outcome = await apply_copy(bucket, target, RULES)
        return outcome, await verify_copy(bucket, target, RULES, plan.state)

    return asyncio.run(run())


def test_the_moment_is_copied_into_another_bucket() -> None:
    bucket = ruined()
    target = VersionedBucket("target", bucket.world)
    before = bucket.rows()
    outcome, proof = elsewhere(bucket, target)
    assert target.state() == {
        key: key.encode() for key in ("deleted", "overwritten", "both", "kept")
    }
    assert bucket.rows() == before
    assert outcome.counts == {"copied": 4}
    assert proof.ok
    outcome, proof = elsewhere(bucket, target)
    assert outcome.counts == {"same": 4}
    assert proof.ok


@pytest.mark.parametrize(("key", "data"), [("other", b"1"), ("kept", b"longer than it was")])
def test_a_bucket_that_holds_anything_else_is_refused(key: str, data: bytes) -> None:
    bucket = ruined()
    target = VersionedBucket("target", bucket.world)
    target.write(key, data)
    with pytest.raises(Refused) as caught:
        elsewhere(bucket, target)
    assert caught.value.instance_code == "target-not-empty"
    assert target.state() == {key: data}


def test_what_the_other_bucket_holds_is_never_overwritten() -> None:
    bucket = ruined()
    target = VersionedBucket("target", bucket.world)
    target.write("kept", b"tpek")
    outcome, proof = elsewhere(bucket, target)
    assert target.state()["kept"] == b"tpek"
    assert [it.code for it in outcome.failures] == ["target-not-empty"]
    assert [(it.key, it.why) for it in proof.differences] == [("kept", "other-content")]
