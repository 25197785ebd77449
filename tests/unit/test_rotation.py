"""Which objects are read when: every one within its promised time, if the budget can do it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.verify.copies.expected import Expected
from chalicelib.verify.copies.rotation import CheckPolicy, choose_reads, order_turns

NOW = datetime(2026, 11, 22, tzinfo=UTC)
EVERY = timedelta(hours=6)


def stored(key: str, size_bytes: int, *, at: datetime = NOW, new: bool = False) -> Expected:
    return Expected(key, "p", size_bytes, "aa", at, "new" if new else "known")


def policy(read_bytes: int | None, days: float = 7) -> CheckPolicy:
    within = timedelta(days=days)
    return CheckPolicy(every=EVERY, read_within=within, read_bytes=read_bytes)


def keys(objects: list[Expected], limit: CheckPolicy) -> list[str]:
    return [item.key for item in choose_reads(objects, limit, now=NOW).reads]


def test_what_waited_longest_is_read_first_and_ties_are_broken_by_name() -> None:
    objects = [
        stored("b", 10, at=NOW - timedelta(days=2)),
        stored("a", 10, at=NOW - timedelta(days=2)),
        stored("c", 10, at=NOW - timedelta(days=3)),
    ]
    assert keys(objects, policy(20)) == ["c", "a"]
    assert keys(list(reversed(objects)), policy(None)) == ["c", "a", "b"]


def test_new_objects_come_early_and_the_newest_of_them_first() -> None:
    objects = [
        stored("old", 10, at=NOW - timedelta(days=3)),
        stored("new", 10, at=NOW - timedelta(days=2), new=True),
        stored("newest", 10, at=NOW - timedelta(days=1), new=True),
    ]
    assert keys(objects, policy(20)) == ["newest", "new"]


def test_new_objects_do_not_push_out_what_is_due() -> None:
    objects = [
        stored("due", 10, at=NOW - timedelta(days=7)),
        stored("newest", 10, at=NOW, new=True),
    ]
    assert keys(objects, policy(10)) == ["due"]


def test_an_object_larger_than_the_budget_is_read_in_its_turn() -> None:
    large = stored("large", 1000, at=NOW - timedelta(days=6.5))
    small = stored("small", 10, at=NOW - timedelta(days=1))
    assert keys([large, small], policy(100)) == ["large"]
    fresh = dataclasses.replace(large, since=NOW)
    assert keys([fresh, small], policy(100)) == ["small"]


def test_no_budget_reads_nothing() -> None:
    assert keys([stored("a", 1, at=NOW - timedelta(days=99))], policy(0)) == []


sizes = st.lists(st.integers(1, 50), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None)
@given(sizes=sizes, arrivals=st.lists(st.integers(0, 20), min_size=60, max_size=60))
def test_a_sufficient_budget_keeps_the_promise_with_one_interval_to_spare(
    sizes: list[int], arrivals: list[int]
) -> None:
    limit = policy(None, days=3)
    # All that there will ever be, read within the runs of one period.
    total = sum(sizes) + sum(arrivals)
    limit = dataclasses.replace(limit, read_bytes=max(-(-total // limit.runs), *sizes, *arrivals))
    objects = {f"o{number:02}": stored(f"o{number:02}", size) for number, size in enumerate(sizes)}
    now = NOW
    for number, size in enumerate(arrivals):
        now += EVERY
        if size:
            objects[f"n{number:02}"] = stored(f"n{number:02}", size, at=now, new=True)
        rotation = choose_reads(objects.values(), limit, now=now)
        for item in rotation.reads:
            objects[item.key] = dataclasses.replace(item, since=now, state="known")
        oldest = min(item.since for item in objects.values())
        assert now - oldest <= limit.read_within - limit.every
        assert limit.read_bytes is not None
        assert sum(item.size_bytes for item in rotation.reads) <= 2 * limit.read_bytes
        assert rotation.needed_bytes <= limit.read_bytes


@given(sizes=st.lists(st.integers(1, 50), min_size=30, max_size=40))
def test_a_budget_that_does_not_suffice_says_so_before_the_promise_is_broken(
    sizes: list[int],
) -> None:
    limit = policy(1, days=1)
    objects = [stored(f"o{number}", size) for number, size in enumerate(sizes)]
    rotation = choose_reads(objects, limit, now=NOW)
    assert rotation.needed_bytes > 1
    assert rotation.needed_bytes * limit.runs >= sum(sizes)


def turns(sizes: dict[str, int], reads: str, slots: int) -> str:
    objects = {key: stored(key, size) for key, size in sizes.items()}
    late = [objects[key] for key in reads]
    return "".join(it.key for it in order_turns(list(objects.values()), late, slots=slots))


def test_what_takes_its_time_comes_after_all_that_is_only_looked_at() -> None:
    assert turns({"a": 50, "b": 1, "c": 60, "d": 1}, "ca", 1) == "bdca"


def test_what_would_be_left_alone_at_the_end_is_begun_first() -> None:
    sizes = {"a": 1, "b": 20, "c": 70, "d": 20, "e": 1, "f": 60}
    assert turns(sizes, "bdcf", 4) == "cfaebd"
    assert turns(sizes, "bdcf", 2) == "aebdcf", "none of them is half of all bytes"
    assert turns({**sizes, "g": 200}, "bdcfg", 2) == "gaebdcf"


def test_half_of_the_slots_are_left_to_what_is_only_looked_at() -> None:
    sizes = dict.fromkeys("abc", 100) | dict.fromkeys("xyz", 1)
    assert turns(sizes, "abc", 4) == "abxyzc"
