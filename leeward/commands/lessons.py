"""leeward lessons: the lessons-learned log, of every incident that was reviewed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import click

from chalicelib.evidence.render import escape_markdown
from chalicelib.evidence.text import in_units, printable
from leeward.answering import STANDBY, look

Lessons = list[dict[str, Any]]
_COLUMNS = ("on", "title", "incident", "scenario", "outcome", "rto_seconds",
            "rto_objective_seconds", "rpo_seconds", "rpo_objective_seconds", "rows_lost", "cause",
            "impact", "resolution", "lesson", "owner", "done")  # fmt: skip
# What a spreadsheet would run. Source: OWASP, "CSV Injection".
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@click.command("lessons", short_help="The lessons-learned log.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv", "markdown"]),
    default="text",
    show_default=True,
    help="markdown: as the plan's own log is written; csv: a line for each lesson.",
)
@STANDBY
def command(form: str, standby: str | None) -> None:
    """Print what was learned from every finished review, and from the plan's past incidents.

    The newest first. What is not known is empty, or null.
    """
    lessons = look({"verb": "lessons"}, standby)["lessons"]
    click.echo(_FORMS[form](lessons), nl=False)


def _as_json(lessons: Lessons) -> str:
    return json.dumps({"lessons": lessons}) + "\n"


def _as_text(lessons: Lessons) -> str:
    return "\n".join("\n".join(_lines(it)) for it in lessons) or "nothing was learned yet\n"


def _lines(it: dict[str, Any]) -> Iterator[str]:
    about = f", {it['scenario']}, {it['incident']}" if it["incident"] else ""
    yield printable(f"{it['on']} {it['title']}{about}")
    yield f"  {_measured(it)}"
    for name in ("cause", "impact", "resolution"):
        if it[name]:
            yield f"  {name}: {printable(it[name])}"
    for lesson in it["lessons"]:
        yield printable(f"  - {lesson['says']}{_state(lesson)}")
    yield ""


def _measured(it: dict[str, Any]) -> str:
    figures = ((name.upper(), in_units(it[f"{name}_seconds"]),
                it[f"{name}_objective_seconds"]) for name in ("rto", "rpo"))  # fmt: skip
    said = [
        f"{name} {measured}" + (f" of {in_units(objective)}" if objective else "")
        for name, measured, objective in figures
    ]
    lost = it["rows_lost"]
    return "; ".join([*said, *([f"{lost} rows lost"] if lost is not None else [])])


def _state(lesson: dict[str, Any]) -> str:
    known = [lesson["owner"] or ""]
    if lesson["done"] is not None:
        known.append("done" if lesson["done"] else "not done")
    shown = ", ".join(word for word in known if word)
    return f" ({shown})" if shown else ""


def _as_csv(lessons: Lessons) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for it in lessons:
        for lesson in it["lessons"] or [{"says": "", "owner": None, "done": None}]:
            row = it | {"lesson": lesson["says"]} | {n: lesson[n] for n in ("owner", "done")}
            writer.writerow({name: _cell(row.get(name)) for name in _COLUMNS})
    return out.getvalue()


def _cell(value: Any) -> Any:
    """Text as text: nothing in it is a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _as_markdown(lessons: Lessons) -> str:
    """As the lessons-learned log of a plan is written: an entry for each incident."""
    return "## Lessons Learned Log\n\n" + "\n".join("\n".join(_entry(it)) for it in lessons)


def _entry(it: dict[str, Any]) -> Iterator[str]:
    yield f"### Incident: {escape_markdown(it['title'])} ({it['on']})"
    for name in ("cause", "impact", "resolution"):
        yield f"- **{name.title()}**: {escape_markdown(it[name] or 'unknown')}"
    yield f"- **Measured**: {escape_markdown(_measured(it))}"
    said = [escape_markdown(f"{one['says']}{_state(one)}") for one in it["lessons"]]
    yield f"- **Lessons**: {', '.join(said) or 'none'}"
    yield ""


_FORMS: dict[str, Callable[[Lessons], str]] = {
    "text": _as_text,
    "json": _as_json,
    "csv": _as_csv,
    "markdown": _as_markdown,
}
