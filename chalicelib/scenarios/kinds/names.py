"""Steps on DNS names."""

from __future__ import annotations

from chalicelib.scenarios.kinds.kind import STATE, Dependency, StepKind

DNS = Dependency("route53", "data", "global")
SWITCH = Dependency("s3", "data", "standby")
RECORDS = Dependency("route53", "control", "global")
TARGETS = Dependency("elasticloadbalancing", "control", "own")
OUTPUTS = ("site", "switched_at", "resolved_at", "seconds", "answers")
MOVES = {"component": True, "to": False, "reason": False}
STAND_IN = "the names that stand in for drills, which lead nobody anywhere"

KINDS = (
    StepKind(
        uses="names.switch",
        function="move_names",
        does="move names by the health check or routing control set up beforehand, and see every "
        "name server answer with the new site",
        inputs=MOVES,
        outputs=OUTPUTS,
        timeout_seconds=300,
        depends=(*STATE, SWITCH, DNS),
        changes="where the names lead",
        undo="the record names the one object to remove or write, or the routing controls to set",
        taken_back=True,
        drill=STAND_IN,
        unreachable="the same: neither the switch nor the name servers are at the primary site",
    ),
    StepKind(
        uses="names.change-records",
        function="move_names",
        does="change the records of names in one batch, and see every name server answer so",
        inputs=MOVES,
        outputs=OUTPUTS,
        timeout_seconds=300,
        depends=(*STATE, SWITCH, RECORDS, DNS),
        changes="the records of the names",
        undo="change them to the plan's answers for the site before, which the record names",
        taken_back=True,
        drill=STAND_IN,
        unreachable="fails when that is us-east-1, where Route 53 changes records; nothing is half "
        "changed",
    ),
    StepKind(
        uses="names.retarget",
        function="move_names",
        does="register targets at the load balancer, and take out the old when they are healthy",
        inputs=MOVES,
        outputs=OUTPUTS,
        timeout_seconds=300,
        depends=(*STATE, SWITCH, TARGETS),
        changes="the targets of the load balancer",
        undo="register the targets that the record names as taken out",
        taken_back=True,
        drill="the target group of the names that stand in for drills",
        unreachable="fails when the load balancer is there; its old targets stay",
    ),
    StepKind(
        uses="names.verify",
        function="move_names",
        does="ask every name server where the names lead",
        inputs={"component": True, "site": False},
        outputs=("site", "answers"),
        timeout_seconds=120,
        depends=(*STATE, DNS),
        unreachable="the same: the name servers are not there",
    ),
)
