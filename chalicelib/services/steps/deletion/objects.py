"""The steps that bring objects back: undelete, back to a moment, into a recovery bucket."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.errors import BadInput, CheckFailed, NotReady, Refused
from chalicelib.evidence.deletion_entries import objects_back
from chalicelib.evidence.entries import Entry, data_loss, proven, serving
from chalicelib.evidence.text import counted
from chalicelib.incidents.fence import acquire_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Bucket
from chalicelib.plan.records import CheckResult, Proof, RecoveryTarget, format_time, parse_time
from chalicelib.recover.bucket.apply import apply_undo
from chalicelib.recover.bucket.deleted_objects import verify_undelete
from chalicelib.recover.bucket.fill import fill_bucket
from chalicelib.recover.bucket.outcome import UndoOutcome
from chalicelib.recover.bucket.proof import UndoProof, verify_undo
from chalicelib.recover.bucket.survey import (
    UndoPlan,
    require_history,
    require_sense,
    survey_undo,
)
from chalicelib.recover.bucket.undo import UndoRules
from chalicelib.services import build
from chalicelib.services.jobs.buckets import bucket_component, replica_of, source_of
from chalicelib.services.jobs.replica_checks import newest_inventory
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say

if TYPE_CHECKING:
    from chalicelib.adapters.s3.bucket import S3Bucket

Outputs = dict[str, Any]
# S3's times are whole seconds: so long after the last change, an undo can be undone by time.
SECOND = timedelta(seconds=1.05)
INSTANT = timedelta(microseconds=1)
SHOWN = 3


@dataclass(frozen=True)
class Undone:
    """What was done to a bucket, and the proof of it."""

    plan: UndoPlan
    outcome: UndoOutcome
    proof: UndoProof


def undelete_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Remove the delete markers of the scope; what was written since stays as it is.

    Inputs: `scope`: as `deletion.find-scope` found it, {"from_at", "until_at", ...} or nothing.
    Raises CheckFailed (code "objects-not-back"): what came back stays.
    """
    component = inputs["component"]
    scope = inputs.get("scope") or {}
    missing = int(scope.get("removed") or 0)
    if not scope.get("from_at"):
        said = "no object lies below a delete marker of this deletion"
        say(run, serving(at=build.clock().now(), how=said))
        return {"found": _with_missing(said, missing), "undeleted": 0, "missing": missing}
    rules = undelete_rules(parse_time(scope["from_at"]), parse_time(scope["until_at"]))
    target = acting_on(run, component)
    done = _take_back(run, target, rules)
    undeleted = done.outcome.counts.get("unmarked", 0)
    say(run, serving(at=build.clock().now(), how=f"{undeleted:,} objects are readable again"))
    if not missing:
        say(run, _nothing_lost(parse_time(scope["from_at"])))
    found = f"{counted(undeleted, 'object')} of {bucket_component(target).bucket} undeleted"
    return {
        "found": _with_missing(f"{found}; {_proof(done.proof)}", missing),
        "undeleted": undeleted,
        "missing": missing,
    }


