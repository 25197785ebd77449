"""The watch as a whole: what it remembers, what it says it cannot see, and what it quarantines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.adapters.s3.samples import S3Samples
from chalicelib.errors import NotReady, Unavailable
from chalicelib.plan.records import RecoveryPoint
from chalicelib.plan.signs import BucketEvent, Judgement, SeenRule, Sign, Watched
from chalicelib.verify.canaries import plant_canaries
from chalicelib.verify.ransomware import (
    WatchPolicy,
    choose_samples,
    clear_signs,
    last_look,
    note_events,
    seen_rules,
    watch_bucket,
    watch_noted,
)
from chalicelib.verify.signs.judge import INFECTED, judge, points_to_quarantine
from tests.fakes import InMemoryObjectStore
from tests.fakes_bucket import InMemoryBucket
from tests.fakes_state import InMemoryState, ManualClock
from tests.noise import noise

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
TEXT = b"The quarter closed with a balance carried forward. " * 60


class Watch:
    """A bucket with its watch; `look` takes the events since the last one."""

    def __init__(self, policy: WatchPolicy | None = None) -> None:
        self.bucket, self.state, self.clock = InMemoryBucket(), InMemoryState(), ManualClock(NOW)
        self.policy = policy
        self.events: list[BucketEvent] = []

    def write(self, key: str, body: bytes = TEXT, **sample: Any) -> datetime:
        self.clock.sleep(5)
        self.events.append(self.bucket.write(key, body, self.clock.now(), **sample))
        return self.clock.now()

    def delete(self, key: str, reason: str = "DeleteObject") -> None:
        self.clock.sleep(1)
        self.events.append(self.bucket.delete(key, self.clock.now(), reason))

    def fill(self, count: int = 30) -> list[str]:
        keys = [f"work/{n % 3}/letter-{n}.txt" for n in range(count)]
        for key in keys:
            self.write(key)
        return keys

    def look(self) -> Watched:
        events, self.events = self.events, []
        return self._look(events)

    def _look(self, events: list[BucketEvent]) -> Watched:
        return watch_bucket(
            self.bucket.name, events, state=self.state, reader=self.bucket, clock=self.clock,
            policy=self.policy,
        )  # fmt: skip

    def live(self, days: int) -> None:
        """Days of ordinary work, so that habits are known."""
        for day in range(days):
            self.clock.sleep(86400)
            for number in range(4):
                self.write(f"work/{number}/day-{day}.txt")
            self.look()


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_a_quiet_bucket_is_judged_clean_and_what_is_not_known_yet_is_named(watch: Watch) -> None:
    watch.fill()
    found = watch.look()
    assert (found.judgement.infected, found.judgement.suspicion) == (False, 0)
    assert found.judgement.started_at is None
    assert any("history" in it for it in found.blind)
    assert any("none is planted" in it for it in found.blind)
    last = last_look(watch.bucket.name, state=watch.state)
    assert last is not None
    assert (last.looked_at, last.blind) == (found.looked_at, found.blind)


def test_nothing_is_blind_once_habits_are_known_and_canaries_planted(watch: Watch) -> None:
    class Store(InMemoryObjectStore):
        def put(self, key: str, data: bytes, **more: Any) -> Any:
            watch.write(key, data)
            return super().put(key, data, **more)

    plant_canaries(
        watch.bucket.name, ["work"], seed=b"s" * 16, store=Store(), state=watch.state,
        clock=watch.clock,
    )  # fmt: skip
    watch.fill()
    watch.live(8)
    found = watch.look()
    assert found.blind == ()
    assert found.judgement.suspicion == 0


def test_overwritten_objects_are_an_infection_since_the_first_of_them(watch: Watch) -> None:
    keys = watch.fill()
    watch.look()
    first = [watch.write(key, noise(5000, key)) for key in keys[:12]][0]
    found = watch.look().judgement
    assert found.infected
    assert found.started_at == first


def test_an_infection_stays_one_until_a_person_clears_it(watch: Watch) -> None:
    keys = watch.fill()
    for key in keys:
        watch.write(key, noise(5000, key))
    first = watch.look().judgement
    watch.live(40)
    later = watch.look().judgement
    assert later.infected
    assert later.started_at == first.started_at

    clear_signs(watch.bucket.name, state=watch.state)
    assert not watch.look().judgement.infected
    for key in keys[:12]:
        watch.write(key)
        watch.write(key, noise(5000, key))
    assert watch.look().judgement.infected


def test_events_are_taken_in_once_however_often_they_come(watch: Watch) -> None:
    watch.fill(12)
    events = list(watch.events)
    assert watch.look().events == 12
    again = watch._look([*events, *reversed(events)])
    assert (again.events, again.sampled) == (0, 0)
    assert watch.state.get("signs#files", "profile")["writes"] == 12  # type: ignore[index]


def test_noted_events_are_looked_at_and_forgotten(watch: Watch) -> None:
    watch.fill(6)
    assert note_events("files", watch.events, watch.state) == 6
    assert note_events("files", watch.events, watch.state) == 0
    found = watch_noted("files", state=watch.state, reader=watch.bucket, clock=watch.clock)
    assert found.events == 6
    assert list(watch.state.query("signs#files", "event#")) == []


def test_a_crash_after_the_look_counts_nothing_twice(watch: Watch) -> None:
    """The profile is written, the noted events are not removed yet."""
    watch.fill(6)
    note_events("files", watch.events, watch.state)
    watch.look()
    found = watch_noted("files", state=watch.state, reader=watch.bucket, clock=watch.clock)
    assert found.events == 0
    assert list(watch.state.query("signs#files", "event#")) == []


def test_two_looks_at_once_do_not_lose_each_others_findings(watch: Watch) -> None:
    watch.fill(3)
    watch.look()

    class Slow(InMemoryBucket):
        def read_writes(self, *arguments: Any) -> Iterator[Any]:
            watch.look()
            return watch.bucket.read_writes(*arguments)

    watch.write("work/1/late.txt")
    events, watch.events = watch.events, []
    with pytest.raises(Unavailable) as refused:
        watch_bucket("files", events, state=watch.state, reader=Slow(), clock=watch.clock)
    assert refused.value.instance_code == "watched-meanwhile"
    assert watch._look(events).events == 1


def test_a_run_reads_no_more_than_its_budget_and_says_so() -> None:
    watch = Watch(WatchPolicy(samples=10))
    watch.fill(40)
    found = watch.look()
    assert watch.bucket.read == 10
    assert (found.sampled, found.unread) == (10, 30)


def test_a_flood_is_judged_by_its_sample_and_too_small_a_sample_is_said() -> None:
    watch = Watch(WatchPolicy(samples=20))
    keys = [f"w/{n}.txt" for n in range(3000)]
    for key in keys:
        watch.write(key)
    assert any("20 of 3000 writes" in it for it in watch.look().blind)
    for key in keys:
        watch.write(key, noise(3000, key))
    assert watch.look().judgement.infected


@given(st.integers(0, 30), st.integers(0, 60))
def test_the_choice_of_samples_is_of_the_last_write_of_each_key(keys: int, count: int) -> None:
    events = [
        BucketEvent(str(n), NOW + timedelta(seconds=n), "created", f"k{n % (keys + 1)}")
        for n in range(60)
    ]
    chosen = choose_samples(events, count)
    assert len(chosen) == min(count, keys + 1)
    assert chosen == choose_samples(events, count)
    last = {event.key: event for event in events}
    assert all(event is last[event.key] for event in chosen)


def test_customer_keys_over_readable_objects_are_an_infection(watch: Watch) -> None:
    keys = watch.fill(12)
    watch.look()
    first = [watch.write(key, problem="sse-c") for key in keys[:4]][0]
    found = watch.look().judgement
    assert found.infected
    assert found.started_at == first


def test_objects_that_may_not_be_read_are_no_infection_and_no_green(watch: Watch) -> None:
    keys = watch.fill(12)
    watch.look()
    for key in keys:
        watch.write(key, problem="denied")
    found = watch.look()
    assert not found.judgement.infected
    assert "content: 12 of 12 sampled objects may not be read" in found.blind


def test_encrypted_uploads_are_an_upload_until_what_they_replace_is_deleted(watch: Watch) -> None:
    keys = watch.fill()
    watch.live(8)
    for key in keys:
        watch.write(f"{key}.aes", noise(5000, f"{key}.aes"))
    uploaded = watch.look().judgement
    assert not uploaded.infected
    for key in keys:
        watch.delete(key)
    assert watch.look().judgement.infected


def test_a_mass_deletion_is_a_burst_and_a_lifecycle_rules_is_none(watch: Watch) -> None:
    keys = watch.fill(120)
    watch.live(8)
    for key in keys[:60]:
        watch.delete(key, reason="Lifecycle Expiration")
    assert watch.look().judgement.suspicion == 0
    for key in keys[60:]:
        watch.delete(key)
    found = watch.look().judgement
    assert found.suspicion == 0.7
    assert not found.infected


def test_content_that_always_looked_encrypted_is_named_a_blind_spot(watch: Watch) -> None:
    for day in range(6):
        for number in range(200):
            watch.write(f"vault/{day}-{number}.bin", noise(2000, f"vault/{day}-{number}.bin"))
        watch.look()
        watch.clock.sleep(86400)
    found = watch.look()
    assert not found.judgement.infected
    assert any("own writes look encrypted" in it for it in found.blind)


def test_an_attack_that_was_dealt_with_is_no_habit_of_the_bucket(watch: Watch) -> None:
    """The second one would look as usual, days later, and nobody would be told."""
    keys = watch.fill(70)
    watch.live(8)
    for key in keys:
        watch.write(key, noise(5000, key))
    assert watch.look().judgement.infected
    clear_signs(watch.bucket.name, state=watch.state)
    for key in keys:
        watch.write(key)
    watch.live(4)
    again = [watch.write(key, noise(5000, f"again {key}")) for key in keys[:12]]
    found = watch.look().judgement
    assert (found.infected, found.started_at) == (True, again[0])


def test_what_an_attack_deleted_at_once_is_no_burst_that_is_usual(watch: Watch) -> None:
    keys = watch.fill(160)
    watch.live(8)
    for key in keys[:70]:
        watch.delete(key)
    for key in keys[70:90]:
        watch.write(key, noise(5000, key))
    first = watch.look().judgement
    assert first.infected
    clear_signs(watch.bucket.name, state=watch.state)
    watch.live(3)
    for key in keys[90:150]:
        watch.delete(key)
    assert watch.look().judgement.suspicion == 0.7


def test_a_bucket_with_encrypted_uploads_is_watched_up_to_where_it_is_named_blind(
    watch: Watch,
) -> None:
    """A twelfth of its writes is encrypted by habit; then all of them are."""
    for day in range(6):
        for number in range(240):
            key = f"vault/{day}-{number}.bin"
            watch.write(key, noise(2000, key) if number % 12 == 0 else TEXT)
        watch.look()
        watch.clock.sleep(86400)
    before = watch.look()
    assert not any("own writes look encrypted" in it for it in before.blind)
    assert before.judgement.suspicion < 0.5
    for number in range(40):
        watch.write(f"vault/new-{number}.bin", noise(2000, f"vault/new-{number}.bin"))
    assert watch.look().judgement.suspicion >= 0.85


def test_events_that_wait_for_the_next_look_are_named(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.verify.ransomware.EVENTS_PER_RUN", 5)
    watch.fill(7)
    note_events(watch.bucket.name, watch.events, watch.state)
    how: dict[str, Any] = {"state": watch.state, "reader": watch.bucket, "clock": watch.clock}
    looks = [watch_noted(watch.bucket.name, **how) for _ in range(2)]
    assert [it.events for it in looks] == [5, 2]
    waiting = [[told for told in it.blind if told.startswith("events:")] for it in looks]
    assert waiting == [["events: more than 5 came since the last look, the rest waits"], []]


def test_a_setting_that_was_hidden_meanwhile_is_compared_with_the_last_that_was_seen(
    watch: Watch,
) -> None:
    watch.look()
    parts = watch.bucket.parts
    watch.bucket.parts = {name: it for name, it in parts.items() if name != "versioning"}
    watch.bucket.unknown = {"versioning": "access-denied"}
    hidden = watch.look()
    assert hidden.judgement.suspicion == 0.5
    assert "settings versioning: access-denied" in hidden.blind
    watch.bucket.parts, watch.bucket.unknown = parts | {"versioning": {"Status": "Suspended"}}, {}
    assert watch.look().judgement.suspicion == 0.85


def test_a_rule_that_came_and_went_is_kept_with_its_times(watch: Watch) -> None:
    rule = {"Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}
    watch.look()
    assert seen_rules(watch.bucket.name, state=watch.state) == ()
    watch.bucket.parts["lifecycle"] = {"Rules": [rule]}
    first = watch.look().looked_at
    watch.clock.sleep(300)
    last = watch.look().looked_at
    watch.bucket.parts["lifecycle"] = None
    watch.clock.sleep(300)
    watch.look()
    assert seen_rules(watch.bucket.name, state=watch.state) == (SeenRule("", 1, first, last),)


def test_state_stays_small_however_much_is_written(watch: Watch) -> None:
    for day in range(12):
        for number in range(300):
            watch.write(f"f/{day}/{number}.e{number}", noise(1100, f"f/{day}/{number}.e{number}"))
        watch.look()
        watch.clock.sleep(40000)
    size = len(json.dumps(watch.state.get("signs#files", "profile")))
    assert size < 250_000  # DynamoDB takes 400 KB


def sign(
    family: Any, score: float, hours: float = 0, subject: str = "b", detector: str = ""
) -> Sign:
    at = NOW - timedelta(hours=hours)
    return Sign(detector or family, family, score, subject, at, f"{family} found")


@pytest.mark.parametrize(
    ("signs", "infected"),
    [
        ([], False),
        ([sign("content", 0.99)], True),
        ([sign("content", 0.85)], False),
        ([sign("burst", 0.7)], False),
        ([sign("burst", 0.7), sign("names", 0.65)], False),
        ([sign("burst", 0.3), sign("content", 0.85)], False),
        ([sign("burst", 0.7), sign("content", 0.85)], True),
        ([sign("names", 0.9), sign("burst", 0.7)], True),
        ([sign("canary", 0.8, subject="a")], False),
        ([sign("canary", 0.8, subject="a")] * 2, False),
        ([sign("canary", 0.8, subject="a"), sign("canary", 0.8, subject="b")], True),
        ([sign("configuration", 0.85)], False),
        ([sign("configuration", 0.85, detector="settings-versioning"),
          sign("configuration", 0.85, detector="settings-lifecycle")], True),
        ([sign("configuration", 0.85, 24 * 6), sign("canary", 0.9)], True),
        ([sign("configuration", 0.85, 24 * 8), sign("canary", 0.9)], False),
        ([sign("keys", 0.97)], True),
    ],
)  # fmt: skip
def test_what_decides_alone_and_what_together(signs: list[Sign], infected: bool) -> None:
    found = judge(signs, now=NOW)
    assert found.infected is infected
    assert (found.suspicion >= INFECTED) is infected


def test_the_start_reaches_back_to_linked_signs_and_to_preparations_alone() -> None:
    content, burst = sign("content", 0.99), sign("burst", 0.7, 20)
    stray = sign("burst", 0.7, 100)
    prepared = sign("configuration", 0.85, 150)
    assert judge([content, burst, stray], now=NOW).started_at == burst.at
    assert judge([content, stray], now=NOW).started_at == content.at
    assert judge([content, prepared], now=NOW).started_at == prepared.at


def test_records_survive_their_json() -> None:
    judged = judge([sign("content", 0.99), sign("canary", 0.8)], now=NOW)
    watched = Watched("b", NOW, 1, 1, 0, judged, ("canaries: none is planted",))
    assert Watched.from_json(json.loads(json.dumps(watched.to_json()))) == watched


def point(hours: float) -> RecoveryPoint:
    at = NOW + timedelta(hours=hours)
    return RecoveryPoint(
        id=f"p{hours}", component="files", kind="objects", taken_at=at - timedelta(hours=2),
        finished_at=at, objects=(), source_bytes=0, encryption="none",
    )  # fmt: skip


def test_every_point_that_was_finished_after_the_start_is_suspect() -> None:
    points = [point(hours) for hours in (-30, -2, -0.5, 0.5, 30)]
    infected = Judgement(True, 0.99, NOW, "why")
    assert [it.point_id for it in points_to_quarantine(points, infected)] == [
        "p-0.5",
        "p0.5",
        "p30",
    ]
    unknown = Judgement(True, 0.99, None, "why")
    assert len(points_to_quarantine(points, unknown)) == 5
    assert points_to_quarantine(points, Judgement(False, 0.9, NOW, "why")) == ()


@pytest.mark.parametrize(
    ("code", "status", "problem"),
    [
        ("NoSuchKey", 404, "gone"),
        ("InvalidRequest", 400, "sse-c"),
        ("InvalidObjectState", 403, "archived"),
        ("AccessDenied", 403, "denied"),
        ("KMS.DisabledException", 400, "denied"),
    ],
)
def test_what_s3_answers_says_why_an_object_was_not_read(
    code: str, status: int, problem: str
) -> None:
    client = boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    with Stubber(client) as stub:
        stub.add_client_error("get_object", code, http_status_code=status)
        if problem == "denied":
            stub.add_response("head_object", {"SSEKMSKeyId": "arn:other"})
        found = S3Samples(client, "files").read_object("a")
    assert found.problem == problem
    assert found.kms_key_id == ("arn:other" if problem == "denied" else "")


def test_parts_that_are_denied_or_not_known_to_the_server_are_named() -> None:
    client = boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    with Stubber(client) as stub:
        stub.add_response("get_bucket_versioning", {"Status": "Enabled"})
        stub.add_client_error(
            "get_bucket_lifecycle_configuration", "AccessDenied", http_status_code=403
        )
        for call in ("policy", "encryption", "replication", "logging", "ownership_controls"):
            if call == "replication":
                stub.add_client_error("get_object_lock_configuration", "NotImplemented", "", 501)
            stub.add_client_error(f"get_bucket_{call}", "NotImplemented", http_status_code=501)
        stub.add_client_error("get_public_access_block", "NotImplemented", http_status_code=501)
        stub.add_response("get_bucket_notification_configuration", {"EventBridgeConfiguration": {}})
        found = S3Samples(client, "files").settings(NOW)
    assert found.parts["versioning"] == {"Status": "Enabled"}
    assert found.unknown["lifecycle"] == "access-denied"
    assert found.unknown["lock"] == "not-implemented"
    assert found.parts.keys() == {"versioning", "notification"}


def test_a_bad_request_of_another_kind_is_no_sign() -> None:
    client = boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    with Stubber(client) as stub:
        stub.add_client_error("get_object", "ExpiredToken", http_status_code=400)
        with pytest.raises(NotReady):
            S3Samples(client, "files").read_object("a")
