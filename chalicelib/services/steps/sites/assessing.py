"""The steps that say what a disaster left, and what is therefore rebuilt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from chalicelib.errors import CheckFailed, LeewardError, Unavailable
from chalicelib.evidence.entries import decision
from chalicelib.evidence.pages import render_page
from chalicelib.evidence.text import in_units
from chalicelib.incidents.run import Run
from chalicelib.plan.components import BaseComponent, Infrastructure
from chalicelib.plan.records import RecoveryTarget
from chalicelib.recover.choose_copy import Candidate, choose_copy
from chalicelib.recover.sites.assess import (
    HOLDS_DATA,
    Ask,
    Asked,
    CopyFacts,
    Facts,
    Scope,
    ask_all,
    change_scope,
    decide_scope,
)
from chalicelib.services import build
from chalicelib.services.steps.said import say
from chalicelib.services.steps.sites.sightings import PROBE_SECONDS, probes_of, silent, unasked

if TYPE_CHECKING:
    from chalicelib.plan.scenario import Scenario

Outputs = dict[str, Any]
END = RecoveryTarget("end", "")

# Reading what a location holds: a listing and a manifest each. Of the step's 180 s.
COPIES_SECONDS = 30.0


def assess_step(run: Run, inputs: Outputs) -> Outputs:
    """Ask everything the scenario brings back, and every copy of it, at once; decide the scope.

    Raises:
        CheckFailed: code "nothing-is-lost", in a real run in which everything serves.
    """
    plan, scenario = build.plan(), build.plan().scenarios[run.scenario]
    facts = gather(run, scenario)
    scope = decide_scope(
        facts,
        lost=scenario.loses,
        site=run.site,
        now=build.clock().now(),
        proof_valid_for=plan.proof_valid_for,
    )
    key = _keep(run, facts, scope)
    _tell(run, scope)
    if not scope.rebuilt and not run.drill:
        raise _nothing_lost(scope, key)
    return {
        "found": _found(scope),
        "scope": list(scope.rebuilt),
        "serving": list(scope.serving),
        "unrestorable": list(scope.unrestorable),
        "object": key,
    }


def decide_scope_step(run: Run, inputs: Outputs) -> Outputs:
    """The scope as assessed, with what a person adds and leaves out; both are recorded."""
    assessed = tuple(inputs["scope"])
    answer = str(inputs.get("answer") or "")
    chosen = change_scope(assessed, answer, build.plan().components)
    why = f"a person answered {answer!r}" if chosen != assessed else "as assessed"
    told = ", ".join(chosen) or "nothing"
    say(run, decision(what=f"rebuild {told}", why=why, alternatives=assessed))
    return {"found": f"to be rebuilt: {told} ({why})", "scope": list(chosen)}


def gather(run: Run, scenario: Scenario) -> tuple[Facts, ...]:
    """Everything at once; each probe and each location has a deadline of its own. A location that
    is lost with the site is not asked, as no restore asks it."""
    _open_clients()
    lost = build.locations().lost_with(scenario.loses)
    names = tuple(_assessed(scenario))
    probes = {name: probes_of(name) for name in names}
    questions: dict[str, tuple[Ask, float]] = {
        f"{name} {asked}": (probe, PROBE_SECONDS)
        for name, its in probes.items()
        for asked, probe in its.items()
    }
    copies = {name: build.locations().of(name) for name in names if _has_copies(name)}
    for name, locations in copies.items():
        for location in set(locations) - lost:
            ask = partial(build.locations().ask, location, name, _region(run))
            questions[f"{name} @{location}"] = (ask, COPIES_SECONDS)
    answers = ask_all(questions)
    return tuple(
        _facts(name, scenario, probes[name], copies.get(name, ()), answers) for name in names
    )


def _open_clients() -> None:
    """In this thread: the library that makes clients is not made for several at once."""
    build.s3()
    build.client("secretsmanager")


def _assessed(scenario: Scenario) -> Iterator[str]:
    """What the scenario brings back, and whatever else was at the sites that it gives up; but not
    what only stands in for others."""
    plan, restored = build.plan(), scenario.restored_components()
    stand_ins = {name for it in plan.components.values() for name in it.stand_ins.values()}
    for name, component in plan.live.items():
        if isinstance(component, Infrastructure):
            continue
        if name in restored or (component.site in scenario.loses and name not in stand_ins):
            yield name


def _has_copies(name: str) -> bool:
    return any(backup.to for backup in build.plan().components[name].backups)


def _region(run: Run) -> str:
    site = build.plan().sites.get(run.site)
    return (site.region or "") if site and site.provider == "aws" else ""


def _facts(
    name: str,
    scenario: Scenario,
    asked: Any,
    locations: tuple[str, ...],
    answers: dict[str, Asked],
) -> Facts:
    component = build.plan().components[name]
    sightings = tuple(
        answers[f"{name} {it}"].answer or silent(f"the {it} of {name}", PROBE_SECONDS)
        for it in asked
    )
    candidates = tuple(_heard(it, answers.get(f"{name} @{it}")) for it in locations)
    copy, told = best_copy(candidates)
    return Facts(
        component=name,
        kind=component.kind,
        site=component.site or "",
        depends_on=component.depends_on,
        restored=name in scenario.restored_components(),
        sightings=sightings or (unasked(name, f"{name} cannot be asked from here"),),
        copy=copy,
        copies=told if component.kind in HOLDS_DATA else (),
        seconds=_worst_seconds(name, component, scenario),
    )


def _heard(location: str, asked: Asked | None) -> Candidate:
    """What a location answered; None: it was not asked."""
    if asked is None:
        why = "it is lost with the site, and was not asked"
    elif asked.answer is None:
        why = f"no answer in {COPIES_SECONDS:g} s"
    else:
        found: Candidate = asked.answer
        return found
    return Candidate(location, 0, error=Unavailable(why, hint="it is left out"))


def best_copy(candidates: tuple[Candidate, ...]) -> tuple[CopyFacts | None, tuple[str, ...]]:
    """The copy to restore from, or None and what each location said instead."""
    if not candidates:
        return None, ("the plan makes no copies of it",)
    try:
        choice = choose_copy(candidates, END)
    except LeewardError as error:
        return None, (error.message,)
    chosen = next(it for it in candidates if it.location == choice.location)
    assert chosen.holdings is not None
    point = next(it.point for it in chosen.holdings.standings if it.point.id == choice.point_id)
    facts = CopyFacts(
        choice.location, choice.point_id, point.taken_at, choice.proven_at, choice.why
    )
    return facts, tuple(f"{location}: {why}" for location, why in choice.others)


def _worst_seconds(name: str, component: BaseComponent, scenario: Scenario) -> float | None:
    """By the plan's own measure of a restore, else by what its steps say they take."""
    if component.size and component.restores_at:
        return float(component.size) / float(component.restores_at)
    takes = [step.takes for step in scenario.all_steps() if step.component == name]
    if not takes or None in takes:
        return None
    return sum((it for it in takes if it), timedelta()).total_seconds()


