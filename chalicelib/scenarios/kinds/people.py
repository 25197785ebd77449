"""Steps that tell people something."""

from __future__ import annotations

from chalicelib.scenarios.kinds.kind import SECRET, STATE, StepKind

KINDS = (
    StepKind(
        uses="people.tell",
        function="tell",
        does="tell an audience by its channels, until one of them has taken the message",
        inputs={"audience": True, "template": False, "says": False},
        outputs=("told", "waiting"),
        timeout_seconds=60,
        depends=(*STATE, SECRET),
        changes="people are told",
        undo="tell them otherwise: a message cannot be taken back",
        drill="the addresses that the plan gives for drills, marked DRILL",
    ),
)
