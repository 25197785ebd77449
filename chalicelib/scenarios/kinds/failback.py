"""Steps that go back to a site after a failover; a person alone starts them."""

from __future__ import annotations

from chalicelib.scenarios.kinds.kind import SECRET, STATE, Dependency, StepKind

DATABASE = Dependency("postgres", "data", "primary")
CLUSTER = Dependency("eks", "data", "primary")
ADDRESSES = Dependency("http", "data", "primary")
SWITCH = Dependency("s3", "data", "standby")
BACKUPS = Dependency("lambda", "data", "primary")
SERVERS = (Dependency("ec2", "data", "primary"), Dependency("ssm", "data", "primary"))
CACHE = Dependency("redis", "data", "primary")
NEW_SERVER = "the new server that the drill launched, from the server that stands in elsewhere"
STAND_IN = "what stands in for drills, at both sites"

KINDS = (
    StepKind(
        uses="failback.window",
        function="fail_back",
        does="read the window that a person chose, and wait until it begins",
        inputs={"window": False, "another": False},
        outputs=("begins_at", "ends_at"),
        timeout_seconds=60,
        depends=STATE,
        drill="nothing: it reads alone, and waits for nothing",
        unreachable="it asks nothing there",
        waits_until="begins_at",
    ),
    StepKind(
        uses="failback.check",
        function="fail_back",
        does="see that a person asked, that names lead away long enough, and that everything at "
        "home answers several times in a row",
        inputs={"names": True, "ends_at": False},
        outputs=("reason", "failed_over_at", "recovered_until"),
        timeout_seconds=180,
        depends=(*STATE, SECRET, SWITCH, DATABASE, CLUSTER, ADDRESSES),
        drill=STAND_IN,
        unreachable="refuses, with primary-still-failing; nothing is changed",
    ),
    StepKind(
        uses="failback.compare",
        function="fail_back",
        does="find what the database at home committed and the site that took over never had, and "
        "set it aside",
        inputs={"component": True, "since": True},
        outputs=("rows", "nothing", "object", "database"),
        timeout_seconds=900,
        depends=(*STATE, SECRET, DATABASE),
        drill=STAND_IN,
        unreachable="fails, and nothing is moved",
    ),
    StepKind(
        uses="failback.load",
        function="fail_back",
        does="load the database of the site that took over into the server at home, under a new "
        "name, and compare every row",
        inputs={"component": True, "from": True},
        outputs=("database", "tables", "rows"),
        timeout_seconds=900,
        depends=(*STATE, SECRET, DATABASE),
        changes="a new database on the server at home",
        undo="dropdb of that database, which the record names",
        taken_back=True,
        drill=f"{STAND_IN}; what the one at home holds is sent to the other one first",
        unreachable="fails; the database of the other site is whole and is let in again by hand",
    ),
    StepKind(
        uses="failback.bring-files",
        function="restore_data",
        does="bring folders from the server of the site that took over to the one at home, and "
        "compare every file",
        inputs={"component": True, "from": True, "instance": True},
        outputs=("instance", "files"),
        timeout_seconds=900,
        depends=(*STATE, *SERVERS),
        changes="folders on the server at home",
        undo="nothing: it goes with the server that the run launched",
        drill=NEW_SERVER,
        unreachable="fails; the other site's server keeps what it has",
    ),
    StepKind(
        uses="failback.bring-cache",
        function="restore_data",
        does="bring the keys of the Redis of the site that took over to the one at home, and look "
        "for every key",
        inputs={"component": True, "from": True, "instance": True},
        outputs=("instance", "keys"),
        timeout_seconds=900,
        depends=(*STATE, SECRET, *SERVERS, CACHE),
        changes="the keys of a Redis that had none; the address in its secret",
        undo="nothing: it goes with the server that the run launched; the version AWSPREVIOUS",
        drill=NEW_SERVER,
        unreachable="fails; the other site's Redis keeps what it has",
    ),
    StepKind(
        uses="failback.protect",
        function="fail_back",
        does="take a backup at home and wait for it and its copies, and let a failover be decided "
        "again",
        inputs={"component": True},
        outputs=("backup", "wal", "copies", "released"),
        timeout_seconds=900,
        depends=(*STATE, BACKUPS),
        changes="a new recovery point; the latch of the failover is gone",
        undo="nothing to undo: a backup more, and a failover that may start by itself again",
        drill="nothing: stand-ins have no backups",
        unreachable="fails: what runs at home must be backed up before this is over",
    ),
)
