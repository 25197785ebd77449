"""The status page as files: HTML that needs nothing else, JSON for programs, a feed. Pure.

Every word in them may have been written by anybody: HTML is escaped by default, what no reader
would see as what it is (control and direction characters) is left out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalicelib.incidents.status.feed import render_feed
from chalicelib.incidents.status.page import (
    HISTORY_DAYS,
    STALE_AFTER,
    DayShown,
    IncidentShown,
    Page,
    ServiceShown,
)
from chalicelib.plan.records import format_time

if TYPE_CHECKING:
    from jinja2 import Environment

SCHEMA = 1
HTML, JSON, FEED = "text/html; charset=utf-8", "application/json", "application/atom+xml"
INDEX = "index.html"
# In which keys of the bucket, for the policy that lets everybody read them.
PUBLIC_KEYS = (INDEX, "history.html", "status.json", "feed.atom", "incidents/*")
DRILL_PREFIX = "drill/"

HEADLINES = {
    "operational": "All services were working",
    "maintenance": "Planned work was in progress",
    "degraded": "Some services did not work as they should",
    "disrupted": "A disruption was going on",
    "unknown": "We cannot tell whether everything works",
}
STATES = {
    "operational": "Working",
    "maintenance": "Planned work",
    "degraded": "Impaired",
    "disrupted": "Disrupted",
    "unknown": "Not known",
}
# Without it the times stand on the page; with it, it says that they have passed.
SCRIPT = (
    '(function(){var t=document.getElementById("confirmed"),s=document.getElementById("stale");'
    'if(!t||!s)return;var until=Date.parse(t.getAttribute("data-stale-after"));'
    "function look(){var old=Date.now()>until;s.hidden=!old;"
    'document.documentElement.className=old?"is-stale":""}'
    "look();setInterval(look,15000)})();"
)


def render_site(page: Page) -> dict[str, tuple[bytes, str]]:
    """Key -> (content, media type), in the order in which they must be written: what the front
    page leads to before it."""
    files = dict(_files(page))
    return {f"{DRILL_PREFIX}{key}": it for key, it in files.items()} if page.drill else files


def _files(page: Page) -> Iterator[tuple[str, tuple[bytes, str]]]:
    for incident in page.incidents:
        yield page_of(incident.id), (_html("status-incident.html", page, incident=incident), HTML)
    yield "history.html", (_html("status-history.html", page), HTML)
    yield "feed.atom", (render_feed(page, clean), FEED)
    yield "status.json", (_json(page), JSON)
    yield INDEX, (_html("status-index.html", page), HTML)


def page_of(incident: str) -> str:
    return f"incidents/{incident}.html"


def _html(template: str, page: Page, **more: Any) -> bytes:
    up = "../" if "incident" in more else ""
    values = {"page": page, "up": up, "headlines": HEADLINES, "states": STATES} | more
    values |= {"script": SCRIPT, "script_hash": _hash(SCRIPT), "history_days": HISTORY_DAYS}
    values["stale_minutes"] = int(STALE_AFTER.total_seconds() // 60)
    return _environment().get_template(template).render(**values).encode()


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(page: Page) -> bytes:
    """Documented in docs/status-page.md; `schema` grows when something in it changes its sense."""
    body = {
        "schema": SCHEMA,
        "page": {"name": page.shown.organisation, "address": page.shown.address},
        "drill": page.drill,
        "confirmed_at": _time(page.confirmed_at),
        "stale_after": _time(page.stale_after),
        "state": page.state,
        "services": [_service_json(it) for it in page.services],
        "incidents": [_incident_json(it) for it in page.open],
        "past_incidents": [_incident_json(it) for it in page.past],
        "maintenance": [it.work.to_json() | {"state": it.state} for it in page.work],
    }
    return json.dumps(_cleaned(body), ensure_ascii=False, indent=1).encode() + b"\n"


def _service_json(it: ServiceShown) -> dict[str, Any]:
    days = [{"date": day.date, "level": day.level, "good": day.good, "bad": day.bad,
             "unseen": day.unseen, "incidents": day.incidents} for day in it.days]  # fmt: skip
    return {
        "name": it.name,
        "title": it.title,
        "state": it.state,
        "why": it.why,
        "uptime": None if it.uptime is None else round(it.uptime, 6),
        "seen": round(it.seen, 4),
        "days": days,
    }


def _incident_json(it: IncidentShown) -> dict[str, Any]:
    return {
        "id": it.id,
        "title": it.title,
        "state": it.state,
        "severity": it.severity,
        "services": list(it.services),
        "opened_at": _time(it.opened_at),
        "updated_at": _time(it.updated_at),
        "resolved_at": _time(it.resolved_at),
        "updates": [
            {"id": one.id, "at": _time(one.said_at), "state": one.state, "text": one.text}
            for one in it.updates
        ],
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else format_time(at)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value


def clean(text: object) -> str:
    """Without what moves the cursor, turns the line round or is no character at all; line feeds
    stay."""
    return "".join(mark for mark in str(text) if mark == "\n" or _is_seen(mark))


def _is_seen(mark: str) -> bool:
    """Not Cc, Cf, Cs, Cn, Zl, Zp of Unicode: of these XML forbids some, and people see none."""
    return unicodedata.category(mark) not in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")


def _shown(value: Any) -> Any:
    """Leaves markup of our own templates alone."""
    return value if hasattr(value, "__html__") or value is None else clean(value)


def _percent(share: float) -> str:
    """Never rounded up: 100 % is said of nothing that failed once."""
    return f"{int(share * 100_000) / 1000:.3f} %"


def bar_height(day: DayShown) -> int:
    """Of 24; a bar tells by its height too, not by its colour alone."""
    return {"good": 24, "some": 17, "much": 10, "unknown": 4}[day.level]


def day_in_words(day: DayShown) -> str:
    parts = [f"{day.bad} min without a good answer"] if day.bad else []
    parts += (
        [f"{day.incidents} incident{'s' if day.incidents > 1 else ''}"] if day.incidents else []
    )
    if day.level == "unknown":
        parts.append("not looked at" if not day.good else "mostly not looked at")
    return ", ".join(parts) or "no failure seen"


def _utc(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


# jinja2 is imported where a page is made.
@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
        finalize=_shown,
    )
    made.filters |= {"utc": _utc, "time": format_time, "percent": _percent}
    made.filters |= {"height": bar_height, "words": day_in_words, "page": page_of}
    return made
