"""An attack that is spread over the plan's buckets, so that each has less than it would notice."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.plan.signs import BucketEvent, Judgement
from chalicelib.ports import ObjectStore
from chalicelib.verify.canaries import partition, plant_canaries
from chalicelib.verify.ransomware import clear_signs, watch_bucket
from chalicelib.verify.signs.together import limit_of
from tests.fakes import InMemoryObjectStore
from tests.fakes_bucket import InMemoryBucket
from tests.fakes_state import InMemoryState, ManualClock
from tests.noise import noise

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
TEXT = b"The quarter closed with a balance carried forward. " * 60
NAMES = ("assets", "exports", "letters", "uploads")


class Plan:
    """Buckets with one memory; each is looked at in turn, beside the others or alone."""

    def __init__(self) -> None:
        self.state, self.clock, self.beside = InMemoryState(), ManualClock(NOW), True
        self.buckets = {name: InMemoryBucket(name) for name in NAMES}
        self.events: dict[str, list[BucketEvent]] = {name: [] for name in NAMES}

    def fork(self) -> Plan:
        """The same once more, so that one history serves all tests."""
        other = Plan()
        other.clock.at = self.clock.at
        for name, bucket in self.buckets.items():
            kept = {key: list(versions) for key, versions in bucket.versions.items()}
            other.buckets[name].versions = kept
            # Events are told apart by their numbers.
            other.buckets[name]._number = bucket._number
            for item in self.state.query(partition(name)):
                other.state.create(partition(name), item["sort"], item)
        return other

    def write(self, name: str, key: str, body: bytes = TEXT) -> None:
        self.clock.sleep(5)
        self.events[name].append(self.buckets[name].write(key, body, self.clock.now()))

    def delete(self, name: str, key: str) -> None:
        self.clock.sleep(1)
        self.events[name].append(self.buckets[name].delete(key, self.clock.now()))

    def live(self, days: int) -> None:
        """Ordinary work, so that habits are known."""
        for _ in range(days):
            self.clock.sleep(86400)
            for name in NAMES:
                for number in range(8):
                    self.write(name, f"work/{number}/letter.txt")
            self._look()

    def look(self) -> dict[str, Judgement]:
        """Twice: who is looked at first sees the others as they were."""
        return self._look() and self._look()

    def _look(self) -> dict[str, Judgement]:
        found = {}
        for name, bucket in self.buckets.items():
            events, self.events[name] = self.events[name], []
            others = [other for other in NAMES if other != name] if self.beside else ()
            found[name] = watch_bucket(
                name, events, state=self.state, reader=bucket, clock=self.clock, beside=others
            ).judgement
        return found

    def infected(self) -> set[str]:
        return {name for name, it in self.look().items() if it.infected}


@pytest.fixture(scope="module")
def history() -> Plan:
    """Ten days of work, in which one bucket has had backups of letters from the first on."""
    plan = Plan()
    plan.write("assets", "models/a.txt.bak")
    plan.live(10)
    return plan


@pytest.fixture
def plan(history: Plan) -> Plan:
    return history.fork()


def encrypt(plan: Plan, objects: int, names: tuple[str, ...] = NAMES) -> None:
    for number in range(objects):
        for name in names:
            plan.write(name, f"work/{number}/letter.txt", noise(5000, f"{name}{number}"))


@pytest.mark.parametrize("beside", [True, False])
def test_few_encrypted_writes_in_each_bucket_are_an_attack_together(
    plan: Plan, beside: bool
) -> None:
    plan.beside = beside
    began_at = plan.clock.now()
    encrypt(plan, 5)
    found = plan.look()
    assert {name for name, it in found.items() if it.infected} == (set(NAMES) if beside else set())
    if beside:
        started_at = found["assets"].started_at
        assert started_at
        assert timedelta(0) <= started_at - began_at <= timedelta(seconds=30)
        assert "sampled writes in 4 buckets" in found["assets"].why


def test_a_bucket_that_shows_nothing_is_not_drawn_in(plan: Plan) -> None:
    encrypt(plan, 7, NAMES[:3])
    assert plan.infected() == set(NAMES[:3])


def test_what_was_dealt_with_in_one_bucket_does_not_come_back_from_the_others(
    plan: Plan,
) -> None:
    encrypt(plan, 5)
    assert plan.infected() == set(NAMES)
    for name in NAMES:
        clear_signs(name, state=plan.state)
        assert name not in plan.infected()
    plan.live(2)
    assert plan.infected() == set()


def test_one_ending_behind_the_old_ones_in_all_buckets_is_a_sign(history: Plan) -> None:
    """Too few in each for a drift, and for a run of writes that look encrypted."""
    found = {}
    for beside in (True, False):
        plan = history.fork()
        plan.beside = beside
        for name in NAMES:
            for number in range(3):
                plan.write(name, f"work/{number}/letter.txt.locked")
        found[beside] = plan.look()["assets"]
    assert found[False].suspicion == 0
    assert [sign.detector for sign in found[True].signs] == ["extension-drift"]
    assert found[True].suspicion == 0.65


def test_an_ending_that_one_bucket_knows_is_no_sign_in_the_others(plan: Plan) -> None:
    for name in NAMES[1:]:
        for number in range(5):
            plan.write(name, f"work/{number}/letter.txt.bak")
    assert plan.look()["letters"].suspicion == 0


def test_a_note_in_a_folder_of_three_buckets_is_one(plan: Plan) -> None:
    for name in NAMES[:3]:
        plan.write(name, "work/HOW_TO_DECRYPT_FILES.txt", b"ask the help desk")
    found = plan.look()
    assert [sign.detector for sign in found["assets"].signs] == ["ransom-note"]
    assert found["uploads"].suspicion == 0


def test_one_deleted_canary_in_each_of_two_buckets_decides(plan: Plan) -> None:
    for name in NAMES:
        keys = plant(plan, name)
        if name in NAMES[:2]:
            plan.delete(name, keys[0])
    assert plan.infected() == set(NAMES[:2])


def plant(plan: Plan, name: str) -> list[str]:
    class Store(InMemoryObjectStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False) -> object:
            plan.buckets[name].write(key, data, plan.clock.now())
            return super().put(key, data, if_absent=if_absent)

    store: ObjectStore = Store()  # type: ignore[assignment]
    planted = plant_canaries(
        name, ["work"], seed=b"s" * 16, store=store, state=plan.state, clock=plan.clock
    )
    return [it.key for it in planted]


def test_the_limit_of_many_buckets_is_as_rare_by_chance_as_that_of_one() -> None:
    for number in (1, 2, 5, 20):
        limit = limit_of(16.0, number)
        tail = sum(limit**k / math.factorial(k) for k in range(number)) * math.exp(-limit)
        assert tail <= math.exp(-16.0) * 1.001
        assert tail >= math.exp(-16.0) * 0.95
    assert limit_of(16.0, 1) == pytest.approx(16.0, abs=0.01)
    assert limit_of(16.0, 500) > limit_of(16.0, 50) > limit_of(16.0, 20)
