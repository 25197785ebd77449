"""The catalogue of step kinds: what each needs, gives, may take, depends on, and how it is undone.

A plan's step names a kind by `uses`. The code behind a kind is bound in services.py; this table is
all that the compiler, the explanation and the linter know of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["primary", "standby", "global"]


@dataclass(frozen=True)
class Dependency:
    """An AWS service a step needs: which plane of it, where.

    plane "control" changes resources (it fails in regional events, as Route 53's did on
    2021-12-07); plane "data" uses them. region "primary" is the component's own.
    """

    service: str
    plane: Literal["data", "control"]
    region: Role


@dataclass(frozen=True)
class StepKind:
    """One kind of step.

    inputs: name -> True when the plan must give it. outputs: names besides `found`.
    timeout_seconds: default limit of one attempt, at most Lambda's 900.
    changes: what it changes outside Leeward's own records; "" when nothing.
    undo: how a person takes it back; "" when there is nothing to undo.
    """

    uses: str
    function: str
    does: str
    inputs: dict[str, bool]
    outputs: tuple[str, ...]
    timeout_seconds: int
    depends: tuple[Dependency, ...]
    changes: str = ""
    undo: str = ""


_STATE = (Dependency("dynamodb", "data", "primary"), Dependency("s3", "data", "primary"))
_DATABASE = Dependency("postgres", "data", "primary")
_SECRET = Dependency("secretsmanager", "data", "primary")

STEP_KINDS: dict[str, StepKind] = {
    kind.uses: kind
    for kind in (
        StepKind(
            uses="database.find-damage",
            function="find_damage",
            does="find what was damaged and the moment before it",
            inputs={"component": True, "moment": False},
            outputs=("damage", "target"),
            timeout_seconds=600,
            depends=(*_STATE, _SECRET, _DATABASE),
        ),
        StepKind(
            uses="database.fence",
            function="fence",
            does="refuse the application's connections and end those it has",
            inputs={"component": True},
            outputs=("token", "ended", "fenced_at"),
            timeout_seconds=120,
            depends=(*_STATE, _SECRET, _DATABASE),
            changes="the application's role cannot log in",
            undo="leeward unfence DSN ROLE",
        ),
        StepKind(
            uses="database.restore",
            function="rebuild",
            does="restore the newest clean backup before the moment into a throw-away server",
            inputs={"component": True, "target": True},
            outputs=("point", "chain", "rejected"),
            timeout_seconds=900,
            depends=_STATE,
        ),
        StepKind(
            uses="database.replay",
            function="rebuild",
            does="replay WAL up to the instant before the damage",
            inputs={"component": True, "target": True, "point": True},
            outputs=("recovered_lsn", "last_commit_at"),
            timeout_seconds=900,
            depends=_STATE,
        ),
        StepKind(
            uses="database.verify",
            function="rebuild",
            does="verify the recovered data: assertions, page checksums, amcheck, schema",
            inputs={"component": True, "target": True},
            outputs=("proof",),
            timeout_seconds=900,
            depends=_STATE,
        ),
        StepKind(
            uses="database.load",
            function="rebuild",
            does="create the recovery database beside the damaged one and load it",
            inputs={"component": True, "target": True},
            outputs=("database",),
            timeout_seconds=900,
            depends=(*_STATE, _SECRET, _DATABASE),
            changes="a new database on the target server",
            undo="dropdb of the recovery database, which the record names",
        ),
        StepKind(
            uses="database.hand-over",
            function="rebuild",
            does="store the recovered data folder for a host, with the commands to start it there",
            inputs={"component": True, "target": True},
            outputs=("object", "sha256"),
            timeout_seconds=900,
            depends=(*_STATE, _SECRET),
            changes="an archive of the recovered data folder in the object store",
            undo="delete handover/<run_id>/ in the component's part of the store",
        ),
        StepKind(
            uses="database.switch",
            function="switch",
            does="point the application to the recovered database and open writes",
            inputs={"component": True, "database": True},
            outputs=("switched_at", "first_write_at"),
            timeout_seconds=300,
            depends=(*_STATE, _SECRET, _DATABASE),
            changes="the application's secret names the recovered database",
            undo="put the secret's previous version back (AWSPREVIOUS)",
        ),
        StepKind(
            uses="database.set-aside",
            function="find_damage",
            does="keep what was committed after the damage, for a person to merge",
            inputs={"component": True, "damage": True},
            outputs=("transactions", "rows", "object"),
            timeout_seconds=900,
            depends=(*_STATE, _SECRET, _DATABASE),
        ),
    )
}

# What a run's input offers to `${run.FIELD}`; the recorder's `start_payload` fills each.
RUN_FIELDS = ("run_id", "incident_id", "scenario", "component", "alarm_at", "moment")
