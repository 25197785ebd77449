"""What a run's worker outside Lambda is to do: one order at a time, in the state.

    given --take--> taken --finish--> done --close--> closed
      ^-------------- give: whatever was there before ----

Whoever gives an order starts a worker when nobody is there to take it: none at all, one that died
with an order in its hands, or one that has closed. Every change names the token of the order that
it is about, so that a worker whose state waits no more changes nothing of the next one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from chalicelib.plan.records import Record
from chalicelib.ports import StateStore
from chalicelib.ports.workers import Workers

Standing = Literal["given", "taken", "done", "closed"]
SORT = "order"


@dataclass(frozen=True)
class Order(Record):
    """One step: its event as a state machine sends it, and the token of the state that waits."""

    event: dict[str, Any]
    token: str


def give_order(run_id: str, order: Order, *, state: StateStore, workers: Workers) -> bool:
    """Let the run's worker do it; True when one was started for it.

    Raises what `Workers.start` raises; the order stands then, and is given anew by the next try.
    """
    before = _put(run_id, order, state)
    waits = before in ("given", "done") and workers.is_there(run_id)
    if not waits:
        workers.start(run_id)
    return not waits


def take_order(run_id: str, *, state: StateStore) -> Order | None:
    """The order that nobody has taken yet."""
    found = state.get(_partition(run_id), SORT)
    if found is None or not _move(run_id, found["order"]["token"], "given", "taken", state):
        return None
    return Order.from_json(found["order"])


def finish_order(run_id: str, order: Order, *, state: StateStore) -> None:
    """The worker waits for the next one."""
    _move(run_id, order.token, "taken", "done", state)


def close(run_id: str, *, state: StateStore) -> bool:
    """Take no more orders; False when one was given meanwhile."""
    found = state.get(_partition(run_id), SORT)
    if found is None or found["standing"] == "closed":
        return True
    if found["standing"] == "given":
        return False
    return _move(run_id, found["order"]["token"], found["standing"], "closed", state)


def _put(run_id: str, order: Order, state: StateStore) -> Standing | None:
    """Write the order over the one before; how that stood."""
    item = {"order": order.to_json(), "token": order.token, "standing": "given"}
    while True:
        found = state.get(_partition(run_id), SORT)
        if found is None:
            if state.create(_partition(run_id), SORT, item):
                return None
            continue
        same = {name: found[name] for name in ("token", "standing")}
        if state.replace(_partition(run_id), SORT, item, expected=same):
            standing: Standing = found["standing"]
            return standing


def _move(run_id: str, token: str, old: Standing, new: Standing, state: StateStore) -> bool:
    found = state.get(_partition(run_id), SORT)
    if found is None:
        return False
    item = {name: found[name] for name in ("order", "token")} | {"standing": new}
    return state.replace(_partition(run_id), SORT, item, expected={"token": token, "standing": old})


def _partition(run_id: str) -> str:
    return f"run#{run_id}"
