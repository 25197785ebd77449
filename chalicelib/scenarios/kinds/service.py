"""Steps on application servers: deployments in Kubernetes, or units of a host."""

from __future__ import annotations

from chalicelib.scenarios.kinds.kind import SECRET, STATE, Dependency, StepKind

# The cluster asks STS who holds the token; Leeward itself calls nothing of AWS to reach it.
CLUSTER = (Dependency("eks-cluster-api", "data", "own"), Dependency("sts", "data", "own"))
STAND_IN = "the service's stand-in for drills"
FAILS = "fails: what does not answer cannot be changed, and nothing is half changed"

KINDS = (
    StepKind(
        uses="service.stop",
        function="workloads",
        does="stop the application servers, and wait until the last process has ended",
        inputs={"component": True},
        outputs=("stopped", "before", "seconds"),
        timeout_seconds=300,
        depends=(*STATE, *CLUSTER),
        changes="no application server runs",
        undo="kubectl scale deployment NAME --replicas=N, or systemctl start or stop; the record "
        "names them",
        taken_back=True,
        drill=STAND_IN,
        unreachable="nothing is stopped, and the run goes on when its scenario loses that site",
    ),
    StepKind(
        uses="service.start",
        function="workloads",
        does="start the application servers, and wait until all of them serve",
        inputs={"component": True, "replicas": False},
        outputs=("ready", "revision", "seconds"),
        timeout_seconds=300,
        depends=(*STATE, *CLUSTER),
        changes="the application servers run",
        undo="kubectl scale deployment NAME --replicas=N, or systemctl start or stop; the record "
        "names them",
        taken_back=True,
        drill=STAND_IN,
        unreachable=FAILS,
    ),
    StepKind(
        uses="service.configure",
        function="workloads",
        does="set a variable of the application servers, and wait until all were replaced",
        inputs={"component": True, "name": True, "value": False, "address_of": False},
        outputs=("changed", "ready", "revision", "seconds"),
        timeout_seconds=300,
        depends=(*STATE, SECRET, *CLUSTER),
        changes="a variable of the application servers",
        undo="the value before is in the deployment's annotation leeward/before",
        taken_back=True,
        drill=STAND_IN,
        unreachable=FAILS,
    ),
    StepKind(
        uses="service.apply",
        function="workloads",
        does="apply the manifests of the application, and wait until what they deploy serves",
        inputs={"component": True, "manifests": False},
        outputs=("objects", "created", "changed", "ready", "seconds"),
        timeout_seconds=600,
        depends=(*STATE, *CLUSTER),
        changes="the objects of the manifests",
        undo="what was there before is in each object's annotation leeward/before",
        taken_back=True,
        drill=STAND_IN,
        unreachable=FAILS,
    ),
    StepKind(
        uses="service.verify",
        function="workloads",
        does="see that all application servers serve, with the newest configuration and no other",
        inputs={"component": True},
        outputs=("ready", "revision", "health"),
        timeout_seconds=300,
        depends=(*STATE, *CLUSTER),
        drill=STAND_IN,
        unreachable="fails: what does not answer is not verified",
    ),
)
