"""The end of a run: the outcome recorded, the report written, the evidence sealed, the way freed.

Order: outcome -> fence released -> run ended -> report -> seal. Nothing joins an incident that has
ended, so what is sealed stays whole; a death in between is healed by the next attempt. The outcome
that was recorded first is the run's, also when a later attempt is told another.

A drill of which something could not be taken back is never a good one: its record names each step
that left something, where, and how a person removes it.
"""

from __future__ import annotations

import json
from typing import Any

from chalicelib.errors import BadInput, NotReady
from chalicelib.evidence.body import last_body, text_of
from chalicelib.evidence.bundle import seal
from chalicelib.evidence.entries import (
    Entry,
    Outcome,
    incident_closed,
    left_behind,
    not_recovered,
    run_finished,
)
from chalicelib.evidence.render import render_html, render_markdown
from chalicelib.evidence.report import make_report
from chalicelib.incidents.fence import release_fences
from chalicelib.incidents.incident import end_run
from chalicelib.incidents.run import (
    Run,
    find_left_behind,
    read_kept,
    resume_records,
    run_of,
)
from chalicelib.plan.losses import RULE, lost_for_good
from chalicelib.plan.records import EvidenceRecord
from chalicelib.plan.scenario import Step
from chalicelib.scenarios.steps import STEP_KINDS
from chalicelib.services import build
from chalicelib.services.people.notices import notify, tells_anybody
from chalicelib.services.steps.acting import choose_target
from chalicelib.services.steps.said import say

TOOL = "leeward 0.1.0"


def close_run(event: dict[str, Any]) -> dict[str, Any]:
    """Close a run as its machine says it ended.

    Args:
        event: {"run_id", "uses": "run.close" | "run.fail", "inputs": {"failure"?}}.
    """
    kept = read_kept(event["run_id"], desk=build.desk())
    run = run_of(event["run_id"], kept.get("run"), step="")
    resume_records(run.incident_id, kept, desk=build.desk())
    lost = lost_for_good(build.plan(), run.scenario)
    outcome, why = _record_end(run, event, lost)
    release_fences(build.state(), run.run_id, clock=build.clock())
    end_run(run.run_id, outcome, desk=build.desk())
    _write_report(run)
    seal(
        run.incident_id,
        store=build.evidence_store(),
        records=build.records(),
        signer=build.signer(),
        tool=TOOL,
        now=build.clock().now(),
    )
    if tells_anybody():
        occasion = "recovered" if outcome == "partial" else outcome
        told = {"why": why, "lost": ", ".join(lost) if outcome == "partial" else ""}
        notify(occasion, run.incident_id, run_id=run.run_id, about=run.run_id, **told)
    return {"found": f"{outcome}: {why}" if why else outcome}


def _record_end(run: Run, event: dict[str, Any], lost: dict[str, str]) -> tuple[Outcome, str]:
    """The outcome that stands in the record, and why."""
    for component, reason in lost.items():
        entry = not_recovered(component=component, why=reason, rule=RULE)
        say(run, entry, about=component)
    left = _say_left_behind(run) if run.drill else []
    said = _append(run, _ended(run, event, lost, left))
    outcome, why = said["outcome"], said["why"]
    if outcome in ("recovered", "partial"):
        _append(run, incident_closed(why=why or "the run recovered the component"))
    return outcome, why


def _ended(run: Run, event: dict[str, Any], lost: dict[str, str], left: list[str]) -> Entry:
    why = _why(event["inputs"].get("failure"))
    if left:
        told = f"LEFT BEHIND, to be removed by a person: {', '.join(left)}"
        return run_finished(outcome="failed", why=f"{why}; {told}" if why else told)
    if event["uses"] != "run.close":
        return run_finished(outcome="failed", why=why)
    if lost:
        return run_finished(outcome="partial", why=f"not recovered: {', '.join(lost)}")
    if run.scenario not in build.plan().scenarios:
        why = f"the plan names {run.scenario} no more: whether anything is lost is not known"
        return run_finished(outcome="partial", why=why)
    return run_finished(outcome="recovered", why=why)


def _append(run: Run, entry: Entry) -> dict[str, Any]:
    """The body that stands in the record: this one, or what an earlier attempt wrote."""
    record = build.records().append(
        run.incident_id,
        *entry,
        actor="leeward",
        run_id=run.run_id,
        key=f"{run.run_id}/{entry.kind}",
    )
    return record.body


def _say_left_behind(run: Run) -> list[str]:
    """The steps whose undo never came to its end, however it died; each is in the record."""
    scenario = build.plan().scenarios.get(run.scenario)
    steps = {it.name: it for it in scenario.all_steps()} if scenario else {}
    undone = [it.name for it in steps.values() if it.uses and STEP_KINDS[it.uses].taken_back]
    begun = find_left_behind(run.run_id, undone, desk=build.desk())
    # Without a stand-in a step refuses before it touches anything.
    left = {name: on for name in begun if (on := _acted_on(run, steps[name]))}
    chain = build.records().read(run.incident_id) if left else []
    for name, on in left.items():
        own = [it for it in chain if (it.run_id, it.step) == (run.run_id, name)]
        say(run, _left_by(steps[name], on, own), about=name)
    return list(left)


def _left_by(step: Step, on: str, records: list[EvidenceRecord]) -> Entry:
    failed, done = last_body(records, "undo-failed"), last_body(records, "step-finished")
    why = text_of(failed, "message", "no attempt to take it back came to its end")
    did = text_of(done, "found", "it never came to its end, so nobody knows how much it did")
    hints = (STEP_KINDS[step.uses or ""].undo, text_of(failed, "hint"))
    what = f"{step.uses} on {on}: {why}. What the step did: {did}"
    return left_behind(step=step.name, what=what, how="; ".join(it for it in hints if it))


def _acted_on(run: Run, step: Step) -> str:
    """The stand-ins, where the run recovers and where the component is; "" when there are none.
    Of a component that the plan names no more nobody knows which they were."""
    named = [str(step.inputs[it]) for it in ("component", "from") if it in step.inputs]
    found: list[str] = []
    for component in named:
        for site in (run.site, ""):
            try:
                found.append(choose_target(build.plan(), component, site=site, drill=True))
            except NotReady:
                continue
            except BadInput:
                found.append(f"what stood in for {component}")
    return " and ".join(dict.fromkeys(found))


def _write_report(run: Run) -> None:
    report = make_report(run.incident_id, build.records().read(run.incident_id), run_id=run.run_id)
    store = build.evidence_store()
    store.put(f"{run.incident_id}/report.html", render_html(report).encode())
    store.put(f"{run.incident_id}/report.md", render_markdown(report).encode())


def _why(failure: dict[str, Any] | None) -> str:
    """ "CheckFailed: ..." from what Step Functions caught; Lambda's cause is JSON, others' text."""
    if not failure:
        return ""
    cause = str(failure.get("Cause", ""))
    try:
        message = str(json.loads(cause)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        message = cause
    return f"{failure.get('Error', 'unknown')}: {message}"
