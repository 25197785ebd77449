"""Orders to a run's task: whoever gives one knows that somebody is there to take it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from chalicelib.errors import Unavailable
from chalicelib.incidents.orders import Order, close, finish_order, give_order, take_order
from chalicelib.ports import StateStore
from tests.fakes_state import InMemoryState

RUN = "run-20261122T084500Z-nexus-db"
FIRST, SECOND = Order({"step": "restore"}, "token-1"), Order({"step": "replay"}, "token-2")


@dataclass
class Workers:
    there: bool = False
    started: list[str] = field(default_factory=list)

    def start(self, run_id: str) -> None:
        self.started.append(run_id)
        self.there = True

    def is_there(self, run_id: str) -> bool:
        return self.there


class NoCapacity(Workers):
    def start(self, run_id: str) -> None:
        raise Unavailable("no capacity")


@pytest.fixture
def state() -> StateStore:
    return InMemoryState()


def test_the_first_order_starts_a_worker_and_the_next_finds_it(state: StateStore) -> None:
    workers = Workers()
    assert give_order(RUN, FIRST, state=state, workers=workers)
    assert take_order(RUN, state=state) == FIRST
    assert take_order(RUN, state=state) is None
    finish_order(RUN, FIRST, state=state)
    assert not give_order(RUN, SECOND, state=state, workers=workers)
    assert take_order(RUN, state=state) == SECOND
    assert workers.started == [RUN]


def test_a_worker_that_died_with_its_order_is_replaced(state: StateStore) -> None:
    workers = Workers()
    give_order(RUN, FIRST, state=state, workers=workers)
    take_order(RUN, state=state)
    assert give_order(RUN, SECOND, state=state, workers=workers)
    # Of the one that was given up, should it live after all, nothing is changed.
    finish_order(RUN, FIRST, state=state)
    assert take_order(RUN, state=state) == SECOND


def test_a_worker_that_is_gone_between_two_orders_is_replaced(state: StateStore) -> None:
    workers = Workers()
    give_order(RUN, FIRST, state=state, workers=workers)
    take_order(RUN, state=state)
    finish_order(RUN, FIRST, state=state)
    workers.there = False
    assert give_order(RUN, SECOND, state=state, workers=workers)


def test_one_that_is_on_its_way_is_waited_for(state: StateStore) -> None:
    workers = Workers()
    give_order(RUN, FIRST, state=state, workers=workers)
    assert not give_order(RUN, SECOND, state=state, workers=workers)
    assert take_order(RUN, state=state) == SECOND


def test_one_that_closes_takes_nothing_and_is_replaced_though_it_is_still_there(
    state: StateStore,
) -> None:
    workers = Workers()
    assert close(RUN, state=state)
    give_order(RUN, FIRST, state=state, workers=workers)
    assert not close(RUN, state=state), "an order was given meanwhile"
    take_order(RUN, state=state)
    finish_order(RUN, FIRST, state=state)
    assert close(RUN, state=state)
    assert close(RUN, state=state)
    assert give_order(RUN, SECOND, state=state, workers=workers)
    assert workers.started == [RUN, RUN]


def test_an_order_for_which_none_could_be_started_is_given_anew(state: StateStore) -> None:
    with pytest.raises(Unavailable):
        give_order(RUN, FIRST, state=state, workers=NoCapacity())
    workers = Workers()
    assert give_order(RUN, SECOND, state=state, workers=workers)
    assert take_order(RUN, state=state) == SECOND
