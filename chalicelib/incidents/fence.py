"""The fence of a component: which run may act on it, proven by a token that only grows.

    run A acquires ----- token 7 ----------------- A ends, releases
                 run B tries: Fenced                       run C acquires: token 8
                              A dies unrecorded; its run is ended as failed; C acquires: token 8

must: two runs never hold one component. must: a token is never given twice, not even after a
release. A run that has ended (whatever its outcome) no longer holds; its successor takes over.
"""

from __future__ import annotations

from typing import Any

from chalicelib.errors import Fenced
from chalicelib.plan.records import format_time
from chalicelib.ports import Clock, StateStore

FREE = ""
# Sort keys of what a run holds or tried to: written before the fence, so that none is forgotten.
HELD = "held#"


def acquire_fence(state: StateStore, component: str, run_id: str, *, clock: Clock) -> int:
    """The token of `run_id` on `component`; the same one when it holds it already.

    Raises:
        Fenced: another run that has not ended holds the component.
    """
    partition = _partition(component)
    state.create(f"run#{run_id}", f"{HELD}{component}", {"component": component})
    while True:
        held = state.get(partition, "fence")
        if held is None:
            item = _item(1, run_id, clock)
            if state.create(partition, "fence", item):
                return 1
            continue
        if held["run_id"] == run_id:
            return int(held["token"])
        _refuse_if_running(state, component, held)
        token = int(held["token"]) + 1
        unchanged = {"token": held["token"], "run_id": held["run_id"]}
        if state.replace(partition, "fence", _item(token, run_id, clock), expected=unchanged):
            return token


def require_fence(state: StateStore, component: str, run_id: str) -> int:
    """The token, if `run_id` still holds the component: called before every act on a target."""
    held = state.get(_partition(component), "fence")
    if held is None or held["run_id"] != run_id:
        raise Fenced(
            f"run {run_id} does not hold {component}: "
            f"{'nobody does' if held is None else held['run_id'] or 'nobody does'}",
            hint="another run took over; look at its incident before you act",
            component=component,
        )
    return int(held["token"])


def release_fence(state: StateStore, component: str, run_id: str, *, clock: Clock) -> None:
    """Let the next run acquire; keeps the token's count. Harmless when it is not held."""
    held = state.get(_partition(component), "fence")
    if held is not None and held["run_id"] == run_id:
        free = _item(int(held["token"]), FREE, clock)
        expected = {"token": held["token"], "run_id": run_id}
        state.replace(_partition(component), "fence", free, expected=expected)


def release_fences(state: StateStore, run_id: str, *, clock: Clock) -> None:
    """Give back everything that the run holds."""
    for held in state.query(f"run#{run_id}", HELD):
        release_fence(state, held["component"], run_id, clock=clock)


def _refuse_if_running(state: StateStore, component: str, held: dict[str, Any]) -> None:
    if held["run_id"] == FREE:
        return
    run = state.get(f"run#{held['run_id']}", "run")
    if run is not None and run["status"] != "running":
        return
    raise Fenced(
        f"{component} is held by run {held['run_id']} (token {held['token']})",
        hint="wait for that run to end, or stop it, and start this one again",
        component=component,
        holder=held["run_id"],
    )


def _partition(component: str) -> str:
    return f"fence#{component}"


def _item(token: int, run_id: str, clock: Clock) -> dict[str, Any]:
    return {"token": token, "run_id": run_id, "acquired_at": format_time(clock.now())}
