"""A report as one HTML file that needs nothing else, and as Markdown to be edited.

Names, reasons and messages in it may hold anything: in HTML everything is escaped by default, in
Markdown by `finalize`, so that no template has to remember.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalicelib.evidence.duties import REVIEW
from chalicelib.evidence.report import Report
from chalicelib.evidence.review_part import PeoplesPart
from chalicelib.evidence.text import clock, in_units, printable
from chalicelib.plan.people import PostIncident
from chalicelib.plan.questions import Asked, asked_after
from chalicelib.plan.records import canonical_json

if TYPE_CHECKING:
    from jinja2 import Environment

# What CommonMark or GitHub reads as markup anywhere in a line, and what only where a line begins.
_MARKUP = re.compile(r"[\\`*_\[\]|~$<>&]")
_LINE_BEGIN = re.compile(r"^(\d*)([.)#+-])(?=[\s#]|$)|^()([-=])(?=[-= ]*$)")


def render_html(
    report: Report, *, asked: Sequence[Asked] = (), people: PeoplesPart | None = None
) -> str:
    """The report as a page: inline style and charts, no script, nothing fetched.

    Args:
        asked: what people are to answer; by default what is asked where the plan says nothing.
        people: what they answered: it is the final report then.
    """
    return _html().get_template("report.html").render(_values(report, asked, people))


def render_markdown(
    report: Report, *, asked: Sequence[Asked] = (), people: PeoplesPart | None = None
) -> str:
    """The same as Markdown."""
    return markdown_environment().get_template("report.md").render(_values(report, asked, people))


def _values(
    report: Report, asked: Sequence[Asked], people: PeoplesPart | None
) -> dict[str, object]:
    left = [duty for duty in report.duties if people is None or duty.what != REVIEW]
    questions = asked or asked_after(PostIncident())
    return {"report": report, "duties": left, "questions": questions, "people": people}


def escape_markdown(value: Any) -> str:
    """The value as text that Markdown shows as it is: no markup, no HTML, no link, no mention."""
    text = _MARKUP.sub(_as_written, printable(value).strip())
    text = _LINE_BEGIN.sub(lambda m: f"{m[1] or ''}\\{m[2] or m[4]}", text)
    for mark, entity in _LINKS:
        text = text.replace(mark, entity)
    return text


def _as_written(match: re.Match[str]) -> str:
    return _ENTITIES.get(match[0], f"\\{match[0]}")


_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;"}
# What GitHub makes a link or a mention of by itself.
_LINKS = (("://", ":&#47;/"), ("www.", "www&#46;"), ("@", "&#64;"))


# jinja2 takes longer to import than everything else here; only a report needs it.
@cache
def _html() -> Environment:
    return _environment(autoescape=True, finalize=_printable)


@cache
def markdown_environment() -> Environment:
    return _environment(autoescape=False, finalize=escape_markdown)


def _environment(**options: Any) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters |= {"clock": clock, "in_units": in_units, "json": _json}
    return environment


def _printable(value: Any) -> Any:
    """Leaves markup of our own templates (macros) alone."""
    return value if hasattr(value, "__html__") else printable(value)


def _json(value: Any) -> str:
    return canonical_json(value).decode()
