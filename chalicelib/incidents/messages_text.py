"""The words of a message: one template for each audience in templates/, the first line the subject.

Every fact is text that anybody may have chosen (names, reasons): it is shown as it is, on one line
each, and is markup to nobody; each sender escapes for its own channel. A fact that is missing is
an error here and not a gap in front of customers.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalicelib.errors import BadInput
from chalicelib.incidents.messages import REGULATORS_WITHIN, Notice, dashboards, war_rooms
from chalicelib.plan.model import Plan
from chalicelib.plan.people import Audience
from chalicelib.plan.records import format_time, parse_time

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
OCCASIONS = (
    "opened",
    "asked",
    "answered",
    "acknowledged",
    "update",
    "page",
    "recovered",
    "failed",
    "closed",
)
LONGEST_FACT = 500


def write_message(notice: Notice, audience: Audience) -> tuple[str, str]:
    """Subject and text.

    Raises:
        BadInput: code "unknown-template".
    """
    if notice.what not in OCCASIONS:
        raise BadInput(
            f"there are no words for {notice.what!r}",
            hint=f"one of: {', '.join(OCCASIONS)}",
            code="unknown-template",
        )
    return _subject_and_text(f"{audience}.txt", _facts(notice))


def write_reminder(facts: dict[str, Any], plan: Plan) -> tuple[str, str]:
    """Subject and text of a reminder of an action, or of the plan's review."""
    return _subject_and_text("reminder.txt", facts | {"title": plan.document.title})


def write_alarm(facts: dict[str, Any]) -> tuple[str, str]:
    """Subject and text of an alarm that opened no incident, or of its end."""
    return _subject_and_text("alarm.txt", facts)


def write_alarms(facts: dict[str, Any]) -> tuple[str, str]:
    """Subject and text of several such alarms, or of one that others were told of before."""
    return _subject_and_text("alarms.txt", facts)


def facts_of(
    plan: Plan, scenario: str, incident: dict[str, Any], run: dict[str, Any]
) -> dict[str, Any]:
    """What every template may say. incident and run: as the state table holds them.

    scenario: one that the plan names no more, since the incident was opened, is told by its name.
    """
    chosen = plan.scenarios.get(scenario)
    rto = plan.rto_of_scenario(scenario) if chosen else None
    personal = chosen is not None and chosen.personal_data
    return {
        "organisation": plan.organisation,
        "scenario": chosen.title if chosen else scenario,
        "scenario_name": scenario,
        "component": incident["component"],
        "run_id": run.get("run_id", ""),
        "reason": incident.get("signal", ""),
        "personal_data": personal,
        "war_rooms": list(war_rooms(plan)),
        "dashboards": list(dashboards(plan)),
        "rto": in_words(rto) if rto else "",
        "clock_due_at": clock_due_at(incident["opened_at"]) if personal else "",
    }


def clock_due_at(opened_at: str) -> str:
    """When regulators must have been told, if a breach of personal data it is: 72 h after the
    incident was opened, which is when the organisation became aware."""
    return format_time(parse_time(opened_at) + REGULATORS_WITHIN)


def _subject_and_text(template: str, facts: dict[str, Any]) -> tuple[str, str]:
    plain = {name: one_line(it) if isinstance(it, str) else it for name, it in facts.items()}
    subject, _, text = _environment().get_template(template).render(plain).strip().partition("\n")
    lines = (line.strip() for line in text.strip().splitlines())
    return one_line(subject), _without_gaps(list(lines))


def _facts(notice: Notice) -> dict[str, Any]:
    return notice.facts | {
        "what": notice.what,
        "severity": notice.severity,
        "incident": notice.incident,
        "opened_at": notice.opened_at,
        "now": notice.noticed_at,
        "lasts": notice.noticed_at - notice.opened_at,
    }


def one_line(text: str) -> str:
    """Without line breaks and other control characters, and not endless."""
    clean = "".join(mark if mark.isprintable() else " " for mark in text)
    short = " ".join(clean.split())
    return short if len(short) <= LONGEST_FACT else f"{short[: LONGEST_FACT - 1]}…"


def in_words(span: timedelta) -> str:
    """ "40 s", "5 min", "2 h 05 min"."""
    minutes = int(span.total_seconds() // 60)
    if minutes < 1:
        return f"{int(span.total_seconds())} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes % 60 else f"{minutes // 60} h"


def at_utc(value: datetime | str) -> str:
    """ "2026-11-22 08:45 UTC"."""
    at = parse_time(value) if isinstance(value, str) else value
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _without_gaps(lines: list[str]) -> str:
    """At most one empty line in a row."""
    kept = [line for number, line in enumerate(lines) if line or (number and lines[number - 1])]
    return "\n".join(kept).strip()


# jinja2 is imported where something is told.
@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # plain text: each sender escapes for its own channel
    )
    made.filters["utc"] = at_utc
    made.filters["span"] = in_words
    return made
