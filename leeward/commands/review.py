"""leeward review: what people found out about an incident, written, finished, fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from chalicelib.errors import BadInput
from chalicelib.evidence.text import printable
from leeward.answering import BY, CODE, STANDBY, ask_for_code, look, new_key, say, show
from leeward.console import Console
from leeward.options import FORMAT, writing_to
from leeward.review_page import changed_in, write_page


@click.group("review", short_help="What people found out about an incident: written, finished.")
def command() -> None:
    """The review of an incident: cause, impact, lessons, what customers are told."""


@command.command("show")
@click.argument("incident")
@STANDBY
@FORMAT
def show_(incident: str, standby: str | None, form: str) -> None:
    """Show what is asked after INCIDENT, what was written, and what is missing.

    Exit status: 0 nothing is missing; 1 something is.
    """
    said = look({"verb": "review", "incident": incident}, standby)
    if form == "json":
        click.echo(json.dumps(said))
    else:
        _print(said, Console(highlight=False))
    if said["missing"]:
        raise SystemExit(1)


def _print(said: dict[str, Any], console: Console) -> None:
    console.print(f"[bold]{_text(said['incident'])}[/bold]  {said['status']}")
    for field in said["fields"]:
        _print_field(field, console)
    for one in said["actions"]:
        console.print(_text(f"{one['action']} {one['standing']}: {one['what']} "
                            f"({one['owner']}, {one['due_on']})"))  # fmt: skip
    finished = said["finished"]
    if finished is None:
        console.print("not finished")
        return
    changed = "; something was written since" if said["changed_since"] else ""
    console.print(f"version {finished['version']} finished {finished['finished_at']} by "
                  f"{_text(finished['by'])}{changed}")  # fmt: skip


def _print_field(field: dict[str, Any], console: Console) -> None:
    who = f"  {field['by']}, {field['written_at']}" if field["text"] else ""
    console.print(f"\n[bold]{_text(field['heading'])}[/bold] ({field['name']}){_text(who)}")
    if field["text"]:
        for line in field["text"].splitlines():
            console.print(f"  {_text(line)}")
        return
    console.print("  MISSING" if field["required"] else "  nothing was written")
    for prompt in field["prompts"]:
        console.print(f"  {_text(prompt)}", style="dim")


@command.command("write")
@click.argument("incident")
@click.option("--field", help="The heading, or its short name; all of them otherwise.")
@click.option("--text", help="What to write there; asked for in an editor otherwise.")
@BY
@STANDBY
@FORMAT
def write(
    incident: str, field: str | None, text: str | None, by: str, standby: str | None, form: str
) -> None:
    """Write the review of INCIDENT: one heading, or all of them in $EDITOR.

    What stood there before stays in the records.

    \b
    Example:
    leeward review write INCIDENT --field lessons-learned \\
        --by cto --text "- Back up more often"
    """
    if text is not None and not field:
        raise BadInput(
            "expected --field with --text, found none",
            hint="name the heading; `leeward review show` lists them",
            code="no-field",
        )
    texts = {str(field): text} if text is not None else _edited(incident, field, standby)
    found = [_write(incident, name, words, by, standby) for name, words in texts.items()]
    if form == "json":
        click.echo(json.dumps({"incident": incident, "written": found}))
    else:
        click.echo("\n".join(it["found"] for it in found) or "nothing was changed")


def _write(incident: str, field: str, text: str, by: str, standby: str | None) -> dict[str, Any]:
    event = {"verb": "review-write", "incident": incident, "field": field, "text": text}
    return say(event | {"by": by, "key": new_key()}, standby)


def _edited(incident: str, field: str | None, standby: str | None) -> dict[str, str]:
    """What was changed in the editor, by the short name of the heading."""
    fields = look({"verb": "review", "incident": incident}, standby)["fields"]
    chosen = [it for it in fields if field in (None, it["name"], it["heading"])]
    if not chosen:
        raise BadInput(
            f"the plan asks for no {field!r} after an incident",
            hint=f"one of: {', '.join(it['name'] for it in fields)}",
            code="unknown-field",
        )
    page = click.edit(write_page(incident, chosen), extension=".md")
    return changed_in(page or "", chosen)


@command.command("finish")
@click.argument("incident")
@BY
@CODE
@STANDBY
@FORMAT
def finish(incident: str, by: str, code: str | None, standby: str | None, form: str) -> None:
    """Make the final report of INCIDENT and seal it with all its records, with your one-time code.

    Refuses while something is missing. Finishing again after a change makes the next version,
    which names the one before; no version is ever written over.
    """
    event = {"verb": "review-finish", "incident": incident, "by": by, "key": new_key()}
    show(say(event | {"code": ask_for_code(code)}, standby), form)


@command.command("fetch")
@click.argument("incident")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--version", type=click.IntRange(min=1), help="Which one; the newest otherwise.")
@STANDBY
@FORMAT
def fetch(incident: str, out: Path, version: int | None, standby: str | None, form: str) -> None:
    """Copy the finished review of INCIDENT to a folder, for `leeward evidence verify`.

    Takes your own right to read the evidence bucket.
    """
    from leeward.fetching import fetch_review

    if version is None:
        finished = look({"verb": "review", "incident": incident}, standby)["finished"]
        version = finished["version"] if finished else 1
    with writing_to(out):
        names = fetch_review(incident, version, out, region=standby)
    said = {"incident": incident, "version": version, "files": names, "found": f"{out}: "
            f"{len(names)} files of version {version}"}  # fmt: skip
    show(said, form)


def _text(value: object) -> str:
    return escape(printable(value))
