"""A request has one effect, whatever is sent again, at once, changed or late."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.errors import LeewardError, Unavailable
from chalicelib.incidents.requests import (
    ABANDONED_AFTER,
    KEPT,
    Begun,
    begin_request,
    finish_request,
    release_request,
)
from tests.fakes_state import InMemoryState, ManualClock


class Desk:
    def __init__(self) -> None:
        self.state, self.clock = InMemoryState(), ManualClock()

    def begin(self, digest: str = "d", key: str = "key-1", subject: str = "cto") -> Begun:
        return begin_request(subject, key, digest, state=self.state, clock=self.clock)

    def refused(self, **given: Any) -> str:
        with pytest.raises(LeewardError) as caught:
            self.begin(**given)
        return caught.value.instance_code


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_first_answer_is_given_again(desk: Desk) -> None:
    first = desk.begin()
    assert first.answer is None
    assert desk.refused() == "in-flight"
    finish_request(first, {"status": 201}, state=desk.state)
    assert desk.begin().answer == {"status": 201}


def test_another_request_with_the_same_key_is_refused_also_in_flight(desk: Desk) -> None:
    first = desk.begin()
    assert desk.refused(digest="another") == "key-reused"
    finish_request(first, {}, state=desk.state)
    assert desk.refused(digest="another") == "key-reused"


def test_keys_are_each_subjects_own(desk: Desk) -> None:
    assert desk.begin().id != desk.begin(subject="vp").id


def test_what_was_left_by_one_that_died_is_done_again_under_the_same_id(desk: Desk) -> None:
    first = desk.begin()
    desk.clock.sleep(ABANDONED_AFTER.total_seconds())
    second = desk.begin()
    assert (second.answer, second.id) == (None, first.id)
    finish_request(first, {"by": "the one that was slow"}, state=desk.state)
    assert desk.refused() == "in-flight"  # the slow one no longer says what came of it
    finish_request(second, {"by": "second"}, state=desk.state)
    assert desk.begin().answer == {"by": "second"}


def test_what_found_nobody_may_be_tried_at_once(desk: Desk) -> None:
    release_request(desk.begin(), state=desk.state)
    assert desk.begin().answer is None


def test_a_key_is_kept_for_a_day(desk: Desk) -> None:
    finish_request(desk.begin(), {"status": 201}, state=desk.state)
    desk.clock.sleep(KEPT.total_seconds() - 1)
    assert desk.begin().answer == {"status": 201}
    desk.clock.sleep(1)
    assert desk.begin(digest="another").answer is None


def test_of_two_that_take_over_at_once_one_does(desk: Desk) -> None:
    desk.begin()
    desk.clock.sleep(ABANDONED_AFTER.total_seconds())

    class Late(InMemoryState):
        """Another took it over between the look and the write."""

        def get(self, partition: str, sort: str) -> dict[str, Any] | None:
            found = desk.state.get(partition, sort)
            desk.begin()
            return found

        create = desk.state.create
        replace = desk.state.replace

    with pytest.raises(LeewardError) as caught:
        begin_request("cto", "key-1", "d", state=Late(), clock=desk.clock)
    assert caught.value.instance_code == "in-flight"
    assert not isinstance(caught.value, Unavailable)
