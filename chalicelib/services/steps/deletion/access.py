"""The step after a deletion: who did it may delete no longer, until a person gives it back."""

from __future__ import annotations

from typing import Any

from chalicelib.adapters.isolation.bucket_policy import DeletionBarrier
from chalicelib.evidence.deletion_entries import access_tightened, access_tightening
from chalicelib.evidence.entries import decision
from chalicelib.incidents.fence import acquire_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Bucket
from chalicelib.recover.database.relations import UNNAMED
from chalicelib.recover.rows.access import (
    RIGHTS,
    could_delete,
    grant_rights,
    read_rights,
    revoke_rights,
    rights_from_json,
    undo_words,
)
from chalicelib.services import build, environment
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say

Outputs = dict[str, Any]


def tighten_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Take the right to delete from who deleted: on the tables of the damage, or on the bucket.

    Inputs: `who`: a role of the database; user/NAME or role/NAME, or an ARN, of the account.
    `damage`, `more`: for a database, as they were found.
    Of an unknown identity the bucket is kept from losing versions, whoever asks.
    Raises CheckFailed (code "still-may-delete").
    """
    component = acting_on(run, inputs["component"])
    acquire_fence(build.state(), component, run.run_id, clock=build.clock())
    if isinstance(build.plan().components[component], Bucket):
        return _tighten_bucket(run, component, inputs)
    return _tighten_tables(run, component, inputs)


def undo_tighten(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Give back what the run took, as it was."""
    component = acting_on(run, inputs["component"])
    before = _kept(run)
    if before is None:
        return {"found": "nothing had been taken from anybody"}
    if "principal" in before:
        barrier = _barrier(component, before["principal"])
        return {"found": barrier.lower(before["policy"]).found}
    rights = rights_from_json(before["rights"])
    grant_rights(build.operator(component), before["role"], rights)
    return {"found": f"{before['role']} may delete again"}


def _tighten_tables(run: Run, component: str, inputs: dict[str, Any]) -> Outputs:
    damages = [inputs.get("damage") or {}, *(inputs.get("more") or ())]
    named = dict.fromkeys(table for damage in damages for table in damage.get("tables", ()))
    tables = [it for it in named if not it.startswith(UNNAMED)]
    if not tables:
        return _nothing("no table lost rows")
    role = str(inputs.get("who") or "")
    if not role:
        return _left_to_a_person(run, component, tables)
    databases = build.operator(component)
    found = [it.to_json() for it in read_rights(databases, role, tables)]
    before = _keep(run, {"role": role, "rights": found})
    rights = rights_from_json(before["rights"])
    undo = undo_words(role, rights)
    say(run, access_tightening(component=component, before=before, undo=undo))
    revoke_rights(databases, role, rights)
    what = f"{' and '.join(RIGHTS)} on {', '.join(tables)}"
    say(run, access_tightened(component=component, who=role, what=what, undo=undo))
    if not rights:
        return _nothing(f"{role} had no right of its own to delete from {', '.join(tables)}")
    return {"found": f"{role} has lost {what}; to undo: {undo}", "who": role, "undo": undo}


def _left_to_a_person(run: Run, component: str, tables: list[str]) -> Outputs:
    """Of several roles that could have, nobody knows which: all would be too many."""
    could = ", ".join(could_delete(build.operator(component), tuple(tables))) or "superusers alone"
    found = f"NOTHING WAS TAKEN from anybody: who deleted is unknown, and these could: {could}"
    say(run, decision(what=found, why="WAL names no role", alternatives=[could]))
    undo = f"REVOKE {', '.join(RIGHTS)} ON {', '.join(tables)} FROM who it was"
    return {"found": f"{found}; a person does: {undo}", "who": "", "undo": ""}


def _tighten_bucket(run: Run, component: str, inputs: dict[str, Any]) -> Outputs:
    principal = str(inputs.get("who") or "")
    if not principal and run.drill:
        principal = next(iter(build.plan().components[component].identities), "")
    if not principal and not run.drill and not _took(inputs):
        return _nothing("no object was deleted")
    arn = f"arn:aws:iam::*:{principal}" if principal.startswith(("user/", "role/")) else principal
    barrier = _barrier(component, arn)
    before = _keep(run, {"principal": arn, "policy": barrier.look()})
    undo = f"take the statement {DeletionBarrier.sid} out of the bucket's policy"
    say(run, access_tightening(component=component, before=before, undo=undo))
    raised = barrier.raise_up(before["policy"])
    what = "deletions" if arn else "removing versions"
    say(run, access_tightened(component=component, who=arn or "everybody", what=what, undo=undo))
    return {"found": f"{raised.found}; to undo: {undo}", "who": arn, "undo": undo}


def _took(inputs: dict[str, Any]) -> bool:
    scope = inputs.get("scope") or {}
    return bool(scope.get("deleted") or scope.get("removed"))


def _barrier(component: str, arn: str) -> DeletionBarrier:
    found = build.plan().components[component]
    assert isinstance(found, Bucket)
    return DeletionBarrier(build.s3(), found.bucket, arn, environment.recovery_roles())


def _keep(run: Run, before: dict[str, Any]) -> dict[str, Any]:
    """What the first attempt found: a later one would find what it left."""
    build.state().create(f"run#{run.run_id}", _sort(run), before)
    return _kept(run) or before


def _kept(run: Run) -> dict[str, Any] | None:
    return build.state().get(f"run#{run.run_id}", _sort(run))


def _sort(run: Run) -> str:
    return f"access#{run.step}"


def _nothing(why: str) -> Outputs:
    return {"found": f"nothing to tighten: {why}", "who": "", "undo": ""}
