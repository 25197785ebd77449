"""Rules on scenarios: what they cover, who agrees, and whether their commands can work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from chalicelib.plan.check.backups import HOLDS_DATA
from chalicelib.plan.check.finding import Path
from chalicelib.plan.check.regions import same_place
from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.components import Names
from chalicelib.plan.model import Plan
from chalicelib.plan.scenario import Scenario, Step

# Source: AWS Fault Isolation Boundaries (whitepaper), appendix B: Route 53's control plane is in
# us-east-1; answering queries and health checks is not.
_ROUTE53_CONTROL_REGION = "us-east-1"
# Steps of the catalogue after which production is another than before.
# What these take, the run must have verified (services/steps/database/proven.py).
_NEEDS_PROOF = ("database.load", "database.hand-over")
_IRREVERSIBLE = ("database.switch",)
_RESTORES = re.compile(r"\brestor", re.IGNORECASE)
_VERIFIES = re.compile(r"\b(verif|test|validat|check)", re.IGNORECASE)
_FIXED_DATE = re.compile(r"20\d\d[-_]?[01]\d[-_]?[0-3]\d")
_PG_RESTORE = re.compile(r"\bpg_restore\b[^\n;|&]*")
# What a call writes: `-f FILE`, `--file FILE`, `> FILE`; and that it names a database or a listing.
_WRITTEN = re.compile(r"(\s-f\s*|\s--file[= ]|>\s*)\S+")
_HAS_TARGET = re.compile(r"\s(-d|--dbname|-l|--list)")


def find_unrestored_component(plan: Plan, now: datetime) -> Hits:
    restored = {
        name for scenario in plan.scenarios.values() for name in scenario.restored_components()
    }
    stand_ins = {other for it in plan.live.values() for other in it.stand_ins.values()}
    for name in plan.live:
        if name not in restored | stand_ins:
            yield ("components", name), f"no scenario brings {name} back"


def find_uncovered_site(plan: Plan, now: datetime) -> Hits:
    covered = {name for scenario in plan.scenarios.values() for name in scenario.loses}
    for name, site in plan.sites.items():
        if site.role == "primary" and name not in covered:
            yield ("sites", name), f"no scenario is for the loss of {name}"


def find_forgotten_data(plan: Plan, now: datetime) -> Hits:
    for name, scenario in plan.scenarios.items():
        lost = [
            component
            for component, what in plan.live.items()
            if what.kind in HOLDS_DATA
            and what.site in scenario.loses
            and component not in plan.stand_ins
        ]
        left = [one for one in lost if one not in scenario.restored_components()]
        if left:
            yield (
                ("scenarios", name),
                f"{scenario.title} loses {', '.join(left)} and does not bring it back",
            )


def find_unapproved_change(plan: Plan, now: datetime) -> Hits:
    for path, step in _all_steps(plan):
        if step.uses in _IRREVERSIBLE and step.approve is None:
            yield path, f"{step.name} ({step.uses}) changes production, and nobody approves it"


def find_silent_consent(plan: Plan, now: datetime) -> Hits:
    for path, step in _all_steps(plan):
        if step.approve and step.approve.otherwise == "proceed" and step.uses in _IRREVERSIBLE:
            yield (
                (*path, "approve", "otherwise"),
                f"{step.name} changes production, and when nobody answers it goes ahead",
            )


def find_self_approval(plan: Plan, now: datetime) -> Hits:
    for path, step in _all_steps(plan):
        if step.approve is None or step.by is None:
            continue
        approvers = {who for role in step.approve.by for who in _people_of(plan, role)}
        if approvers and approvers <= _people_of(plan, step.by):
            yield (
                (*path, "approve"),
                f"whoever does {step.name} approves it too: {', '.join(sorted(approvers))}",
            )


def _people_of(plan: Plan, role: str) -> set[str]:
    return set(plan.roles[role].held_by) if role in plan.roles else set()


def find_unverified_restore(plan: Plan, now: datetime) -> Hits:
    for name, scenario in plan.scenarios.items():
        steps = list(scenario.steps_with_paths())
        restores = [i for i, (_, step) in enumerate(steps) if _restores(step)]
        if restores and not any(_verifies(step) for _, step in steps[restores[-1] + 1 :]):
            path, step = steps[restores[-1]]
            yield (
                ("scenarios", name, "steps", *path),
                f"{scenario.title} ends without a look at what was restored by {step.name!r}",
            )


def find_unverified_load(plan: Plan, now: datetime) -> Hits:
    for name, scenario in plan.scenarios.items():
        verified: set[tuple[str, str]] = set()
        for path, step in scenario.steps_with_paths():
            what = (str(step.inputs.get("component")), str(step.inputs.get("target")))
            if step.uses == "database.verify":
                verified.add(what)
            elif step.uses in _NEEDS_PROOF and what not in verified:
                yield (
                    ("scenarios", name, "steps", *path),
                    f"{step.name} is refused: no step before it verifies {what[0]} at {what[1]}",
                )


def _restores(step: Step) -> bool:
    told = bool(step.by and _RESTORES.search(step.says)) and not _verifies(step)
    return told or step.uses == "database.restore"


def _verifies(step: Step) -> bool:
    return step.uses == "database.verify" or bool(_VERIFIES.search(step.says))


def find_unnoticed_scenario(plan: Plan, now: datetime) -> Hits:
    for name, scenario in plan.scenarios.items():
        if not scenario.detection and not scenario.alarms:
            yield ("scenarios", name), f"nothing says how {scenario.title} is noticed"


def find_control_plane_in_lost_region(plan: Plan, now: datetime) -> Hits:
    for path, step, scenario in _scenario_steps(plan):
        component = plan.components.get(step.component or "")
        if not isinstance(component, Names):
            continue
        if component.provider == "route53" and component.failover == "change-records":
            lost = [name for name in scenario.loses if _is_control_region(plan, name)]
            for site in lost:
                yield (
                    path,
                    f"{step.name} changes records of {component.zone} through Route 53's control "
                    f"plane, which is in {_ROUTE53_CONTROL_REGION}: the region that is lost with "
                    f"{site}{_instead(plan, scenario, step, component)}",
                )


def _instead(plan: Plan, scenario: Scenario, step: Step, component: Names) -> str:
    """What a run acts on there, when that is another: the finding is about the component's own."""
    other = component.stand_ins.get(scenario.recovers_at(plan.sites))
    return f"; a run moves {other} instead" if step.uses and other else ""


