"""What is left to do after incidents, what people wrote of one, and what was learned from all."""

from __future__ import annotations

from datetime import date
from typing import Any

from chalicelib.incidents.actions import list_actions
from chalicelib.incidents.register import find_incident
from chalicelib.plan.actions import SOON, Action, in_order, order_of, standing_of, today_in
from chalicelib.plan.records import format_time
from chalicelib.plan.upkeep import PastIncident
from chalicelib.services import build
from chalicelib.services.people.reminding import review_standing
from chalicelib.services.people.reviewing import REVIEWS, asked_of
from chalicelib.services.views.paging import Page, cut_page

Event = dict[str, Any]
EVERYTHING = Page()


def actions_view(*, incident: str = "", ended: bool = False, page: Page = EVERYTHING) -> Event:
    """The longest overdue first; `ended`: those too that are done or dropped.

    `plan_review` is of this stack: the primary's alone looks after it, None elsewhere.
    """
    known = list_actions(build.state(), incident)
    wanted = [it for it in known if ended or it.is_open]
    found, more = cut_page(wanted, page, order_of, newest_first=False)
    lines = [_line(it) for it in in_order(known) if it.is_open]
    primary = build.environment().stack == "primary"
    return {
        "actions": [_line(it) for it in found],
        "next": more,
        "open": len(lines),
        "overdue": sum(it["standing"] == "overdue" for it in lines),
        "plan_review": review_standing().to_json() if primary else None,
    }


def actions_of(incident: str) -> list[Event]:
    """All of one incident, those that are open first."""
    return [_line(it) for it in in_order(list_actions(build.state(), incident))]


def _line(action: Action) -> Event:
    today = today_in(build.plan(), build.clock().now())
    soon = build.plan().post_incident.remind_before or SOON
    last = action.changes[-1] if action.changes else None
    contact = build.plan().contacts.get(action.owner)
    return {
        "action": action.id,
        "incident": action.incident,
        "what": action.what,
        "owner": action.owner,
        "owner_title": contact.title if contact else action.owner,
        "due_on": action.due_on,
        "days_left": (date.fromisoformat(action.due_on) - today).days if action.is_open else None,
        "standing": standing_of(action, today=today, soon=soon),
        "added_by": action.added_by,
        "added_at": format_time(action.added_at),
        "ended_by": last.by if last else None,
        "ended_at": format_time(last.changed_at) if last else None,
        "says": last.says if last else "",
    }


def review_view(incident: str) -> Event:
    """What is asked of people after the incident, what they wrote, and what is missing.

    Raises BadInput (code "unknown-incident").
    """
    found = find_incident(incident, state=build.state())
    words = {it["sort"]: it for it in build.state().query(f"review#{found.id}", "words#")}
    fields = []
    for it in asked_of(found):
        said = words.get(f"words#{it.name}", {})
        fields.append(
            it.to_json()
            | {"prompts": list(it.prompts)}
            | {name: said.get(name) for name in ("text", "by", "written_at")}
        )
    kept = build.state().get(REVIEWS, found.id)
    changed = [it["written_at"] for it in fields if it["written_at"]]
    return {
        "incident": found.id,
        "status": found.status,
        "fields": fields,
        "missing": [it["name"] for it in fields if it["required"] and not it["text"]],
        "actions": actions_of(found.id),
        "finished": _finished(kept) if kept else None,
        "changed_since": bool(kept)
        and max(changed, default="") > str(kept and kept["finished_at"]),
    }


def _finished(kept: Event) -> Event:
    return {name: kept[name] for name in ("version", "by", "finished_at", "sha256")}


def lessons_view() -> Event:
    """The lessons-learned log, the newest first: finished reviews, and what the plan knew before.

    Seconds; null for what is not known. `done`: null where no action was agreed on.
    """
    reviewed = [_learned(it) for it in build.state().query(REVIEWS)]
    past = [_past(it) for it in build.plan().past_incidents]
    return {"lessons": sorted([*reviewed, *past], key=lambda it: str(it["on"]), reverse=True)}


def _learned(kept: Event) -> Event:
    actions = actions_of(kept["incident"])
    wanted = [it for it in actions if it["standing"] != "dropped"]
    scenario = build.plan().scenarios.get(kept["scenario"])
    names = ("incident", "scenario", "severity", "outcome", "cause", "impact", "resolution",
             "rto_seconds", "rto_objective_seconds", "rpo_seconds", "rpo_objective_seconds",
             "rows_lost", "version")  # fmt: skip
    return {name: kept[name] for name in names} | {
        "on": kept["opened_at"][:10],
        "title": scenario.title if scenario else kept["scenario"],
        "lessons": [
            {
                "says": text,
                "owner": ", ".join(dict.fromkeys(it["owner_title"] for it in wanted)) or None,
                "done": all(it["standing"] == "done" for it in wanted) if wanted else None,
            }
            for text in _items(kept["lessons"])
        ],
        "actions": actions,
    }


def _items(text: str) -> list[str]:
    """Each line that begins with "- " is a lesson; without any, the whole is one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    listed = [line[2:].strip() for line in lines if line.startswith("- ")]
    return listed or ([" ".join(lines)] if lines else [])


def _past(it: PastIncident) -> Event:
    known = {
        "rto_seconds": it.downtime.total_seconds() if it.downtime else None,
        "rpo_seconds": it.data_lost.total_seconds() if it.data_lost else None,
    }
    unknown = ("incident", "scenario", "severity", "rto_objective_seconds",
               "rpo_objective_seconds", "rows_lost", "version")  # fmt: skip
    return (
        dict.fromkeys(unknown)
        | known
        | {
            "on": it.on.isoformat(),
            "title": it.title,
            "outcome": "recovered",
            "cause": it.cause,
            "impact": it.impact,
            "resolution": it.resolution,
            "lessons": [
                {"says": one.says, "owner": one.owner, "done": one.done} for one in it.lessons
            ],
            "actions": [],
        }
    )
