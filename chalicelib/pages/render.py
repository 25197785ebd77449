"""Pages from templates: one look, one style, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from chalicelib.evidence.text import counted, in_units, printable
from chalicelib.pages import shapes, words
from chalicelib.plan.records import parse_time
from chalicelib.plan.units import format_size

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Frame:
    """What is around every page.

    base: what stands before every path: the API's stage, "" on a domain of its own. person: who
    is signed in, "" when nobody is. tokens: by the path of a form, what proves that the form is
    ours. refresh_seconds: None when the page stays as it is; paused: when somebody wants it to.
    """

    base: str
    now: datetime
    person: str = ""
    path: str = "/"
    tokens: Mapping[str, str] = field(default_factory=dict)
    refresh_seconds: int | None = None
    paused: bool = False


def render(template: str, frame: Frame, **values: Any) -> str:
    """A template of templates/ with its values; one that it misses is an error."""
    tools = {
        "frame": frame,
        "url": partial(_url, frame.base),
        "ago": partial(_ago, frame.now),
        "when": partial(_when, frame.now),
        "style": _style(),
    }
    return _environment().get_template(template).render(**tools, **values)


def style_source() -> str:
    """What a Content-Security-Policy says of the one style that the pages have."""
    digest = hashlib.sha256(_style_text().encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def _style_text() -> str:
    return (TEMPLATES / "style.css").read_text()


@cache
def _style() -> Any:
    from markupsafe import Markup

    return Markup(_style_text())  # noqa: S704 - a file of ours


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "in_units": in_units,
        "counted": counted,
        "size": lambda value: format_size(value) if value else "-",
        "short": _short,
        "rough": _rough,
        "ticks": _ticks,
    }
    found.globals |= {"words": words, "shapes": shapes}
    return found


def _printable(value: Any) -> Any:
    """Leaves markup of our own templates alone."""
    return value if hasattr(value, "__html__") else printable(value)


def _url(base: str, *parts: str) -> str:
    """url("incidents", id) -> "<base>/incidents/<id>"."""
    return f"{base}/{'/'.join(quote(str(part), safe='') for part in parts)}"


def _ago(now: datetime, at: str | None) -> str:
    """ "12 min ago", "in 3 min", from a time as records write it."""
    if not at:
        return "never"
    seconds = (now - parse_time(at)).total_seconds()
    if abs(seconds) < 1:
        return "now"
    told = _rough(abs(seconds))
    return f"{told} ago" if seconds > 0 else f"in {told}"


def _when(now: datetime, at: str | None) -> Any:
    """<time>, in UTC; the day is left out when it is today."""
    from markupsafe import Markup

    if not at:
        return "never"
    moment = parse_time(at)
    shape = "%H:%M:%S UTC" if moment.date() == now.date() else "%Y-%m-%d %H:%M UTC"
    return Markup('<time datetime="{}">{}</time>').format(at, moment.strftime(shape))


def _short(seconds: float | None) -> str:
    """As `in_units`, whole seconds: what a person reads at a glance."""
    return in_units(None if seconds is None else float(round(seconds)))


def _rough(seconds: float) -> str:
    """Below an hour without the smaller unit: "12 min"; then "2 h 5 min", "3 d 4 h"."""
    whole = 60.0 if seconds > 60 else 1.0
    return _short(seconds // whole * whole)


def _ticks(text: str) -> Any:
    """What stands in backticks, as code."""
    from markupsafe import Markup, escape

    parts = [escape(printable(it)) for it in text.split("`")]
    coded = [Markup("<code>{}</code>").format(it) if n % 2 else it for n, it in enumerate(parts)]
    return Markup("").join(coded)
