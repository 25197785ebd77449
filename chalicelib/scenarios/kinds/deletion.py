"""Steps after a deletion: its scope, rows and objects brought back, who may no longer delete."""

from __future__ import annotations

from chalicelib.scenarios.kinds.kind import SECRET, STATE, Dependency, StepKind

DATABASE = Dependency("postgres", "data", "own")
POLICY = Dependency("s3", "control", "own")
STAND_IN = "the component's stand-in for drills"
NEEDS_IT = "fails: what was deleted lies in the component itself"

KINDS = (
    StepKind(
        uses="deletion.find-scope",
        function="find_scope",
        does="find which rows and objects are gone, since when, and by whom",
        inputs={
            "component": True,
            "bucket": False,
            "moment": False,
            "at_most_rows": False,
            "at_most_objects": False,
        },
        outputs=("damage", "more", "target", "objects", "role", "principal", "small"),
        timeout_seconds=900,
        depends=(*STATE, SECRET, DATABASE),
        drill="nothing: it takes the stand-in for damaged",
        unreachable=NEEDS_IT,
    ),
    StepKind(
        uses="bucket.undelete",
        function="restore_bucket",
        does="remove the delete markers of the deletion, and read every key again",
        inputs={"component": True, "scope": True},
        outputs=("undeleted", "missing"),
        timeout_seconds=900,
        depends=STATE,
        changes="delete markers are gone: their objects are readable again",
        undo="leeward restore bucket NAME --to the time before the step",
        taken_back=True,
        drill=STAND_IN,
        unreachable=NEEDS_IT,
    ),
    StepKind(
        uses="bucket.undo",
        function="restore_bucket",
        does="take every key of the bucket back to a moment, and compare each",
        inputs={"component": True, "target": True},
        outputs=("changed", "objects"),
        timeout_seconds=900,
        depends=STATE,
        changes="versions of then on top, delete markers on what came since; no data is deleted",
        undo="leeward restore bucket NAME --to the time before the step",
        taken_back=True,
        drill=STAND_IN,
        unreachable=NEEDS_IT,
    ),
    StepKind(
        uses="bucket.recover",
        function="restore_bucket",
        does="make the recovery bucket what the bucket was, from it and from its replica",
        inputs={"component": True, "missing": False, "moment": False},
        outputs=("bucket", "setting", "objects"),
        timeout_seconds=900,
        depends=STATE,
        changes="objects in the recovery bucket",
        undo="delete what is in the recovery bucket",
        drill=STAND_IN,
        unreachable="fails: use the replica in another location (leeward restore bucket)",
    ),
    StepKind(
        uses="rows.restore",
        function="rebuild",
        does="bring back exactly the rows that are gone, and set aside what may not go in",
        inputs={"component": True, "damage": True, "more": False, "tables": False},
        outputs=("restored", "there", "aside", "object"),
        timeout_seconds=900,
        depends=(*STATE, SECRET, DATABASE),
        changes="rows in the living tables, in one transaction; dropped tables are made again",
        undo="delete the rows whose xmin is the transaction of the record",
        taken_back=True,
        drill=STAND_IN,
        unreachable="fails: there is no living table to bring rows back to",
    ),
    StepKind(
        uses="access.tighten",
        function="tighten",
        does="take the right to delete from who deleted, on those tables or that bucket",
        inputs={
            "component": True,
            "who": False,
            "damage": False,
            "more": False,
            "scope": False,
        },
        outputs=("who", "undo"),
        timeout_seconds=120,
        depends=(*STATE, SECRET, DATABASE, POLICY),
        changes="a role's DELETE and TRUNCATE, or a statement in the bucket's policy",
        undo="the GRANTs, or the statement's Sid, that the record names",
        taken_back=True,
        drill=STAND_IN,
        unreachable="fails: give the step again when it answers",
    ),
)