def _keep(run: Run, facts: tuple[Facts, ...], scope: Scope) -> str:
    """All of it beside the records: what was seen as JSON, what follows from it as a page."""
    stem = f"{run.incident_id}/assessment-{run.run_id}"
    whole = {"facts": [it.to_json() for it in facts], "scope": scope.to_json()}
    store = build.evidence_store()
    store.put(f"{stem}.json", json.dumps(whole, indent=1, sort_keys=True).encode())
    page = render_page("assessment.md", run=run, facts=facts, scope=scope)
    store.put(f"{stem}.md", page.encode())
    return f"{stem}.md"


def _tell(run: Run, scope: Scope) -> None:
    kept = [f"{it.component}: {it.why}" for it in scope.items if not it.stage]
    why = "; ".join(f"{it.component}: {it.why}" for it in scope.items if it.stage)
    what = f"rebuild {', '.join(scope.rebuilt) or 'nothing'}"
    say(run, decision(what=what, why=why or "everything serves", alternatives=kept))


def _found(scope: Scope) -> str:
    worst = in_units(scope.worst_seconds)
    told = [f"to rebuild: {', '.join(scope.rebuilt) or 'nothing'}", f"at worst {worst}"]
    if scope.unrestorable:
        told.append(f"WITHOUT A USABLE COPY: {', '.join(scope.unrestorable)}")
    left = [it.component for it in scope.items if it.action == "leave"]
    if left:
        told.append(f"no step brings back {', '.join(left)}")
    return "; ".join([*told, f"serving: {', '.join(scope.serving) or 'nothing'}"])


def _nothing_lost(scope: Scope, key: str) -> CheckFailed:
    return CheckFailed(
        f"expected something to be lost, everything answers: {', '.join(scope.serving)}",
        hint="nothing was changed; read the assessment, and declare the scenario that fits",
        code="nothing-is-lost",
        object=key,
    )
