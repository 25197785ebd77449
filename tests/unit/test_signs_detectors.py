"""Each detector fires on what it is for, and not on what people do."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import BadInput
from chalicelib.plan.signs import BucketEvent, SeenRule, Sign
from chalicelib.ports.samples import Sample, SampledWrite, Settings
from chalicelib.verify.signs.bursts import FLOOR, count_slots, find_burst, hour_name, limit_at
from chalicelib.verify.signs.canaries import Canary, find_touched, judge_canary, make_canary
from chalicelib.verify.signs.configuration import (
    compare_settings,
    find_blind_settings,
    note_rules,
)
from chalicelib.verify.signs.content import look_at
from chalicelib.verify.signs.encryption_keys import MOST_KEYS, count_keys, find_key_switch
from chalicelib.verify.signs.events import bucket_of, read_event
from chalicelib.verify.signs.growth import Grown, find_growth
from chalicelib.verify.signs.names import count_endings, count_notes, find_drift, find_notes
from chalicelib.verify.signs.runs import Flagged, find_encryption, find_run
from tests.fakes_bucket import SOUND
from tests.noise import noise

NOW = datetime(2026, 3, 30, 14, 2, tzinfo=UTC)
BEGAN = NOW - timedelta(days=60)
RATES = {"strong": 0.002, "weak": 0.005}


def created(key: str, minutes: float = 0, **more: Any) -> BucketEvent:
    at = NOW + timedelta(minutes=minutes)
    return BucketEvent(f"{key}{minutes}", at, "created", key, **more)


def flagged(*numbers: int, weight: str = "strong") -> list[Flagged]:
    return [Flagged(n, NOW + timedelta(seconds=n), f"k{n}", "kind-lost", weight) for n in numbers]


def test_ten_of_the_last_two_hundred_decide_and_their_first_is_the_start() -> None:
    writes = flagged(*range(1000, 1200, 20))
    [strong, weak] = find_encryption("b", writes, 1200, RATES)
    assert strong.score == 0.99
    assert strong.at == writes[0].at
    assert weak.score == 0.5


def test_one_flagged_write_decides_nothing_and_fades() -> None:
    [strong, _] = find_encryption("b", flagged(500), 500, RATES)
    assert strong.score < 0.5
    assert find_encryption("b", flagged(500), 1500, RATES) == []


def test_a_stray_flag_of_long_ago_does_not_move_the_start() -> None:
    run = find_run(flagged(10, *range(900, 912)), 912, 0.002)
    assert [it.number for it in run.writes] == list(range(900, 912))


def test_a_slow_attack_among_fifty_times_as_many_honest_writes_is_found() -> None:
    writes = flagged(*range(1000, 2200, 50))
    [strong, _] = find_encryption("b", writes, 2200, RATES)
    assert strong.score == 0.99
    assert strong.at == writes[0].at


def test_flags_at_the_usual_rate_are_no_run() -> None:
    usual = flagged(*range(0, 100_000, 400))
    assert find_run(usual[-200:], 100_000, 0.0025).sum < 8


@given(st.lists(st.integers(1, 5000), max_size=80, unique=True))
def test_the_sum_never_counts_more_than_every_flag(numbers: list[int]) -> None:
    numbers.sort()
    run = find_run(flagged(*numbers), 5000, 0.002)
    assert 0 <= run.sum <= 4.7 * len(run.writes)
    assert len(run.writes) <= len(numbers)


def test_a_burst_is_more_than_this_hour_ever_had() -> None:
    slot = NOW.replace(minute=0)
    peaks = {hour_name(slot - timedelta(days=day)): 300 for day in range(1, 29)}
    assert limit_at(peaks, slot) == 450
    assert find_burst("b", "deletes", slot, 440, peaks) is None
    found = find_burst("b", "deletes", slot, 460, peaks)
    assert found is not None
    assert found.score == 0.7
    assert limit_at(peaks, slot + timedelta(hours=6)) == FLOOR
    flood = find_burst("b", "deletes", slot, 4500, peaks)
    assert flood is not None
    assert flood.score == 0.85


def test_what_a_lifecycle_rule_deletes_is_no_burst() -> None:
    rule = replace(created("a"), kind="deleted", reason="Lifecycle Expiration")
    assert count_slots([rule]) == {}


def drift(events: list[BucketEvent], since: datetime = BEGAN) -> list[Sign]:
    old = [created(f"{n}.jpg", -60 * 24 * 20) for n in range(100)]
    endings = count_endings({}, [*old, *events], 0)
    return find_drift(endings, 100 + len(events), since=since, now=NOW)


def test_the_same_new_ending_behind_the_old_one_is_a_drift() -> None:
    [sign] = drift([created(f"{n}.jpg.locked") for n in range(12)])
    assert sign.subject == "*.locked"
    assert sign.score == 0.65


@pytest.mark.parametrize(
    "keys",
    [
        [f"{n}.jpg" for n in range(50)],
        [f"{n}.json.gz" for n in range(15)],
        [f"{n}.v{n}" for n in range(50)],
        [str(n) for n in range(50)],
    ],
)
def test_ordinary_endings_are_no_drift(keys: list[str]) -> None:
    assert drift([created(key) for key in keys]) == []


def test_a_new_kind_of_archive_weighs_little() -> None:
    [sign] = drift([created(f"{n}.webp") for n in range(40)])
    assert sign.score == 0.2


def test_nothing_is_new_in_a_bucket_that_is_new() -> None:
    assert drift([created(f"{n}.jpg.locked") for n in range(12)], since=NOW) == []


def test_a_note_in_several_folders_is_found_by_name_and_more_so_by_words() -> None:
    events = [created(f"{n}/HOW_TO_DECRYPT.txt", size_bytes=900) for n in range(4)]
    by_name = find_notes(count_notes({}, events, frozenset()), now=NOW)
    by_words = find_notes(count_notes({}, events, frozenset({"1/HOW_TO_DECRYPT.txt"})), now=NOW)
    assert [sign.score for sign in by_name] == [0.6]
    assert [sign.score for sign in by_words] == [0.9]


@pytest.mark.parametrize(
    "key", ["README.md", "index.html", "restore.sql", "docs/how-to-cook.pdf", "a.txt"]
)
def test_ordinary_names_are_no_notes(key: str) -> None:
    events = [created(f"{n}/{key}", size_bytes=900) for n in range(9)]
    assert find_notes(count_notes({}, events, frozenset()), now=NOW) == []


def sampled(key_id: str, *, before: str | None = "", problem: Any = "") -> SampledWrite:
    old = None if before is None else _under(before)
    return SampledWrite(replace(_under(key_id), problem=problem), old)


def _under(key_id: str) -> Sample:
    return Sample("k", "1", encryption="aws:kms" if key_id else "AES256", kms_key_id=key_id)


def switched(writes: list[SampledWrite], allowed: str = "", began: datetime = BEGAN) -> list[Sign]:
    keys = count_keys({}, [(NOW, write) for write in writes])
    return find_key_switch(keys, frozenset({allowed}), since=began, now=NOW)


def test_customer_keys_over_readable_versions_decide() -> None:
    [sign] = switched([sampled("", problem="sse-c")] * 3)
    assert sign.score == 0.97
    assert switched([sampled("", problem="sse-c", before=None)] * 3) == []


def test_an_unknown_kms_key_is_a_sign_and_the_plans_own_is_none() -> None:
    assert [sign.score for sign in switched([sampled("arn:b", before="arn:a")] * 3)] == [0.8]
    assert switched([sampled("arn:b", before="arn:a")] * 3, allowed="arn:b") == []
    assert switched([sampled("arn:b", before="arn:a")] * 3, began=NOW) == []


def test_a_customers_key_is_seen_in_a_bucket_of_very_many_keys() -> None:
    """Each tenant has one: what is new is not left out for what is known."""
    many = [sampled(f"arn:tenant-{n}", before=None) for n in range(MOST_KEYS + 50)]
    known = count_keys({}, [(BEGAN, write) for write in many])
    assert len(known) == MOST_KEYS
    keys = count_keys(known, [(NOW, sampled("", problem="sse-c"))] * 3)
    [sign] = find_key_switch(keys, frozenset(), since=BEGAN, now=NOW)
    assert (sign.subject, sign.score) == ("SSE-C", 0.97)


def compared(**after: Any) -> list[Sign]:
    before = Settings("b", BEGAN, dict(SOUND) | {"policy": {"Statement": [ALLOW]}})
    return compare_settings(before, Settings("b", NOW, before.parts | after))


ALLOW = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::1:root"}, "Action": "s3:*"}
EXPIRE = {"ID": "x", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1}}


@pytest.mark.parametrize(
    ("part", "value", "score"),
    [
        ("versioning", {"Status": "Suspended"}, 0.85),
        ("lifecycle", {"Rules": [EXPIRE]}, 0.85),
        ("lifecycle", {"Rules": [EXPIRE | {"Expiration": {"Date": "2026-03-31"}}]}, 0.85),
        ("encryption", {"Rules": [{"key": "arn:other"}]}, 0.6),
        ("policy", {"Statement": [ALLOW, ALLOW | {"Principal": "*"}]}, 0.6),
        ("policy", {"Statement": [ALLOW, {"Effect": "Deny", "Principal": "*"}]}, 0.5),
        ("notification", None, 0.7),
    ],
)
def test_a_setting_turned_against_the_data_is_found(part: str, value: Any, score: float) -> None:
    [sign] = compared(**{part: value})
    assert (sign.score, sign.at) == (score, BEGAN)


def test_settings_that_protect_more_are_no_signs() -> None:
    lock = {"Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 7}}}
    harmless = EXPIRE | {"Expiration": {"Days": 365}}
    assert compared() == []
    assert compared(lock=lock, lifecycle={"Rules": [harmless]}) == []
    assert compared(lifecycle={"Rules": [EXPIRE | {"Status": "Disabled"}]}) == []


def test_rules_that_remove_older_versions_are_remembered_when_they_are_gone() -> None:
    """A restore asks which were there since; the list of versions does not tell what they took."""
    older = {"NoncurrentVersionExpiration": {"NoncurrentDays": 1}}
    rule = {"Status": "Enabled", "Filter": {"Prefix": "logs/"}, **older}

    def at(day: int, *rules: Any, unknown: dict[str, str] | None = None) -> Settings:
        parts = {"lifecycle": {"Rules": list(rules)} if rules else None}
        return Settings("b", NOW + timedelta(days=day), parts, unknown or {})

    seen = note_rules((), at(0, rule, {**rule, "Status": "Disabled"}, EXPIRE))
    seen = note_rules(seen, at(1, rule))
    seen = note_rules(seen, at(2))
    assert seen == (SeenRule("logs/", 1, NOW, NOW + timedelta(days=1)),)
    assert note_rules(seen, at(3, rule, unknown={"lifecycle": "access-denied"})) == seen
    whole = {"Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 9}}
    fresh = SeenRule("", 9, NOW + timedelta(days=4), NOW + timedelta(days=4))
    assert note_rules(seen, at(4, whole)) == (*seen, fresh)
    assert note_rules(seen, at(4, whole), most=1) == (fresh,)


def test_a_lock_that_protects_less_is_found() -> None:
    def lock(days: int, mode: str = "GOVERNANCE") -> dict[str, Any]:
        return {"lock": {"Rule": {"DefaultRetention": {"Mode": mode, "Days": days}}}}

    def change(before: dict[str, Any], after: dict[str, Any]) -> list[Sign]:
        return compare_settings(Settings("b", BEGAN, before), Settings("b", NOW, after))

    assert change(lock(30), lock(30, "COMPLIANCE")) == []
    assert [it.score for it in change(lock(30), lock(1))] == [0.8]
    assert [it.score for it in change(lock(30, "COMPLIANCE"), lock(30))] == [0.8]


def test_a_part_that_may_not_be_read_any_more_is_a_sign_and_a_blind_spot() -> None:
    before = Settings("b", BEGAN, dict(SOUND))
    after = Settings("b", NOW, {**SOUND}, {"policy": "access-denied"})
    [sign] = compare_settings(before, after)
    assert "may not be read" in sign.found
    assert find_blind_settings(after) == ["settings policy: access-denied"]
    assert compare_settings(after, after) == []


def test_a_canary_looks_like_a_document_and_follows_from_its_seed() -> None:
    made = {make_canary(seed, f"{n}/", place) for seed in (b"a" * 16, b"b" * 16)
            for n in range(20) for place in ("first", "last")}  # fmt: skip
    assert len({key for key, _ in made}) > 70
    assert len({body for _, body in made}) == 80
    assert make_canary(b"a" * 16, "x/", "first") == make_canary(b"a" * 16, "x/", "first")
    for key, body in made:
        assert not look_at(key, body).flag
        assert 2000 < len(body) < 65536


def test_what_happens_to_a_canary() -> None:
    key, body = make_canary(b"a" * 16, "x/", "first")
    canary = Canary(key, hashlib.sha256(body).hexdigest(), BEGAN)
    found = {
        "kept": judge_canary(canary, Sample(key, "1", body, len(body)), NOW),
        "edited": judge_canary(canary, Sample(key, "2", body + b"!", len(body) + 1), NOW),
        "encrypted": judge_canary(canary, Sample(key, "2", noise(9000), 9000), NOW),
        "gone": judge_canary(canary, Sample(key, "", problem="gone"), NOW),
        "denied": judge_canary(canary, Sample(key, "", problem="denied"), NOW),
    }
    assert {name: sign and sign.score for name, sign in found.items()} == {
        "kept": None, "edited": 0.9, "encrypted": 0.97, "gone": 0.8, "denied": None,
    }  # fmt: skip


def test_the_planting_of_a_canary_is_no_touch() -> None:
    canary = Canary("x/a.csv", "00", NOW)
    assert find_touched([canary], [created("x/a.csv", -1)]) == []
    assert len(find_touched([canary], [created("x/a.csv", 1)])) == 1


def test_different_keys_that_grew_alike_are_found_and_a_log_is_not() -> None:
    alike = [Grown(NOW, f"k{n}", 512) for n in range(12)]
    assert find_growth("b", alike) is not None
    assert find_growth("b", [Grown(NOW, "log", 512)] * 40) is None
    assert find_growth("b", [Grown(NOW, f"k{n}", n) for n in range(40)]) is None
    assert find_growth("b", []) is None


def test_an_event_of_s3_is_read() -> None:
    event = {
        "id": "e1", "detail-type": "Object Deleted", "time": "2026-03-30T14:02:00Z",
        "detail": {
            "bucket": {"name": "files"}, "reason": "DeleteObject", "requester": "123",
            "deletion-type": "Permanently Deleted",
            "object": {"key": "a b/ü.txt", "version-id": "v1", "sequencer": "00AA"},
        },
    }  # fmt: skip
    found = read_event(event)
    assert (found.kind, found.key, found.permanent) == ("deleted", "a b/ü.txt", True)
    assert found.size_bytes is None
    assert bucket_of(event) == "files"
    assert BucketEvent.from_json(found.to_json()) == found


@pytest.mark.parametrize("event", [{}, {"detail-type": "Object Tags Added"}, {"detail": None}])
def test_another_event_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refused:
        read_event(event)
    assert refused.value.instance_code == "not-an-s3-event"
