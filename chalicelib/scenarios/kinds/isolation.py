"""Steps that isolate what an attack reached, find how it began, and keep what proves it."""

from __future__ import annotations

from chalicelib.scenarios.kinds.kind import SECRET, STATE, Dependency, StepKind

# IAM's control plane is in us-east-1: sessions and keys are cut off through it alone.
IAM = Dependency("iam", "control", "global")
BUCKET = Dependency("s3", "control", "own")
COMPUTE = Dependency("ec2", "control", "own")
STAND_IN = "the component's stand-in for drills, and the identities that it names"

KINDS = (
    StepKind(
        uses="isolation.isolate",
        function="isolate",
        does="refuse writes to the bucket, disable keys, revoke sessions, close the network, "
        "keep the volumes, stop what expires",
        inputs={"component": True, "identities": False},
        outputs=("raised", "left", "snapshots"),
        timeout_seconds=300,
        depends=(*STATE, BUCKET, IAM, COMPUTE),
        changes="bucket policy, lifecycle, access keys, sessions, security groups; new snapshots",
        undo="leeward isolation lift COMPONENT",
        taken_back=True,
        drill=STAND_IN,
    ),
    StepKind(
        uses="isolation.lift",
        function="isolate",
        does="take the isolation down, or the kinds named, as it was before",
        inputs={"component": True, "only": False},
        outputs=("lifted",),
        timeout_seconds=300,
        depends=(*STATE, BUCKET, IAM, COMPUTE),
        changes="what the isolation changed is as it was",
        undo="isolate the component again",
        drill=STAND_IN,
    ),
    StepKind(
        uses="infection.identify",
        function="inspect",
        does="find who attacked, from where, since when, and the last clean moment",
        inputs={"component": True, "database": False, "moment": False},
        outputs=(
            "started_at", "last_clean", "target", "damage", "vector", "identities", "counts",
            "alternatives",
        ),
        timeout_seconds=900,
        depends=(*STATE, SECRET),
    ),
    StepKind(
        uses="infection.verify",
        function="inspect",
        does="look for signs of ransomware in what was restored",
        inputs={"component": True, "last_clean": True},
        outputs=("looked_at", "flagged"),
        timeout_seconds=900,
        depends=STATE,
        drill="the component's stand-in for drills",
    ),
    StepKind(
        uses="infection.mend",
        function="restore_bucket",
        does="bring back from the replica what the attack took every version of",
        inputs={"component": True, "moment": True},
        outputs=("back", "gone"),
        timeout_seconds=900,
        depends=STATE,
        changes="objects of the replica on top in the bucket",
        undo="leeward restore bucket NAME --to the time before the step",
        drill="nothing: a drill's attack took no version",
    ),
    StepKind(
        uses="forensics.keep",
        function="inspect",
        does="keep what proves the attack: versions, trail, snapshots, findings, with digests",
        inputs={"component": True, "started_at": True},
        outputs=("manifest", "items", "left"),
        timeout_seconds=900,
        depends=STATE,
    ),
    StepKind(
        uses="service.patch",
        function="workloads",
        does="roll out the image that closes the hole, and wait until every server runs it",
        inputs={"component": True, "image": False},
        outputs=("image", "ready"),
        timeout_seconds=600,
        depends=(*STATE, Dependency("eks-cluster-api", "data", "own"),
                 Dependency("sts", "data", "own")),
        changes="the image of the application servers",
        undo="kubectl rollout undo deployment NAME",
        taken_back=True,
        drill="the service's stand-in for drills",
        unreachable="fails: what does not answer cannot be patched",
    ),
)  # fmt: skip
