"""Steps on servers, and restores onto them."""

from __future__ import annotations

from chalicelib.scenarios.kinds.kind import SECRET, STATE, Dependency, StepKind

LAUNCHES = Dependency("ec2", "control", "own")
FINDS = Dependency("ec2", "data", "own")
COMMANDS = Dependency("ssm", "data", "own")
TARGETS = Dependency("elasticloadbalancing", "control", "own")
HTTP = Dependency("http", "data", "own")
NEW_SERVER = "the new server that the drill launched, which is terminated at its end"
STAND_IN = "the server that stands in for drills"
OWN = "the same: it acts where the recovery happens"
RESTORED = "on a server that the run launched: nothing, as it goes with it; on another: what lay "
RESTORED += "there is beside it, and the record names where"

KINDS = (
    StepKind(
        uses="server.provision",
        function="manage_servers",
        does="launch a new server from the launch template and wait until it takes commands",
        inputs={"component": True},
        outputs=("instance", "address", "version", "replaces", "launched_at"),
        timeout_seconds=600,
        depends=(*STATE, LAUNCHES, COMMANDS),
        changes="a new server runs, under a name of the run",
        undo="terminate the instance that the record names",
        taken_back=True,
        drill="the launch template of the server that stands in for drills",
        unreachable=OWN,
    ),
    StepKind(
        uses="server.secure",
        function="manage_servers",
        does="compare the server's security groups with the plan and put them right",
        inputs={"component": True, "instance": False},
        outputs=("instance", "groups", "changed"),
        timeout_seconds=120,
        depends=(*STATE, LAUNCHES),
        changes="the server's security groups",
        undo="give it the groups that the record names as those before",
        drill=NEW_SERVER,
        unreachable=OWN,
    ),
    StepKind(
        uses="server.run",
        function="manage_servers",
        does="run the step's own commands on the server",
        inputs={"component": True, "instance": False, "folder": False},
        outputs=("instance", "status", "tail"),
        timeout_seconds=900,
        depends=(*STATE, FINDS, COMMANDS),
        changes="what the commands change",
        undo="nobody but their author knows: the record has the commands",
        drill=NEW_SERVER,
        unreachable=OWN,
    ),
    StepKind(
        uses="server.patch",
        function="manage_servers",
        does="install what the server's patch baseline says is missing (AWS-RunPatchBaseline)",
        inputs={"component": True, "instance": False, "restart": False},
        outputs=("instance", "installed", "baseline"),
        timeout_seconds=900,
        depends=(*STATE, FINDS, COMMANDS),
        changes="the packages of the server's system; it may be restarted",
        undo="none: a patch is not taken out again",
        drill=STAND_IN,
        unreachable=OWN,
    ),
    StepKind(
        uses="server.test",
        function="manage_servers",
        does="ask the server itself for a page, and compare what it says",
        inputs={"component": True, "instance": False, "url": True, "expect": False},
        outputs=("instance", "url", "answered_at"),
        timeout_seconds=300,
        depends=(*STATE, FINDS, HTTP),
        drill=NEW_SERVER,
        unreachable=OWN,
    ),
    StepKind(
        uses="server.isolate",
        function="manage_servers",
        does="take the replaced server out of the load balancer and the network, stop and keep it",
        inputs={"component": True},
        outputs=("instance", "stopped"),
        timeout_seconds=300,
        depends=(*STATE, LAUNCHES, TARGETS),
        changes="the replaced server is stopped, in the quarantine group, and no target",
        undo="give it its groups, start and register it, as the record says",
        taken_back=True,
        drill=STAND_IN,
        unreachable="the same: EC2 stops it whether it answers or not",
    ),
    StepKind(
        uses="server.register",
        function="manage_servers",
        does="send the load balancer's traffic to the new server, and give it the plan's name",
        inputs={"component": True, "instance": True},
        outputs=("instance", "healthy_at"),
        timeout_seconds=600,
        depends=(*STATE, LAUNCHES, TARGETS),
        changes="the load balancer's targets, and which server has the plan's name",
        undo="deregister the new one; exchange the names as the record says",
        taken_back=True,
        drill="the target group of the server that stands in for drills",
        unreachable=OWN,
    ),
    StepKind(
        uses="code.restore",
        function="restore_data",
        does="put the code on the server at the deployed revision: from the repository, or from "
        "the newest clean bundle when that does not answer",
        inputs={
            "component": True,
            "instance": False,
            "folder": True,
            "revision_file": False,
            "configuration": False,
            "like": False,
        },
        outputs=("instance", "revision", "source"),
        timeout_seconds=900,
        depends=(*STATE, FINDS, COMMANDS),
        changes="a folder on the server",
        undo=RESTORED,
        drill=NEW_SERVER,
        unreachable=OWN,
    ),
    StepKind(
        uses="files.restore",
        function="restore_data",
        does="put the newest clean copy of the folders in their place on the server",
        inputs={"component": True, "instance": False},
        outputs=("instance", "point", "taken_at"),
        timeout_seconds=900,
        depends=(*STATE, FINDS, COMMANDS),
        changes="folders on the server",
        undo=RESTORED,
        drill=NEW_SERVER,
        unreachable=OWN,
    ),
    StepKind(
        uses="cache.restore",
        function="restore_data",
        does="write the newest clean dump into the server's Redis, and look for every key",
        inputs={"component": True, "instance": False},
        outputs=("point", "keys", "taken_at"),
        timeout_seconds=900,
        depends=(*STATE, SECRET, FINDS, Dependency("redis", "data", "own")),
        changes="the keys of a Redis that had none",
        undo="FLUSHALL on the server that the record names",
        drill=NEW_SERVER,
        unreachable=OWN,
    ),
)
