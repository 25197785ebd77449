"""What a run leaves for people to go on with: the way back, and the analysis of the cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from chalicelib.evidence.entries import Entry, decision
from chalicelib.evidence.pages import render_page
from chalicelib.incidents.run import Run
from chalicelib.plan.model import Plan
from chalicelib.plan.records import EvidenceRecord, format_time
from chalicelib.recover.sites.way_back import decide_way_back, told
from chalicelib.services import build
from chalicelib.services.steps.said import say

Outputs = dict[str, Any]

# When a root cause is due. No document says; people forget within days what nobody wrote down.
DUE_AFTER = timedelta(days=5)
# What every analysis answers; the plan's own list of an incident's report comes before these.
QUESTIONS = (
    "What happened first, and when could it have been noticed?",
    "What let it become a disaster: which protection was absent, failed, or was lost with it?",
    "What was done that made it better, what made it worse, what was luck?",
    "What did the plan say that was not so, and what was done that it does not say?",
    "Whose data was lost or seen, and who must be told by when?",
    "What will keep it from happening again, who does it, by when, and how will that be tested?",
)
# Records that tell a story, in the words of the timeline.
STORY: dict[str, Callable[[dict[str, Any]], str]] = {
    "incident-opened": lambda body: f"alarm {body['alarm']}: {body['reason']}",
    "alarm-joined": lambda body: f"alarm {body['alarm']}: {body['reason']}",
    "run-started": lambda body: f"run of {body['scenario']} began",
    "step-finished": lambda body: body["found"],
    "step-failed": lambda body: f"failed: {body['message']}",
    "decision": lambda body: f"decided: {body['what']}, because {body['why']}",
    "damage": lambda body: body["found"],
}


def plan_failback_step(run: Run, inputs: Outputs) -> Outputs:
    """Write down the way back; see recover/sites/way_back.py."""
    now = build.clock().now()
    plan = decide_way_back(build.plan(), run.scenario, site=run.site, drill=run.drill, now=now)
    stem = f"{run.incident_id}/failback-{run.run_id}"
    store = build.evidence_store()
    store.put(f"{stem}.json", json.dumps(plan.to_json(), indent=1, sort_keys=True).encode())
    store.put(f"{stem}.md", render_page("failback.md", run=run, plan=plan).encode())
    say(run, decision(what=f"go back to {plan.to_site} later", why="; ".join(plan.conditions)))
    return {
        "found": told(plan),
        "object": f"{stem}.md",
        "components": [it.component for it in plan.returns],
        "not_before": format_time(plan.not_before_at),
    }


def open_analysis_step(run: Run, inputs: Outputs) -> Outputs:
    """Open the analysis of the cause: a worksheet with what is known, and who owes what by when."""
    plan = build.plan()
    owner = str(inputs.get("owner") or default_owner(plan))
    due_at = build.clock().now() + DUE_AFTER
    records = build.records().read(run.incident_id)
    page = render_page(
        "analysis.md",
        run=run,
        plan=plan,
        owner=plan.roles[owner].title if owner in plan.roles else owner,
        due_at=due_at,
        timeline=timeline(records),
        known=known(records),
        questions=(*plan.post_incident.report, *QUESTIONS),
    )
    key = f"{run.incident_id}/analysis-{run.run_id}.md"
    build.evidence_store().put(key, page.encode())
    say(run, analysis_opened(owner=owner, due_at=due_at, object_key=key))
    return {
        "found": f"the analysis of the cause is open: {owner} owes it by {due_at:%Y-%m-%d}, {key}",
        "object": key,
        "due_at": format_time(due_at),
    }


def analysis_opened(*, owner: str, due_at: datetime, object_key: str) -> Entry:
    """`owner`: the role that owes the analysis of the cause by `due_at`."""
    body = {"owner": owner, "due_at": format_time(due_at), "object": object_key}
    return Entry("analysis-opened", body)


def default_owner(plan: Plan) -> str:
    """The first role that may report, else the first that may declare, else the first."""
    for right in ("report", "declare"):
        for name, role in plan.roles.items():
            if right in role.may:
                return name
    return next(iter(plan.roles), "nobody yet")


def timeline(records: list[EvidenceRecord]) -> list[tuple[datetime, str, str]]:
    """(when, which step, what), of the records that tell a story."""
    return [
        (record.at, record.step, str(STORY[record.kind](record.body)))
        for record in records
        if record.kind in STORY
    ]


def known(records: list[EvidenceRecord]) -> list[str]:
    """What is established so far, for whoever begins the analysis."""
    opened = [it.body for it in records if it.kind == "incident-opened"]
    found = [f"noticed by {it['alarm']} at {it['alarm_at']}: {it['reason']}" for it in opened]
    found += [it.body["found"] for it in records if it.kind == "damage"]
    failed = [it for it in records if it.kind == "step-failed"]
    return found + [f"the step {it.step} failed: {it.body['message']}" for it in failed]
