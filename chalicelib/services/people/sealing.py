"""The final report of an incident, written and signed: what the function `record` does of a review.

It repeats safely: a version that is sealed stays as it is, one whose maker died is written anew
from the same records.
"""

from __future__ import annotations

from typing import Any

from chalicelib.evidence.render import render_html, render_markdown
from chalicelib.evidence.report import Report, make_report
from chalicelib.evidence.review import Finished, Review, read_review
from chalicelib.evidence.review_part import make_part
from chalicelib.evidence.review_seal import (
    read_or_nothing,
    seal_version,
    version_files,
    version_prefix,
)
from chalicelib.incidents.incident import Incident
from chalicelib.incidents.register import find_incident
from chalicelib.incidents.streams import people_stream, review_stream
from chalicelib.plan.questions import Asked, Meaning
from chalicelib.plan.records import EvidenceRecord, format_time
from chalicelib.services import build
from chalicelib.services.people.reviewing import REVIEWS, asked_of
from chalicelib.services.steps.closing import TOOL

Chain = list[EvidenceRecord]


def seal_review(event: dict[str, Any]) -> dict[str, Any]:
    """{"incident", "version"}, of a version that `answer` has ended."""
    incident = find_incident(event["incident"], state=build.state())
    stream, records = review_stream(incident.id), build.records()
    whole = records.read(stream)
    version = read_review(whole).versions[event["version"] - 1]
    chain = whole[: version.seq]
    incidents = records.read(incident.id)[: version.chains[0].length]
    people = records.read(people_stream(incident.id))[: version.chains[1].length]
    review, report = read_review(chain), make_report(incident.id, incidents)
    asked = asked_of(incident)
    part = make_part(review, asked)
    store = build.evidence_store()
    files = version_files(
        html=render_html(report, asked=asked, people=part),
        markdown=render_markdown(report, asked=asked, people=part),
        review=chain,
        incident=incidents,
        people=people,
        bundle=read_or_nothing(f"{incident.id}/bundle.json", store=store),
    )
    sealed = seal_version(
        stream,
        version.version,
        files,
        chain,
        store=store,
        signer=build.signer(),
        tool=TOOL,
        made_at=version.finished_at,
    )
    folder = version_prefix(stream, version.version)
    _keep_summary(_summary(incident, review, report, asked, version, sealed))
    return {"folder": folder, "sha256": sealed, "found": f"version {version.version} is sealed"}


def _summary(
    incident: Incident,
    review: Review,
    report: Report,
    asked: tuple[Asked, ...],
    version: Finished,
    sealed: str,
) -> dict[str, Any]:
    """What the lessons-learned log says of it; seconds, null for what is not known."""
    score = report.score
    said = {meaning: _said(review, asked, meaning) for meaning in _TOLD}
    return said | {
        "incident": incident.id,
        "version": version.version,
        "finished_at": format_time(version.finished_at),
        "by": version.by,
        "sha256": sealed,
        "scenario": incident.scenario,
        "component": incident.component,
        "severity": incident.severity,
        "opened_at": format_time(incident.opened_at),
        "outcome": score.outcome,
        "rto_seconds": score.rto_seconds,
        "rto_objective_seconds": score.rto_objective_seconds,
        "rpo_seconds": score.rpo_seconds,
        "rpo_objective_seconds": score.rpo_objective_seconds,
        "rows_lost": score.rows_lost,
    }


_TOLD: tuple[Meaning, ...] = ("cause", "impact", "resolution", "lessons")


def _said(review: Review, asked: tuple[Asked, ...], meaning: Meaning) -> str:
    texts = (review.text(it.name) for it in asked if it.meaning == meaning)
    return "\n".join(text for text in texts if text)


def _keep_summary(summary: dict[str, Any]) -> None:
    """The newest version's; an older one that is sealed late changes nothing."""
    state, name = build.state(), summary["incident"]
    while not state.create(REVIEWS, name, summary):
        kept = state.get(REVIEWS, name) or {}
        if kept.get("version", 0) >= summary["version"]:
            return
        if state.replace(REVIEWS, name, summary, expected={"version": kept["version"]}):
            return
