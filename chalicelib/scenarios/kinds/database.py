"""Steps on a PostgreSQL database."""

from __future__ import annotations

from chalicelib.scenarios.kinds.kind import SECRET, STATE, Dependency, StepKind

DATABASE = Dependency("postgres", "data", "own")
STAND_IN = "the component's stand-in for drills"

KINDS = (
    StepKind(
        uses="database.find-damage",
        function="find_damage",
        does="find what was damaged and the moment before it",
        inputs={"component": True, "moment": False},
        outputs=("damage", "target"),
        timeout_seconds=600,
        depends=(*STATE, SECRET, DATABASE),
    ),
    StepKind(
        uses="database.fence",
        function="fence",
        does="refuse the application's connections and end those it has",
        inputs={"component": True},
        outputs=("token", "ended", "fenced_at"),
        timeout_seconds=120,
        depends=(*STATE, SECRET, DATABASE),
        changes="the application's role cannot log in",
        undo="leeward unfence DSN ROLE",
        drill=STAND_IN,
    ),
    StepKind(
        uses="database.restore",
        function="rebuild",
        does="restore the newest clean backup before the moment into a throw-away server",
        inputs={"component": True, "target": True},
        outputs=("point", "chain", "rejected"),
        timeout_seconds=900,
        depends=STATE,
    ),
    StepKind(
        uses="database.replay",
        function="rebuild",
        does="replay WAL up to the instant before the damage",
        inputs={"component": True, "target": True, "point": True},
        outputs=("recovered_lsn", "last_commit_at"),
        timeout_seconds=900,
        depends=STATE,
    ),
    StepKind(
        uses="database.verify",
        function="rebuild",
        does="verify the recovered data: assertions, page checksums, amcheck, schema",
        inputs={"component": True, "target": True},
        outputs=("proof",),
        timeout_seconds=900,
        depends=STATE,
    ),
    StepKind(
        uses="database.load",
        function="rebuild",
        does="create the recovery database beside the damaged one and load it",
        inputs={"component": True, "target": True},
        outputs=("database",),
        timeout_seconds=900,
        depends=(*STATE, SECRET, DATABASE),
        changes="a new database on the target server",
        undo="dropdb of the recovery database, which the record names",
        drill=STAND_IN,
    ),
    StepKind(
        uses="database.hand-over",
        function="rebuild",
        does="store the recovered data folder for a host, with the commands to start it there",
        inputs={"component": True, "target": True},
        outputs=("object", "sha256"),
        timeout_seconds=900,
        depends=(*STATE, SECRET),
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
        depends=(*STATE, SECRET, DATABASE),
        changes="the application's secret names the recovered database",
        undo="put the secret's previous version back (AWSPREVIOUS)",
        drill=STAND_IN,
    ),
    StepKind(
        uses="database.set-aside",
        function="find_damage",
        does="keep what was committed after the damage, for a person to merge",
        inputs={"component": True, "damage": True},
        outputs=("transactions", "rows", "object"),
        timeout_seconds=900,
        depends=(*STATE, SECRET, DATABASE),
    ),
)
