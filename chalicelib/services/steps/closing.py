"""The end of a run: the outcome recorded, the report written, the evidence sealed, the way freed.

Order: outcome -> fence released -> run ended -> report -> seal. Nothing joins an incident that has
ended, so what is sealed stays whole; a death in between is healed by the next attempt.
"""

from __future__ import annotations

import json
from typing import Any

from chalicelib.evidence.bundle import seal
from chalicelib.evidence.entries import Outcome, incident_closed, not_recovered, run_finished
from chalicelib.evidence.render import render_html, render_markdown
from chalicelib.evidence.report import make_report
from chalicelib.incidents.fence import release_fences
from chalicelib.incidents.incident import end_run
from chalicelib.incidents.run import Run, load_run
from chalicelib.plan.losses import RULE, lost_for_good
from chalicelib.services import build
from chalicelib.services.people.notices import notify, tells_anybody
from chalicelib.services.steps.said import say

TOOL = "leeward 0.1.0"


def close_run(event: dict[str, Any]) -> dict[str, Any]:
    """Close a run as its machine says it ended.

    Args:
        event: {"run_id", "uses": "run.close" | "run.fail", "inputs": {"failure"?}}.
    """
    run = load_run(event["run_id"], desk=build.desk())
    outcome: Outcome = "recovered" if event["uses"] == "run.close" else "failed"
    why = _why(event["inputs"].get("failure"))
    lost = lost_for_good(build.plan(), run.scenario)
    if outcome == "recovered" and lost:
        outcome, why = "partial", f"not recovered: {', '.join(lost)}"
    _record_end(run, outcome, why, lost)
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


def _record_end(run: Run, outcome: Outcome, why: str, lost: dict[str, str]) -> None:
    for component, reason in lost.items():
        entry = not_recovered(component=component, why=reason, rule=RULE)
        say(run, entry, about=component)
    entries = [run_finished(outcome=outcome, why=why)]
    if outcome in ("recovered", "partial"):
        entries.append(incident_closed(why=why or "the run recovered the component"))
    for entry in entries:
        build.records().append(
            run.incident_id,
            *entry,
            actor="leeward",
            run_id=run.run_id,
            key=f"{run.run_id}/{entry.kind}",
        )


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
