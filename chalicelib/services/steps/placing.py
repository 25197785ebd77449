"""Where a long step of a run is done: here, in this Lambda, or in a task (services/task.py).

Decided once for a run and a database, so that its steps share one worker's disk; and once more
when an attempt here was ended by the clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from chalicelib.errors import LeewardError, Unavailable
from chalicelib.evidence.entries import decision
from chalicelib.incidents.orders import Order, give_order
from chalicelib.incidents.run import Kept, Run, run_of
from chalicelib.plan.manifest import PROOF, point_key
from chalicelib.plan.records import Proof, RecoveryTarget, format_time, parse_time
from chalicelib.ports import Holdings, Inventory, ObjectStore
from chalicelib.recover.placement import Placement, Work, decide_placement
from chalicelib.recover.window import choose_points
from chalicelib.scenarios.steps import STEP_KINDS
from chalicelib.services import build, environment
from chalicelib.services.steps.database.rebuild import read_target
from chalicelib.services.steps.said import say
from chalicelib.services.steps.sources import choose_source

Outputs = dict[str, Any]

# An attempt that began so long before its limit and left no result was ended by it.
CLOCK_SLACK = timedelta(seconds=30)
# Proofs looked at for a speed, the newest first.
PROOFS_READ = 3


def place(event: dict[str, Any], kept: Kept) -> Outputs | None:
    """What is answered for a step that needs a task; None when it is to be done here.

    Args:
        kept: what the state holds of the run.
    """
    step, inputs = event["step"], event["inputs"]
    if not inputs["target"] or f"step#{step}" in kept:
        return None
    run = run_of(event["run_id"], kept.get("run"), step=step)
    try:
        if not _has_choice(inputs["component"]):
            return None
        placement = _placement(run, event["uses"], inputs["component"], inputs["target"], kept)
    except Unavailable:
        raise
    except LeewardError:
        return None  # the step meets the same, and records it
    if placement.where == "lambda":
        return None
    found = f"{step} runs in a task"
    say(run, decision(what=found, why=placement.why), about="place")
    return {"found": f"{found}: {placement.why}", "runs_in": "task"}


def hand_to_task(event: dict[str, Any]) -> Outputs:
    """Have a task do the step and answer for it by the event's token.

    Raises NotReady (code "no-task"); Unavailable when none can be started now.
    """
    run_id, token = event["run_id"], event["token"]
    kept = build.state().get(f"run#{run_id}", f"step#{event['step']}")
    if kept is not None:
        build.tokens().succeed(token, kept["outputs"])
        return {"found": "it was done before"}
    order = Order({name: it for name, it in event.items() if name != "token"}, token)
    started = give_order(run_id, order, state=build.state(), workers=build.workers())
    return {"found": "a task was started for it" if started else "the run's task does it"}


def _has_choice(component: str) -> bool:
    """Without tasks all is done here, whatever it needs: nothing is to be read for that."""
    return environment.has_tasks() or build.database(component).runs_in == "task"


def _placement(run: Run, uses: str, component: str, target: Any, kept: Kept) -> Placement:
    partition, sort = f"run#{run.run_id}", f"place#{component}"
    decided = kept.get(sort)
    ran_out = _ran_out(run, uses, kept)
    if decided and not (ran_out and decided["where"] == "lambda"):
        return Placement.from_json(decided)
    wanted = build.database(component).runs_in
    work = Work(0, 0) if wanted else _work(run, component, read_target(target))
    placement = decide_placement(
        work, wanted=wanted, has_tasks=environment.has_tasks(), ran_out=ran_out
    )
    if not build.state().create(partition, sort, placement.to_json()):
        build.state().replace(partition, sort, placement.to_json(), expected={})
    return placement


def _ran_out(run: Run, uses: str, kept: Kept) -> bool:
    last = kept.get(f"attempts#{run.step}")
    limit = timedelta(seconds=STEP_KINDS[uses].timeout_seconds) - CLOCK_SLACK
    return last is not None and build.clock().now() - parse_time(last["at"]) >= limit


def _work(run: Run, component: str, target: RecoveryTarget) -> Work:
    source = choose_source(run, component, target)
    inventory = source.inventory()
    chain = choose_points(inventory, target).chains[0]
    speed, how = _speed(source.store, inventory, component)
    end = target.lsn or chain.window.end_lsn
    return Work(
        data_bytes=sum(point.source_bytes for point in chain.points),
        wal_bytes=max(0, end - chain.start_lsn),
        bytes_per_second=speed,
        how=how,
    )


def _speed(store: ObjectStore, inventory: Inventory, component: str) -> tuple[float, str]:
    """Bytes of data a second and who says so: the newest restore test, else the plan."""
    sizes = {point.id: point.source_bytes for point in inventory.points}
    for proof in _newest_proofs(store, inventory.holdings):
        seconds = proof.seconds.get("restore", 0.0)
        if seconds > 0 and proof.point_id in sizes:
            return sizes[proof.point_id] / seconds, f"measured at {format_time(proof.proven_at)}"
    stated = build.plan().components[component].restores_at
    return (float(stated), "the plan's restores_at") if stated else (0.0, "")


def _newest_proofs(store: ObjectStore, held: Holdings) -> Iterator[Proof]:
    proven = sorted(it.point.id for it in held.standings if it.proven_at)
    for point_id in reversed(proven[-PROOFS_READ:]):
        yield Proof.from_json(json.loads(store.get(point_key(point_id, PROOF))))
