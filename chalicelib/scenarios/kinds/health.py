"""Steps that ask whether services serve."""

from __future__ import annotations

from chalicelib.scenarios.kinds.kind import SECRET, STATE, Dependency, StepKind

ADDRESSES = Dependency("http", "data", "own")
DATABASE = Dependency("postgres", "data", "own")
STAND_IN = "the health addresses of what stands in for drills"
ELSEWHERE = "the same: it asks what runs at the other site"

KINDS = (
    StepKind(
        uses="health.verify",
        function="verify_services",
        does="ask the health address of every service until each has answered well three times in "
        "a row, and see the application write in its databases",
        inputs={"site": False, "component": False},
        outputs=("services", "databases"),
        timeout_seconds=600,
        depends=(*STATE, SECRET, ADDRESSES, DATABASE),
        drill=STAND_IN,
        unreachable=ELSEWHERE,
    ),
    StepKind(
        uses="health.watch",
        function="verify_services",
        does="watch the services for a while: how fast they answer, how often not, how long not",
        inputs={"for": True, "site": False, "component": False},
        outputs=("verdict", "services"),
        timeout_seconds=900,
        depends=(*STATE, ADDRESSES),
        drill=f"{STAND_IN}, for a sixtieth of the time",
        unreachable=ELSEWHERE,
    ),
)
