"""What fits into a Lambda runs there, what does not in a task; and why."""

from __future__ import annotations

import pytest

from chalicelib.plan.rooms import LAMBDA, TASK
from chalicelib.recover.placement import Work, decide_placement, seconds_for

GB = 10**9


def place(work: Work, **more: object) -> tuple[str, str]:
    given: dict[str, object] = {"wanted": None, "has_tasks": True} | more
    found = decide_placement(work, **given)  # type: ignore[arg-type]
    return found.where, found.why


def test_a_small_database_fits_into_a_lambda() -> None:
    assert place(Work(data_bytes=2 * GB, wal_bytes=GB // 2))[0] == "lambda"


def test_a_large_one_does_not_fit_on_its_disk() -> None:
    where, why = place(Work(data_bytes=80 * GB, wal_bytes=0, bytes_per_second=1e12, how="measured"))
    assert where == "task"
    assert "120.0 GB of disk needed, 10.7 GB there" in why


def test_one_that_is_slow_to_restore_has_not_the_time() -> None:
    slow = Work(data_bytes=4 * GB, wal_bytes=0, bytes_per_second=10e6, how="measured 2026-11-20")
    where, why = place(slow)
    assert where == "task"
    assert "800 s needed (4.0 GB at 10 MB/s (measured 2026-11-20)), 450 s there" in why
    assert place(Work(data_bytes=4 * GB, wal_bytes=0, bytes_per_second=100e6))[0] == "lambda"


def test_much_wal_counts_as_much_data_does() -> None:
    assert place(Work(data_bytes=GB, wal_bytes=0))[0] == "lambda"
    assert place(Work(data_bytes=GB, wal_bytes=8 * GB))[0] == "task"


def test_what_nobody_measured_is_assumed_and_says_so() -> None:
    assert "assumed" in place(Work(data_bytes=GB, wal_bytes=0))[1]


def test_an_attempt_that_ran_out_of_time_is_the_best_measurement() -> None:
    where, why = place(Work(data_bytes=GB, wal_bytes=0), ran_out=True)
    assert (where, "ran out of time" in why) == ("task", True)


@pytest.mark.parametrize("wanted", ["lambda", "task"])
def test_the_plan_s_word_counts_before_all(wanted: str) -> None:
    huge, small = Work(data_bytes=900 * GB, wal_bytes=0), Work(data_bytes=1, wal_bytes=0)
    assert {place(it, wanted=wanted, has_tasks=False)[0] for it in (huge, small)} == {wanted}


def test_without_tasks_it_is_tried_where_it_can_be_and_said() -> None:
    where, why = place(Work(data_bytes=80 * GB, wal_bytes=0), has_tasks=False)
    assert (where, "no task can be started" in why) == ("lambda", True)


def test_what_is_too_large_for_a_task_too_is_tried_and_said() -> None:
    where, why = place(Work(data_bytes=150 * GB, wal_bytes=0))
    assert (where, "even a task may be too small" in why) == ("task", True)
    assert TASK.disk_bytes > LAMBDA.disk_bytes


def test_the_time_is_that_of_a_worker_that_has_nothing_yet() -> None:
    work = Work(data_bytes=10 * GB, wal_bytes=3 * GB, bytes_per_second=100e6)
    assert seconds_for(work) == pytest.approx(200 + 200)
