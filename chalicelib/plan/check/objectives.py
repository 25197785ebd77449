"""Rules on what is promised: data loss, recovery time, uptime."""

from __future__ import annotations

from datetime import datetime, timedelta
from graphlib import CycleError, TopologicalSorter

from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.check.timing import Loss, worst_loss, worst_loss_with_site, worst_recovery
from chalicelib.plan.model import Plan
from chalicelib.plan.units import format_duration as show
from chalicelib.plan.units import format_share

_YEAR = timedelta(days=365.25)
# An objective that the third incident of a year would break is a promise of two.
_FEW_INCIDENTS = 3


def find_loss_beyond_rpo(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        promised = plan.rpo_of(name)
        if promised is None:
            continue
        cases = (
            ("", worst_loss(component)),
            (" when its site is lost", worst_loss_with_site(plan, component)),
        )
        beyond = [(case, loss) for case, loss in cases if loss and loss.total > promised]
        for case, loss in beyond[:1]:
            yield (
                ("components", name, "backups", loss.backup),
                f"at most {show(promised)} of {name} may be lost (RPO); up to "
                f"{show(loss.total)} can be{case}: {_explain(loss)}",
            )


def _explain(loss: Loss) -> str:
    parts = (
        (loss.interval, "between two runs"),
        (loss.takes, "for a run"),
        (loss.copied, "until every location has it"),
    )
    return ", ".join(f"{show(time)} {what}" for time, what in parts if time)


def find_time_beyond_rto(plan: Plan, now: datetime) -> Hits:
    for name, scenario in plan.scenarios.items():
        worst, promised = worst_recovery(scenario), plan.rto_of_scenario(name)
        if worst is not None and promised is not None and worst > promised:
            detection = scenario.detected_within
            noticed = f", {show(detection)} of it until it is noticed" if detection else ""
            yield (
                ("scenarios", name, "estimate" if scenario.estimate else "steps"),
                f"{scenario.title} must be over within {show(promised)} (RTO); it can take "
                f"{show(worst)}{noticed}",
            )


def find_unknown_time(plan: Plan, now: datetime) -> Hits:
    for name, scenario in plan.scenarios.items():
        if worst_recovery(scenario) is None:
            silent = [step.name for step in scenario.all_steps() if step.takes is None]
            yield (
                ("scenarios", name),
                f"nothing says how long {scenario.title} takes: no estimate, and no time for "
                f"{', '.join(silent)}",
            )


def find_unknown_loss(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        loss = worst_loss(component)
        if loss is not None and not loss.complete:
            yield (
                ("components", name, "backups", loss.backup),
                f"the most that {name} can lose is not known: the backup that bounds it does not "
                "say how long a run takes, or until when it is copied",
            )


def find_missing_objectives(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        if component.backups and plan.rpo_of(name) is None:
            yield ("components", name), f"no objective says how much of {name} may be lost"
    for name, scenario in plan.scenarios.items():
        if plan.rto_of_scenario(name) is None:
            yield ("scenarios", name), f"no objective says how long {scenario.title} may take"


def find_uptime_used_up(plan: Plan, now: datetime) -> Hits:
    uptime, rto = plan.objectives.uptime, plan.objectives.rto
    if uptime is None or rto is None or not rto:
        return
    allowed = _YEAR * (1 - uptime)
    if allowed < rto * _FEW_INCIDENTS:
        incidents = int(allowed / rto)
        used = incidents * rto / allowed if allowed else 1.0
        yield (
            ("objectives", "uptime"),
            f"{format_share(uptime)} uptime allows {_hours(allowed)} of downtime a year; "
            f"{incidents} incidents at the RTO of {show(rto)} take {used:.0%} of it, and one more "
            "breaks the agreement",
        )


def _hours(time: timedelta) -> str:
    hours, minutes = divmod(round(time.total_seconds() / 60), 60)
    return f"{hours}h {minutes}m"


def find_slow_restore(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        rto = plan.rto_of(name)
        if component.size and component.restores_at and rto is not None:
            needed = timedelta(seconds=component.size / component.restores_at)
            if needed > rto:
                yield (
                    ("components", name, "restores_at"),
                    f"reading back the data of {name} takes {show(needed)} at that speed; it must "
                    f"be back in {show(rto)} (RTO)",
                )


def find_optimistic_estimate(plan: Plan, now: datetime) -> Hits:
    for name, scenario in plan.scenarios.items():
        steps = scenario.longest_path()
        if scenario.estimate and steps is not None and steps > scenario.estimate.at_most:
            yield (
                ("scenarios", name, "estimate"),
                f"{scenario.title} is estimated at {show(scenario.estimate.at_most)} at most; its "
                f"steps add up to {show(steps)}",
            )


def find_unknown_detection(plan: Plan, now: datetime) -> Hits:
    for name, scenario in plan.scenarios.items():
        if scenario.detected_within is None:
            yield (
                ("scenarios", name),
                f"nothing says how soon {scenario.title} is noticed, and the RTO runs from then on",
            )


def find_slower_dependency(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.live.items():
        own = plan.rto_of(name)
        for number, needed in enumerate(component.depends_on):
            other = plan.rto_of(needed)
            if own is not None and other is not None and other > own:
                yield (
                    ("components", name, "depends_on", number),
                    f"{name} must be back in {show(own)}, but needs {needed}, which may take "
                    f"{show(other)}",
                )


def find_dependency_cycle(plan: Plan, now: datetime) -> Hits:
    graph = {name: component.depends_on for name, component in plan.live.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = error.args[1]
        yield (
            ("components", cycle[0], "depends_on"),
            f"no order of recovery exists: {' needs '.join(reversed(cycle))}",
        )


RULES = (
    Rule(
        "LW001",
        "error",
        "More data can be lost than the RPO allows",
        "back up more often, make runs and copies faster, or promise a longer RPO",
        find_loss_beyond_rpo,
    ),
    Rule(
        "LW002",
        "error",
        "A recovery can take longer than the RTO allows",
        "shorten the steps on the longest path, run some together, or promise a longer RTO",
        find_time_beyond_rto,
    ),
    Rule(
        "LW003",
        "error",
        "Nothing says how long a recovery takes",
        "give the scenario an `estimate`, or each step a `takes`, from a drill",
        find_unknown_time,
    ),
    Rule(
        "LW004",
        "warning",
        "The worst loss cannot be computed",
        "state `takes` and `copied_within` of the backup",
        find_unknown_loss,
    ),
    Rule(
        "LW005",
        "error",
        "Something is protected, but nothing is promised",
        "set `objectives.rto` and `objectives.rpo`, or a class of its own",
        find_missing_objectives,
    ),
    Rule(
        "LW006",
        "warning",
        "A few incidents at the RTO use up the uptime promised",
        "promise a shorter RTO or less uptime",
        find_uptime_used_up,
    ),
    Rule(
        "LW007",
        "error",
        "Reading the data back takes longer than the RTO",
        "restore faster (parallel, closer, from a standby), or promise a longer RTO",
        find_slow_restore,
    ),
    Rule(
        "LW008",
        "warning",
        "An estimate is shorter than its steps",
        "correct the estimate to what the steps take, or the steps to what drills measured",
        find_optimistic_estimate,
    ),
    Rule(
        "LW009",
        "warning",
        "Nothing says how soon a disaster is noticed",
        "state `detected_within`, from the alarm's period and threshold",
        find_unknown_detection,
    ),
    Rule(
        "LW010",
        "error",
        "A component needs one that may be back later",
        "put what is needed into a class at least as strict",
        find_slower_dependency,
    ),
    Rule(
        "LW011",
        "error",
        "Components need each other in a circle",
        "remove one of the dependencies, or say which one can start without the other",
        find_dependency_cycle,
    ),
)