def _is_control_region(plan: Plan, site: str) -> bool:
    place = plan.sites[site]
    return place.provider == "aws" and place.region == _ROUTE53_CONTROL_REGION


def find_reading_what_is_lost(plan: Plan, now: datetime) -> Hits:
    for path, step, scenario in _scenario_steps(plan):
        for what in _lost_things(plan, scenario, step.commands or ""):
            yield (
                (*path, "commands"),
                f"{step.name} reads from {what}, which {scenario.title} has lost",
            )


def _lost_things(plan: Plan, scenario: Scenario, commands: str) -> Iterator[str]:
    for name in scenario.loses:
        site = plan.sites[name]
        for location in plan.locations.values():
            shares_fate = same_place(site, location) or location.role == "local"
            if shares_fate and location.bucket and f"//{location.bucket}/" in commands:
                yield f"{location.bucket} ({location.region})"
        if re.search(rf"--(source|from)[= ]{re.escape(name)}\b", commands):
            yield f"the site {name}"


def find_fixed_backup(plan: Plan, now: datetime) -> Hits:
    for path, text in _all_commands(plan):
        if match := _FIXED_DATE.search(text):
            yield path, f"the command names one backup, of {match[0]}: tonight it is another"


def find_unreadable_dump(plan: Plan, now: datetime) -> Hits:
    for path, text in _all_commands(plan):
        for call in _PG_RESTORE.findall(text.replace("\\\n", " ")):
            read = _WRITTEN.sub(" ", call)
            if re.search(r"\.sql\b", read):
                yield (
                    path,
                    "pg_restore is given a .sql file: it reads custom, directory and tar archives; "
                    "plain SQL is for psql",
                )
            elif read == call and not _HAS_TARGET.search(call):
                yield path, "pg_restore is given neither a database (-d) nor a file (-f), and stops"


def _all_steps(plan: Plan) -> Iterator[tuple[Path, Step]]:
    return ((path, step) for path, step, _ in _scenario_steps(plan))


def _scenario_steps(plan: Plan) -> Iterator[tuple[Path, Step, Scenario]]:
    for name, scenario in plan.scenarios.items():
        for path, step in scenario.steps_with_paths():
            yield ("scenarios", name, "steps", *path), step, scenario


def _all_commands(plan: Plan) -> Iterator[tuple[Path, str]]:
    for path, step in _all_steps(plan):
        if step.commands:
            yield (*path, "commands"), step.commands
    for name, scenario in plan.scenarios.items():
        if scenario.procedure:
            yield ("scenarios", name, "procedure"), scenario.procedure


RULES = (
    Rule(
        "LW037",
        "warning",
        "A component that nothing brings back",
        "name it under `restores` of a scenario, with a step that does it",
        find_unrestored_component,
    ),
    Rule(
        "LW038",
        "error",
        "No scenario for the loss of a site",
        "write a scenario with `loses` that names the site",
        find_uncovered_site,
    ),
    Rule(
        "LW039",
        "error",
        "A scenario forgets data that it loses",
        "restore it in the scenario and name it under `restores`",
        find_forgotten_data,
    ),
    Rule(
        "LW040",
        "warning",
        "Production is changed without anybody's approval",
        "add `approve` to the step, or accept it where speed matters more",
        find_unapproved_change,
    ),
    Rule(
        "LW041",
        "error",
        "Silence counts as consent",
        "let the approval end in `otherwise: stop`",
        find_silent_consent,
    ),
    Rule(
        "LW042",
        "error",
        "Whoever acts approves their own act",
        "name a role that other people hold",
        find_self_approval,
    ),
    Rule(
        "LW043",
        "warning",
        "Restored, and not looked at",
        "add a step that verifies what was restored before anyone relies on it",
        find_unverified_restore,
    ),
    Rule(
        "LW112",
        "error",
        "Loaded before it was verified",
        "put database.verify, of the same component and `target`, before it",
        find_unverified_load,
    ),
    Rule(
        "LW044",
        "warning",
        "A scenario that nobody notices",
        "state `detection`, and `alarms` where one can start it",
        find_unnoticed_scenario,
    ),
    Rule(
        "LW045",
        "error",
        "Names are moved through a control plane in the lost region",
        "prepare a health check or routing control beforehand and set `failover` to it",
        find_control_plane_in_lost_region,
    ),
    Rule(
        "LW046",
        "error",
        "A recovery reads from what is lost",
        "read from a location outside the lost site",
        find_reading_what_is_lost,
    ),
    Rule(
        "LW047",
        "warning",
        "A command names one particular backup",
        "let the command find the newest clean backup, or take its name as an argument",
        find_fixed_backup,
    ),
    Rule(
        "LW048",
        "error",
        "A restore command that cannot work",
        "restore .sql with psql -f, and give pg_restore an archive and a database (-d)",
        find_unreadable_dump,
    ),
)
