"""The step that brings back, from the replica, what an attack took every version of."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

from chalicelib.errors import CheckFailed, LeewardError, Truncated, Unavailable
from chalicelib.evidence.entries import data_loss
from chalicelib.evidence.text import counted
from chalicelib.incidents.fence import acquire_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.records import parse_time
from chalicelib.ports.buckets import VersionRow
from chalicelib.ports.lasting import PUT_DOWN
from chalicelib.recover.bucket.mend import Mended, mend_bucket
from chalicelib.recover.bucket.witness import of_copy
from chalicelib.services import build
from chalicelib.services.jobs.buckets import replica_of, source_of
from chalicelib.services.jobs.witnesses import Known, hear, know_bucket
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say

SHOWN = 5
# Written by forensics.keep; see services/steps/attack/forensics.py.
DAMAGED = "forensics/damaged.jsonl"


def mend_step(run: Run, inputs: dict[str, Any]) -> dict[str, Any]:
    """What is gone from the replica too is told as lost.

    Raises:
        CheckFailed: code "not-mended", naming what could not be copied.
        Unavailable: code "put-down": a long object is on its way, the next attempt goes on.
    """
    component, moment = inputs["component"], parse_time(inputs["moment"])
    keys = [] if run.drill else _taken_from(run)
    target = acting_on(run, component)
    known = know_bucket(component, moment) if target == component and not run.drill else None
    vanished = asyncio.run(_vanished(component, known, moment))
    if not keys and not vanished:
        return {"found": "nobody took a version away", "back": 0, "gone": []}
    acquire_fence(build.state(), target, run.run_id, clock=build.clock())
    mended = asyncio.run(_mend(component, keys, moment, vanished))
    if mended.failed:
        named = "; ".join(f"{key}: {why}" for key, why in mended.failed[:SHOWN])
        raise CheckFailed(
            f"expected {len({*keys, *vanished})} objects to come back from the replica,"
            f" {len(mended.failed)} did not: {named}",
            hint="what came back stays; remove the cause and run it again",
            code="not-mended",
        )
    if mended.put_down:
        raise _on_its_way(mended)
    if mended.gone:
        say(run, _lost(moment, mended))
    gone = f"; GONE FOR GOOD: {', '.join(mended.gone[:SHOWN])}" if mended.gone else ""
    return {
        "found": f"{counted(len(mended.back), 'object')} brought back from the replica,"
        f" {len(mended.there)} need nothing, {len(mended.gone)} are in neither{gone}",
        "back": len(mended.back),
        "gone": list(mended.gone[:SHOWN]),
    }


async def _vanished(
    component: str, known: Known | None, moment: datetime
) -> dict[str, VersionRow | None]:
    """By the inventories, which miss what a trail may not tell of."""
    async with build.buckets() as buckets:
        heard = await hear(source_of(buckets, component), known, moment)
    return {one.key: of_copy(one) if one.copy else None for one in heard.vanished}


async def _mend(
    component: str, keys: list[str], moment: datetime, vanished: dict[str, VersionRow | None]
) -> Mended:
    async with build.buckets() as buckets:
        bucket = source_of(buckets, component, turns=True)
        await bucket.give_up_copies()
        replica = replica_of(buckets, component)
        return await mend_bucket(bucket, replica, keys, moment, vanished)


def _taken_from(run: Run) -> list[str]:
    """The keys that the attack removed versions of, as the kept evidence has them."""
    try:
        text = build.evidence_store().get(f"{run.incident_id}/{DAMAGED}").decode()
    except Truncated as error:
        raise _no_evidence() from error
    acts = [json.loads(line) for line in text.splitlines()]
    removed = (it for it in acts if it["name"] == "DeleteObject" and it["version_id"])
    return sorted({it["key"] for it in removed if not it["error"]})


def _lost(moment: datetime, mended: Mended) -> Any:
    return data_loss(
        last_commit_before_at=moment,
        last_commit_recovered_at=None,
        rows_lost=len(mended.gone),
        how=f"objects of which no version is left anywhere: {', '.join(mended.gone[:SHOWN])}",
    )


def _on_its_way(mended: Mended) -> Unavailable:
    return Unavailable(
        f"expected {len(mended.put_down)} long objects to come back in one attempt, they take "
        f"longer: {', '.join(mended.put_down[:SHOWN])}",
        code=PUT_DOWN,
        hint="the next attempt goes on from there; run the step again when there is none",
    )


def _no_evidence() -> LeewardError:
    return CheckFailed(
        f"expected {DAMAGED} in the incident's folder, found none",
        hint="put a forensics.keep step before this one in the plan",
        code="no-evidence",
    )
