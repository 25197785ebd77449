"""leeward plan: the plan itself is kept true."""

from __future__ import annotations

import json

import click

from leeward.answering import BY, CODE, ask_for_code, look, new_key, say, show
from leeward.options import FORMAT


@click.group("plan", short_help="The plan's own review: how it stands, and that it was done.")
def command() -> None:
    """The review of the plan itself."""


@command.command("review")
@FORMAT
def review(form: str) -> None:
    """Tell when the deployed plan is to be reviewed.

    Exit status: 0 it stands; 1 its review is overdue.
    """
    said = look({"verb": "actions"}, None)["plan_review"]
    due = f", by {said['due_on']}" if said["due_on"] else ""
    click.echo(json.dumps(said) if form == "json" else f"{said['standing']}{due}: {said['why']}")
    if said["standing"] == "overdue":
        raise SystemExit(1)


@command.command("reviewed")
@click.option("--says", default="", help="What was found and changed; it is kept.")
@BY
@CODE
@FORMAT
def reviewed(says: str, by: str, code: str | None, form: str) -> None:
    """Say that the plan, as it is deployed, was reviewed; the next review is counted from today.

    Takes a one-time code of whom the plan names: the approvers of its review, else its owner, else
    who may approve.
    """
    event = {"verb": "plan-reviewed", "says": says, "by": by, "key": new_key()}
    show(say(event | {"code": ask_for_code(code)}, None), form)
