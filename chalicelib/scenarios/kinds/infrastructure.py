"""Steps on whole sites: what is left, what must be made, the way back, why it happened."""

from __future__ import annotations

from chalicelib.scenarios.kinds.kind import SECRET, STATE, Dependency, StepKind

BUILDS = (
    Dependency("codebuild", "control", "own"),
    Dependency("logs", "data", "own"),
)

KINDS = (
    StepKind(
        uses="infrastructure.assess",
        function="assess",
        does="ask every component and every copy whether it answers, and name what to rebuild",
        inputs={},
        outputs=("scope", "serving", "unrestorable", "object"),
        timeout_seconds=180,
        depends=(*STATE, SECRET),
        unreachable="silence is an answer: each probe has its own deadline and counts as lost",
    ),
    StepKind(
        uses="infrastructure.decide-scope",
        function="assess",
        does="fix what is rebuilt: what the assessment names, with a person's changes to it",
        inputs={"scope": True, "answer": False},
        outputs=("scope",),
        timeout_seconds=60,
        depends=STATE,
        unreachable="it asks nothing there",
    ),
    StepKind(
        uses="infrastructure.provision",
        function="provision",
        does="make the site's infrastructure with Terraform, in a build that is done once",
        inputs={"component": True},
        outputs=("build", "workspace", "outputs"),
        timeout_seconds=900,
        depends=(*STATE, *BUILDS),
        changes="the resources that Terraform's state of the environment names",
        undo="terraform destroy in the workspace of the record; by itself in drills alone",
        taken_back=True,
        drill="a workspace named by the run, which is destroyed at its end",
        unreachable="it asks nothing there: state, source and build lie in the site's own region",
    ),
    StepKind(
        uses="failback.plan",
        function="assess",
        does="write down the way back: what, from where, in which order, how verified, when",
        inputs={},
        outputs=("object", "components", "not_before"),
        timeout_seconds=60,
        depends=STATE,
        unreachable="it asks nothing there; the plan says what to wait for",
    ),
    StepKind(
        uses="analysis.open",
        function="assess",
        does="open the analysis of the cause: the timeline so far, what is known, the questions",
        inputs={"owner": False},
        outputs=("object", "due_at"),
        timeout_seconds=60,
        depends=STATE,
        unreachable="it asks nothing there",
    ),
)
