"""The steps that bring objects back: undelete, back to a moment, into a recovery bucket."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.errors import BadInput, NotReady, Refused
from chalicelib.evidence.deletion_entries import objects_back
from chalicelib.evidence.entries import proven, serving
from chalicelib.evidence.text import counted
from chalicelib.incidents.fence import acquire_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Bucket
from chalicelib.plan.records import format_time, parse_time
from chalicelib.recover.bucket.apply import apply_undo
from chalicelib.recover.bucket.deleted_objects import verify_undelete
from chalicelib.recover.bucket.fill import Filled, fill_bucket
from chalicelib.recover.bucket.proof import UndoProof, verify_undo
from chalicelib.recover.bucket.refill import NOTHING, refill, still_there
from chalicelib.recover.bucket.survey import (
    UndoPlan,
    require_history,
    require_sense,
    survey_undo,
)
from chalicelib.recover.bucket.undo import UndoRules
from chalicelib.recover.bucket.witness import Witnessed, without
from chalicelib.services import build
from chalicelib.services.jobs.buckets import bucket_component, replica_of, source_of
from chalicelib.services.jobs.witnesses import Known, grade_of, hear, know_bucket
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.deletion.object_proofs import (
    Undone,
    as_proof,
    lost_with_versions,
    not_back,
    nothing_lost,
    proof_of,
    tell_proof,
    tell_witnessed,
    vanished_for_good,
    with_missing,
)
from chalicelib.services.steps.said import say

if TYPE_CHECKING:
    from chalicelib.adapters.s3.bucket import S3Bucket

Outputs = dict[str, Any]
# S3's times are whole seconds: so long after the last change, an undo can be undone by time.
SECOND = timedelta(seconds=1.05)
INSTANT = timedelta(microseconds=1)
SHOWN = 3


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
        return {"found": with_missing(said, missing), "undeleted": 0, "missing": missing}
    rules = undelete_rules(parse_time(scope["from_at"]), parse_time(scope["until_at"]))
    target = acting_on(run, component)
    done = _take_back(run, target, rules, _known(run, component, rules.to_at))
    missing = max(missing, len(done.heard.vanished))
    undeleted = done.outcome.counts.get("unmarked", 0)
    say(run, serving(at=build.clock().now(), how=f"{undeleted:,} objects are readable again"))
    if not missing and (done.grade is None or done.grade.ok):
        say(run, nothing_lost(parse_time(scope["from_at"])))
    found = f"{counted(undeleted, 'object')} of {bucket_component(target).bucket} undeleted"
    return {
        "found": with_missing(
            f"{found}; {tell_proof(done.proof)}; {tell_witnessed(done)}", missing
        ),
        "undeleted": undeleted,
        "missing": missing,
    }


def undo_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Take the bucket back to a moment: {"target"}: a recovery target of kind time, or its time.

    Raises CheckFailed (code "objects-not-back"): what went back stays.
    """
    component = inputs["component"]
    target = acting_on(run, component)
    to_at = read_moment(inputs["target"])
    done = _take_back(run, target, UndoRules(to_at), _known(run, component, to_at))
    counts, name = done.outcome.counts, bucket_component(target).bucket
    changed = sum(counts.get(what, 0) for what in ("copied", "unmarked", "marked"))
    changed += done.refilled.counts.get("back", 0)
    if done.heard.vanished:
        say(run, vanished_for_good(to_at, done.heard))
    say(run, serving(at=build.clock().now(), how=f"{name} is as of {format_time(to_at)}"))
    return {
        "found": f"{name} is as it was at {format_time(to_at)}: {counted(changed, 'object')}"
        f" changed, {tell_proof(done.proof)}; {tell_witnessed(done)}",
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
    at = parse_time(moment) if moment else None
    known = _known(run, component, at or run.alarm_at)
    filled, heard = asyncio.run(_fill(component, name, at, known, at or run.alarm_at))
    if not filled.ok:
        raise not_back(name, filled.outcome, filled.missing)
    body = {"keys": filled.objects, "complete": True, "differing": 0}
    say(run, objects_back(component=target, counts=filled.outcome.counts, proof=body))
    compared = f"{filled.objects:,} objects compared with what they were copied from"
    to_at = at or run.alarm_at
    grade = None if run.drill else grade_of(known, heard, to_at, as_listed=True)
    say(run, proven(proof_of(component, run.alarm_at, compared, grade)))
    if filled.from_replica:
        say(run, lost_with_versions(run, component))
    return {
        "found": f"{counted(filled.objects, 'object')} in {name}, {filled.from_replica:,} of them"
        f" from the replica; every one compared with what it was copied from",
        "bucket": name,
        "setting": name,
        "objects": filled.objects,
    }


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


def _take_back(run: Run, component: str, rules: UndoRules, known: Known | None) -> Undone:
    """Look, survey, apply, prove; the moment before is kept for the way forward."""
    acquire_fence(build.state(), component, run.run_id, clock=build.clock())
    _remember_before(run)
    done = asyncio.run(_undo(component, rules, known, graded=not run.drill))
    say(
        run,
        objects_back(component=component, counts=done.outcome.counts, proof=done.proof.to_json()),
    )
    if rules.undelete_until is None or not done.heard.vanished:
        # What vanished is not back until `bucket.recover` says so, and has its own proof.
        say(run, proven(as_proof(component, rules, done)))
    if not done.outcome.ok or not done.proof.ok:
        missing = [it.key for it in done.proof.differences]
        raise not_back(bucket_component(component).bucket, done.outcome, missing)
    return done


def _known(run: Run, component: str, to_at: datetime) -> Known | None:
    """None of a stand-in, of which nobody takes inventories."""
    return know_bucket(component, to_at) if acting_on(run, component) == component else None


async def _undo(component: str, rules: UndoRules, known: Known | None, *, graded: bool) -> Undone:
    from chalicelib.adapters.s3.rules import S3Control

    name, now = bucket_component(component).bucket, build.clock().now()
    facts = S3Control(build.s3(), name).rules()
    require_history(facts, rules, bucket=name, prefix="", in_place=True, now=now)
    async with build.buckets() as buckets:
        bucket = source_of(buckets, component)
        heard = await hear(bucket, known, rules.to_at)
        rules = replace(rules, aside=heard.keys)
        plan = await survey_undo(bucket, rules)
        if rules.undelete_until is None:
            require_sense(plan)
        _require_thawed(plan)
        outcome = await apply_undo(bucket, rules, plan=plan)
        refilled = NOTHING
        # What was deleted is brought back beside what is there; see `bucket.recover`.
        if rules.undelete_until is None and known and known.replica and heard.with_copy:
            replica = replica_of(buckets, component)
            refilled = await refill(bucket, replica, heard.with_copy, in_place=True)
            heard = without(heard, await still_there(bucket, replica, heard.with_copy))
        proof = await _prove(bucket, rules, plan)
        as_listed = outcome.ok and proof.ok
        grade = grade_of(known, heard, rules.to_at, as_listed=as_listed) if graded else None
        return Undone(plan, outcome, proof, refilled, heard, grade)


async def _prove(bucket: S3Bucket, rules: UndoRules, plan: UndoPlan) -> UndoProof:
    if rules.undelete_until is not None:
        return await verify_undelete(bucket, rules)
    return await verify_undo(bucket, rules, plan.state, cuts=plan.cuts)


async def _fill(
    component: str, name: str, moment: datetime | None, known: Known | None, to_at: datetime
) -> tuple[Filled, Witnessed]:
    """Also what the inventories name and is in neither bucket."""
    async with build.buckets() as buckets:
        bucket = source_of(buckets, component)
        heard = await hear(bucket, known, to_at)
        replica = replica_of(buckets, component)
        target = buckets.bucket(name, "", endpoint_url=build.environment().endpoint_url)
        filled = await fill_bucket(
            bucket, replica, target, moment or build.clock().now(), heard.vanished
        )
        return filled, without(heard, await still_there(target, replica, heard.with_copy))


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
    done = asyncio.run(_undo(target, UndoRules(parse_time(kept["at"])), None, graded=False))
    if not done.outcome.ok:
        raise not_back(bucket_component(target).bucket, done.outcome, [])
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
