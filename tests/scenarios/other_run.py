"""A run of another scenario that holds a component, for tests of two at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chalicelib.adapters.clock import SystemClock
from chalicelib.incidents.fence import acquire_fence, require_fence
from chalicelib.ports import StateStore

OTHER = "run-20261122T000000Z-other"


@contextmanager
def held_by_another(state: StateStore, component: str) -> Iterator[str]:
    """The id of the run, which runs inside the block; what it holds is its own to the end."""
    running = {"run_id": OTHER, "status": "running"}
    if not state.create(f"run#{OTHER}", "run", running):
        state.replace(f"run#{OTHER}", "run", running, expected={})
    token = acquire_fence(state, component, OTHER, clock=SystemClock())
    yield OTHER
    assert require_fence(state, component, OTHER) == token
    state.replace(f"run#{OTHER}", "run", {"run_id": OTHER, "status": "finished"}, expected={})