def undo_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Take the bucket back to a moment: {"target"}: a recovery target of kind time, or its time.

    Raises CheckFailed (code "objects-not-back"): what went back stays.
    """
    target = acting_on(run, inputs["component"])
    to_at = read_moment(inputs["target"])
    done = _take_back(run, target, UndoRules(to_at))
    counts, name = done.outcome.counts, bucket_component(target).bucket
    changed = sum(counts.get(what, 0) for what in ("copied", "unmarked", "marked"))
    say(run, serving(at=build.clock().now(), how=f"{name} is as of {format_time(to_at)}"))
    return {
        "found": f"{name} is as it was at {format_time(to_at)}: {counted(changed, 'object')}"
        f" changed, {_proof(done.proof)}",
        "changed": changed,
        "objects": done.proof.objects,
    }


def undo_changes(run: Run, inputs: dict[str, Any]) -> Outputs:
    """At the end of a drill: the bucket goes forward again to before the step."""
    return _go_forward(run, inputs["component"])


def recover_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Make the recovery bucket what the bucket was, when objects are gone for good.

    Inputs: `missing`: how many are; 0 leaves the application where it is. `moment`: of the replica;
    "" takes what it holds now. What the bucket itself still holds counts before the replica's.
    Outputs: `setting`: where the application must be pointed, "" for nowhere else.
    Raises NotReady (code "no-recovery-bucket"), CheckFailed (code "objects-not-back").
    """
    component = inputs["component"]
    target = acting_on(run, component)
    found = bucket_component(target)
    if not int(inputs.get("missing", 1)):
        said = f"nothing is missing from {found.bucket}: no recovery bucket is needed"
        return {"found": said, "bucket": found.bucket, "setting": "", "objects": 0}
    name = _recovery_bucket(target, found)
    acquire_fence(build.state(), target, run.run_id, clock=build.clock())
    moment = str(inputs.get("moment") or "")
    filled = asyncio.run(_fill(component, name, parse_time(moment) if moment else None))
    if not filled.ok:
        raise _not_back(name, filled.outcome, filled.missing)
    body = {"keys": filled.objects, "complete": True, "differing": 0}
    say(run, objects_back(component=target, counts=filled.outcome.counts, proof=body))
    compared = f"{filled.objects:,} objects compared with what they were copied from"
    say(run, proven(_proof_of(component, run.alarm_at, compared)))
    if filled.from_replica:
        say(run, _lost_with_versions(run, component))
    return {
        "found": f"{counted(filled.objects, 'object')} in {name}, {filled.from_replica:,} of them"
        f" from the replica; every one compared with what it was copied from",
        "bucket": name,
        "setting": name,
        "objects": filled.objects,
    }


def _lost_with_versions(run: Run, component: str) -> Entry:
    """What was written after the replica was last seen to be the bucket may have gone with it;
    without an inventory nobody knows since when."""
    point = newest_inventory(component)
    return data_loss(
        last_commit_before_at=max(run.alarm_at, point.taken_at) if point else run.alarm_at,
        last_commit_recovered_at=point.taken_at if point else None,
        rows_lost=None,
        how="objects from the replica: what was written since its newest inventory and was not "
        "brought there by its event, at most",
        bounded=point is not None,
    )


def undelete_rules(from_at: datetime, until_at: datetime) -> UndoRules:
    """Everything of the first second counts as deleted: S3 tells no shorter times."""
    first = from_at.replace(microsecond=0) - INSTANT
    return UndoRules(first, undelete_until=until_at)


def read_moment(given: Any) -> datetime:
    """Raises BadInput (code "bad-target-time")."""
    value = given.get("value") if isinstance(given, dict) else given
    if isinstance(given, dict) and given.get("kind") != "time":
        raise BadInput(
            f"expected a moment in time for a bucket, found {given.get('kind')} {value}",
            hint="a bucket knows no transactions; name the time",
            code="bad-target-time",
        )
    try:
        return parse_time(str(value))
    except ValueError as error:
        raise BadInput(
            f"expected a time with its zone, found {value!r}",
            hint="write it as 2026-11-22T08:45:00Z",
            code="bad-target-time",
        ) from error


def _take_back(run: Run, component: str, rules: UndoRules) -> Undone:
    """Look, survey, apply, prove; the moment before is kept for the way forward."""
    acquire_fence(build.state(), component, run.run_id, clock=build.clock())
    _remember_before(run)
    done = asyncio.run(_undo(component, rules))
    say(
        run,
        objects_back(component=component, counts=done.outcome.counts, proof=done.proof.to_json()),
    )
    say(run, proven(_as_proof(component, rules, done)))
    if not done.outcome.ok or not done.proof.ok:
        missing = [it.key for it in done.proof.differences]
        raise _not_back(bucket_component(component).bucket, done.outcome, missing)
    return done


def _nothing_lost(deleted_at: datetime) -> Entry:
    """The newest version of every object is back: also what was written just before."""
    return data_loss(
        last_commit_before_at=deleted_at,
        last_commit_recovered_at=deleted_at,
        rows_lost=0,
        how="objects: the newest version of each is readable again",
    )


def _as_proof(component: str, rules: UndoRules, done: Undone) -> Proof:
    """What the second look at every key said, as the proofs of databases say it."""
    found = f"{done.proof.keys:,} keys compared, {done.proof.differing:,} differ"
    return _proof_of(component, rules.to_at, found, ok=done.outcome.ok and done.proof.ok)


