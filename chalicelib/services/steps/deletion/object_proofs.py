"""What the steps that bring objects back say of it: proofs, losses, and words for a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chalicelib.errors import CheckFailed
from chalicelib.evidence.entries import Entry, data_loss
from chalicelib.evidence.text import counted
from chalicelib.incidents.run import Run
from chalicelib.plan.records import CheckResult, Proof, RecoveryTarget, format_time
from chalicelib.recover.bucket.grade import Grade, tell_vanished
from chalicelib.recover.bucket.outcome import UndoOutcome
from chalicelib.recover.bucket.proof import UndoProof
from chalicelib.recover.bucket.refill import Refilled
from chalicelib.recover.bucket.survey import UndoPlan
from chalicelib.recover.bucket.undo import UndoRules
from chalicelib.recover.bucket.witness import Witnessed
from chalicelib.services import build
from chalicelib.services.jobs.replica_checks import newest_inventory

SHOWN = 3
STAND_IN = "a stand-in for drills, of which no inventory is taken"


@dataclass(frozen=True)
class Undone:
    """What was done to a bucket, and the proof of it. `heard`: what the inventories say, without
    what was brought back; `refilled`: from the replica. `grade`: None of a stand-in for drills."""

    plan: UndoPlan
    outcome: UndoOutcome
    proof: UndoProof
    refilled: Refilled
    heard: Witnessed
    grade: Grade | None


def nothing_lost(deleted_at: datetime) -> Entry:
    """The newest version of every object is back: also what was written just before."""
    return data_loss(
        last_commit_before_at=deleted_at,
        last_commit_recovered_at=deleted_at,
        rows_lost=0,
        how="objects: the newest version of each is readable again",
    )


def vanished_for_good(to_at: datetime, heard: Witnessed) -> Entry:
    return data_loss(
        last_commit_before_at=to_at,
        last_commit_recovered_at=None,
        rows_lost=len(heard.vanished),
        how=f"objects: {tell_vanished(heard)}; the replica does not have them either",
    )


def lost_with_versions(run: Run, component: str) -> Entry:
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


def as_proof(component: str, rules: UndoRules, done: Undone) -> Proof:
    """What the second look at every key said, as the proofs of databases say it."""
    found = f"{done.proof.keys:,} keys compared, {done.proof.differing:,} differ"
    ok = done.outcome.ok and done.proof.ok and done.refilled.ok
    return proof_of(component, rules.to_at, found, done.grade, ok=ok)


def proof_of(
    component: str, moment: datetime, found: str, grade: Grade | None, *, ok: bool = True
) -> Proof:
    """`grade`: None of a stand-in for drills, whose proof says nothing of what was removed."""
    witnessed = (CheckResult("inventory", grade.ok, grade.why),) if grade else ()
    return Proof(
        component=component,
        point_id="",
        proven_at=build.clock().now(),
        target=RecoveryTarget("time", format_time(moment)),
        recovered_lsn=0,
        last_commit_at=None,
        checks=(CheckResult("objects", ok, found), *witnessed),
    )


def not_back(bucket: str, outcome: UndoOutcome, missing: list[str]) -> CheckFailed:
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


def tell_proof(proof: UndoProof) -> str:
    return f"{proof.keys:,} keys looked at again, {proof.objects:,} objects"


def tell_witnessed(done: Undone) -> str:
    back = done.refilled.counts.get("back", 0)
    said = f"{counted(back, 'object')} brought back from the replica; " if back else ""
    if done.grade is None:
        return f"{said}{STAND_IN}"
    return f"{said}{'' if done.grade.ok else 'NOT PROVEN: '}{done.grade.why}"


def with_missing(found: str, missing: int) -> str:
    return f"{found}; {counted(missing, 'object')} gone for good" if missing else found
