"""The catalogue of step kinds: what each needs, gives, may take, depends on, and how it is undone.

A plan's step names a kind by `uses`. The code behind a kind is bound in services/steps/code.py;
this table is all that the compiler, the explanation and the linter know of it.
"""

from __future__ import annotations

from chalicelib.scenarios.kinds import (
    database,
    deletion,
    failback,
    health,
    infrastructure,
    isolation,
    names,
    people,
    server,
    service,
)
from chalicelib.scenarios.kinds.kind import Dependency, StepKind

__all__ = ["RUN_FIELDS", "STEP_KINDS", "Dependency", "StepKind"]

STEP_KINDS: dict[str, StepKind] = {
    kind.uses: kind
    for kind in (
        *database.KINDS,
        *deletion.KINDS,
        *failback.KINDS,
        *health.KINDS,
        *infrastructure.KINDS,
        *isolation.KINDS,
        *names.KINDS,
        *people.KINDS,
        *server.KINDS,
        *service.KINDS,
    )
}

# What a run's input offers to `${run.FIELD}`; the recorder's `start_payload` fills each.
RUN_FIELDS = (
    "run_id",
    "incident_id",
    "scenario",
    "component",
    "alarm_at",
    "moment",
    "drill",
    "site",
)