def _proof_of(component: str, moment: datetime, found: str, *, ok: bool = True) -> Proof:
    return Proof(
        component=component,
        point_id="",
        proven_at=build.clock().now(),
        target=RecoveryTarget("time", format_time(moment)),
        recovered_lsn=0,
        last_commit_at=None,
        checks=(CheckResult("objects", ok, found),),
    )


async def _undo(component: str, rules: UndoRules) -> Undone:
    from chalicelib.adapters.s3.rules import S3Control

    name, now = bucket_component(component).bucket, build.clock().now()
    facts = S3Control(build.s3(), name).rules()
    require_history(facts, rules, bucket=name, prefix="", in_place=True, now=now)
    async with build.buckets() as buckets:
        bucket = source_of(buckets, component)
        plan = await survey_undo(bucket, rules)
        if rules.undelete_until is None:
            require_sense(plan)
        _require_thawed(plan)
        outcome = await apply_undo(bucket, rules, plan=plan)
        return Undone(plan, outcome, await _prove(bucket, rules, plan))


async def _prove(bucket: S3Bucket, rules: UndoRules, plan: UndoPlan) -> UndoProof:
    if rules.undelete_until is not None:
        return await verify_undelete(bucket, rules)
    return await verify_undo(bucket, rules, plan.state, cuts=plan.cuts)


async def _fill(component: str, name: str, moment: datetime | None) -> Any:
    async with build.buckets() as buckets:
        return await fill_bucket(
            source_of(buckets, component),
            replica_of(buckets, component),
            buckets.bucket(name, "", endpoint_url=build.environment().endpoint_url),
            moment or build.clock().now(),
        )


def _remember_before(run: Run) -> None:
    """Before the first change, and in a second of its own, so that time tells the two apart."""
    partition, sort = f"run#{run.run_id}", f"bucket-before#{run.step}"
    if build.state().create(partition, sort, {"at": format_time(build.clock().now())}):
        time.sleep(SECOND.total_seconds())


def _go_forward(run: Run, component: str) -> Outputs:
    kept = build.state().get(f"run#{run.run_id}", f"bucket-before#{run.step}")
    if kept is None:
        return {"found": "the bucket had not been changed"}
    target = acting_on(run, component)
    done = asyncio.run(_undo(target, UndoRules(parse_time(kept["at"]))))
    if not done.outcome.ok:
        raise _not_back(bucket_component(target).bucket, done.outcome, [])
    return {"found": f"{bucket_component(target).bucket} is as before the step"}


def _recovery_bucket(component: str, found: Bucket) -> str:
    if found.recovery_bucket is None:
        raise NotReady(
            f"expected a recovery bucket of {component} in the plan, found none",
            hint="make an empty bucket, and name it as `recovery_bucket` of the component",
            code="no-recovery-bucket",
        )
    return found.recovery_bucket


def _require_thawed(plan: UndoPlan) -> None:
    if plan.counts["thaw"]:
        raise Refused(
            f"expected objects that can be copied at once, found {plan.counts['thaw']} in archives",
            hint="`leeward restore bucket --archived thaw` has them restored, and tells the price",
            code="archived-versions",
        )


def _not_back(bucket: str, outcome: UndoOutcome, missing: list[str]) -> CheckFailed:
    failed = [f"{it.key}: {it.message}" for it in outcome.failures[:SHOWN]]
    counts = ", ".join(f"{count} {what}" for what, count in sorted(outcome.counts.items()))
    return CheckFailed(
        f"expected every object of {bucket} to be back, found {counts}"
        + "".join(f"; {it}" for it in [*failed, *missing[:SHOWN]]),
        hint="what came back stays; remove the cause and run it again",
        code="objects-not-back",
        failed=len(outcome.failures),
        missing=missing[:SHOWN],
    )


def _proof(proof: UndoProof) -> str:
    return f"{proof.keys:,} keys looked at again, {proof.objects:,} objects"


def _with_missing(found: str, missing: int) -> str:
    return f"{found}; {counted(missing, 'object')} gone for good" if missing else found
