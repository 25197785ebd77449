"""On which component a step acts: the component itself, or what stands in for it.

What a step reads (backups, copies) is always the component's own.
"""

from __future__ import annotations

from chalicelib.errors import NotReady
from chalicelib.incidents.run import Run
from chalicelib.plan.model import Plan
from chalicelib.services import build

DRILL = "drill"


def acting_on(run: Run, component: str) -> str:
    """The component's stand-in at the run's site, and of that, in a drill, its own for drills.

    Raises:
        NotReady: code "no-drill-target", in a drill without a stand-in: production is not touched.
    """
    return choose_target(build.plan(), component, site=run.site, drill=run.drill)


def choose_target(plan: Plan, component: str, *, site: str, drill: bool) -> str:
    """See `acting_on`."""
    here = plan.components[component].stand_ins.get(site, component)
    if not drill:
        return here
    target = plan.components[here].stand_ins.get(DRILL)
    if target is None:
        raise NotReady(
            f"expected a stand-in of {here} for drills, found none in the plan",
            hint=f"name one under `stand_ins: {{drill: ...}}` of {here}; drills act on that alone",
            code="no-drill-target",
        )
    return target
