"""leeward action: what is to be done after incidents, until it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from chalicelib.evidence.text import printable
from leeward.answering import BY, STANDBY, look, new_key, say, show
from leeward.console import Console
from leeward.options import FORMAT

_STYLES = {"overdue": "bold red", "due soon": "yellow"}
_PAGE = 100


@click.group("action", short_help="What is to be done after incidents, until it is done.")
def command() -> None:
    """Actions: who does what until when, after which incident."""


@command.command("add")
@click.argument("what")
@click.option("--incident", required=True, help="The incident that it follows from.")
@click.option("--owner", required=True, help="Who does it: a contact of the plan.")
@click.option("--due", required=True, metavar="YYYY-MM-DD", help="The last day for it.")
@BY
@STANDBY
@FORMAT
def add(
    what: str, incident: str, owner: str, due: str, by: str, standby: str | None, form: str
) -> None:
    """Agree on WHAT, which OWNER does until the day DUE is over.

    \b
    Example:
    leeward action add "Alarm on pg_dump's exit status" --incident INCIDENT \\
      --owner dba-lead --due 2026-12-24 --by cto
    """
    event = {"verb": "action-add", "what": what, "incident": incident, "owner": owner, "due": due}
    show(say(event | {"by": by, "key": new_key()}, standby), form)


@command.command("list")
@click.option("--incident", default="", help="Of this incident alone.")
@click.option("--all", "ended", is_flag=True, help="Those too that are done or dropped.")
@STANDBY
@FORMAT
def list_(incident: str, ended: bool, standby: str | None, form: str) -> None:
    """List what is left to do, the longest overdue first, and how the plan's own review stands.

    Exit status: 0 nothing is overdue; 1 something is.
    """
    asked = {"verb": "actions", "incident": incident, "ended": ended, "limit": _PAGE}
    said = _all_pages(asked, standby)
    if form == "json":
        click.echo(json.dumps(said))
    else:
        _print(said, Console(highlight=False))
    review = said["plan_review"]
    if said["overdue"] or (review and review["standing"] == "overdue"):
        raise SystemExit(1)


def _all_pages(asked: dict[str, Any], standby: str | None) -> dict[str, Any]:
    said = look(asked, standby)
    page = said
    while page["next"]:
        page = look(asked | {"cursor": page["next"]}, standby)
        said["actions"] += page["actions"]
    return said | {"next": None}


def _print(said: dict[str, Any], console: Console) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("action", "", "due", "owner", "what", "incident"):
        table.add_column(heading, overflow="fold")
    for one in said["actions"]:
        table.add_row(*_cells(one))
    console.print(table if said["actions"] else "nothing is left to do")
    review = said["plan_review"]
    if review and review["standing"] != "standing":
        style = _STYLES[review["standing"]]
        console.print(Text(f"the plan's review is {review['standing']}: {review['why']}", style))


def _cells(one: dict[str, Any]) -> Iterator[Text]:
    style = _STYLES.get(one["standing"], "")
    standing = one["standing"].upper() if one["standing"] == "overdue" else one["standing"]
    texts = (one["action"], standing, one["due_on"], one["owner"], one["what"], one["incident"])
    return (Text(printable(it), style if number < 2 else "") for number, it in enumerate(texts))


@command.command("done")
@click.argument("action")
@click.option("--says", default="", help="What was done, in one line.")
@BY
@STANDBY
@FORMAT
def done(action: str, says: str, by: str, standby: str | None, form: str) -> None:
    """Say that ACTION is done."""
    event = {"verb": "action-done", "action": action, "says": says}
    show(say(event | {"by": by, "key": new_key()}, standby), form)


@command.command("drop")
@click.argument("action")
@click.option("--says", required=True, help="Why nobody does it; it is kept.")
@BY
@STANDBY
@FORMAT
def drop(action: str, says: str, by: str, standby: str | None, form: str) -> None:
    """Say that nobody does ACTION, and why."""
    event = {"verb": "action-drop", "action": action, "says": says}
    show(say(event | {"by": by, "key": new_key()}, standby), form)
