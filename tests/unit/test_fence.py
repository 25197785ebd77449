"""The fence of a component: one holder, tokens that only grow, whatever dies when."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import Fenced
from chalicelib.incidents.fence import acquire_fence, release_fence, require_fence
from tests.fakes_state import InMemoryState, ManualClock

CLOCK = ManualClock()


def running(state: InMemoryState, run_id: str) -> str:
    state.create(f"run#{run_id}", "run", {"status": "running"})
    return run_id


def test_acquiring_again_gives_the_same_token() -> None:
    state = InMemoryState()
    run = running(state, "run-a")
    assert acquire_fence(state, "db", run, clock=CLOCK) == 1
    assert acquire_fence(state, "db", run, clock=CLOCK) == 1


def test_a_second_run_is_refused_while_the_first_one_runs() -> None:
    state = InMemoryState()
    acquire_fence(state, "db", running(state, "run-a"), clock=CLOCK)
    with pytest.raises(Fenced) as refused:
        acquire_fence(state, "db", running(state, "run-b"), clock=CLOCK)
    assert "run-a" in refused.value.message
    assert refused.value.hint


def test_another_component_is_not_held() -> None:
    state = InMemoryState()
    acquire_fence(state, "db", running(state, "run-a"), clock=CLOCK)
    assert acquire_fence(state, "other", running(state, "run-b"), clock=CLOCK) == 1


def test_a_release_keeps_the_count() -> None:
    state = InMemoryState()
    acquire_fence(state, "db", running(state, "run-a"), clock=CLOCK)
    release_fence(state, "db", "run-a", clock=CLOCK)
    assert acquire_fence(state, "db", running(state, "run-b"), clock=CLOCK) == 2


def test_a_run_that_ended_without_releasing_is_followed() -> None:
    state = InMemoryState()
    acquire_fence(state, "db", running(state, "run-a"), clock=CLOCK)
    state.replace("run#run-a", "run", {"status": "failed"}, expected={})
    assert acquire_fence(state, "db", running(state, "run-b"), clock=CLOCK) == 2
    with pytest.raises(Fenced):
        require_fence(state, "db", "run-a")
    release_fence(state, "db", "run-a", clock=CLOCK)
    assert require_fence(state, "db", "run-b") == 2


def test_a_component_nobody_holds_may_not_be_acted_on() -> None:
    with pytest.raises(Fenced):
        require_fence(InMemoryState(), "db", "run-a")


def test_of_many_at_once_exactly_one_holds() -> None:
    state = InMemoryState()
    runs = [running(state, f"run-{n}") for n in range(16)]
    won, start = [], threading.Barrier(len(runs))

    def attempt(run: str) -> None:
        start.wait()
        try:
            won.append((run, acquire_fence(state, "db", run, clock=CLOCK)))
        except Fenced:
            return

    threads = [threading.Thread(target=attempt, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert won[0][1] == 1


@given(
    st.lists(
        st.sampled_from(["acquire", "release", "end"]).flatmap(
            lambda act: st.tuples(st.just(act), st.integers(0, 3))
        ),
        max_size=40,
    )
)
def test_tokens_only_grow_and_never_two_hold(acts: list[tuple[str, int]]) -> None:
    state = InMemoryState()
    ended: set[int] = set()
    tokens: list[tuple[int, int]] = []
    for number in range(4):
        running(state, f"run-{number}")
    for act, number in acts:
        run = f"run-{number}"
        if act == "acquire" and number not in ended:
            try:
                tokens.append((acquire_fence(state, "db", run, clock=CLOCK), number))
            except Fenced:
                continue
        elif act == "release":
            release_fence(state, "db", run, clock=CLOCK)
        elif act == "end":
            ended.add(number)
            state.replace(f"run#{run}", "run", {"status": "failed"}, expected={})
    assert [token for token, _ in tokens] == sorted(token for token, _ in tokens)
    holders: dict[int, int] = {}
    for token, number in tokens:
        assert holders.setdefault(token, number) == number
