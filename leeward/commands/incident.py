"""leeward incident: what is going on, and what a person says to it."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.markup import escape

from chalicelib.evidence.text import printable
from leeward.answering import BY, CODE, STANDBY, ask_for_code, look, new_key, say, show
from leeward.console import Console
from leeward.options import FORMAT


@click.group("incident", short_help="Incidents: listed, shown, acknowledged, declared, closed.")
def command() -> None:
    """Incidents, without any chat: what waits for whom, and what you say to it."""


@command.command("list")
@click.option("--ended", is_flag=True, help="Those too that are over.")
@STANDBY
@FORMAT
def list_(ended: bool, standby: str | None, form: str) -> None:
    """List the incidents, the newest first, with what waits for people."""
    said = look({"verb": "incidents", "ended": ended}, standby)
    if form == "json":
        click.echo(json.dumps(said))
        return
    rows = said["incidents"]
    if not rows:
        click.echo("no incident" if ended else "no incident is open")
        return
    # Not a table: an id that is cut, or goes on in the next line, cannot be copied.
    click.echo("\n".join(line for row in rows for line in incident_lines(row)))


def incident_lines(row: dict[str, Any]) -> list[str]:
    """An id and what is to be read first in each line, whatever the terminal's width."""
    drill = " (drill)" if row["drill"] else ""
    lines = [
        f"{row['incident']}  {row['severity']} {row['status']}{drill}: {row['scenario']}",
        f"  {row['run']}: {row['run_status']}",
    ]
    if row["waits_for"]:
        lines.append(f"  waits for {', '.join(row['waits_for'])}")
    return [printable(line) for line in lines]


@command.command("show")
@click.argument("incident")
@STANDBY
@FORMAT
def show_(incident: str, standby: str | None, form: str) -> None:
    """Show INCIDENT: what waits for whom until when, who was called, who was told, who was not."""
    said = look({"verb": "incident", "incident": incident}, standby)
    if form == "json":
        click.echo(json.dumps(said))
        return
    _print(said, Console(highlight=False))


def _print(said: dict[str, Any], console: Console) -> None:
    drill = "  DRILL" if said["drill"] else ""
    console.print(f"[bold]{_text(said['incident'])}[/bold]{drill}")
    console.print(f"{said['severity']} {said['status']}: {_text(said['scenario'])}, "
                  f"{_text(said['component'])}, since {_second(said['opened_at'])}")  # fmt: skip
    for run in said["runs"]:
        console.print(f"run {_text(run['run'])}: {run['status']}")
    for one in said["questions"]:
        _print_question(one, console)
    for one in said["acknowledged"]:
        console.print(f"acknowledged {_second(one['at'])} by {_text(one['by'])}")
    for one in said["called"]:
        reached = "" if one["reached"] else ", NOT reached"
        console.print(f"called {_second(one['at'])}: {_text(one['who'])}{reached}")
    for one in said["told"]:
        console.print(
            f"told {_second(one['at'])}: {one['what']} to {_text(one['to'])}, {_text(one['way'])}"
        )
    for one in said["untold"]:
        console.print(_untold_line(one))
    for one in said["actions"]:
        console.print(_text(f"{one['action']} {one['standing']}: {one['what']} "
                            f"({one['owner']}, {one['due_on']})"))  # fmt: skip
    if said["regulators_by"]:
        console.print(f"regulators must know by {_second(said['regulators_by'])} if it is a breach")


def _print_question(one: dict[str, Any], console: Console) -> None:
    who = " or ".join(one["roles"])
    state = one["answered"] or f"waits until {_second(one['until'])}, then {one['otherwise']}s"
    have = f" ({len(one['by'])} of {one['count']}: {', '.join(one['by'])})" if one["by"] else ""
    console.print(_text(f"{one['kind']} {one['step']}: {one['says']}; {who}: {state}{have}"))


@command.command("messages")
@click.argument("incident", required=False, default="")
@click.option("--text", "with_text", is_flag=True, help="Their words too, to be told by hand.")
@STANDBY
@FORMAT
def messages(incident: str, with_text: bool, standby: str | None, form: str) -> None:
    """List what has not been told, of INCIDENT or of all: why, and when it is tried again.

    Exit status: 0 nothing waits or was given up; 1 something was given up.
    """
    said = look({"verb": "messages", "incident": incident}, standby)
    if form == "json":
        click.echo(json.dumps(said))
    else:
        console = Console(highlight=False)
        for one in said["messages"]:
            console.print(_untold_line(one))
            if with_text:
                console.print(_text(f"{one['subject']}\n{one['text']}\n"))
        if not said["messages"]:
            click.echo("everything was told")
    if any(one["status"] == "given-up" for one in said["messages"]):
        raise SystemExit(1)


def _untold_line(one: dict[str, Any]) -> str:
    if one["status"] == "given-up":
        when = "given up"
    else:
        when = (
            f"again at {_second(one['due_at'])}"
            if one["attempts"]
            else f"not before {_second(one['due_at'])}"
        )
    why = f": {'; '.join(one['why'])}" if one["why"] else ""
    about = f"{one['subject']}, to {one['to']} ({one['audience']})"
    return _text(f"NOT told: {about}, {when}{why}")


@command.command("ack")
@click.argument("incident")
@BY
@STANDBY
@FORMAT
def ack(incident: str, by: str, standby: str | None, form: str) -> None:
    """Say that you look after INCIDENT: nobody else is called until that lapses."""
    show(say({"verb": "ack", "incident": incident, "by": by}, standby), form)


@command.command("declare")
@click.argument("scenario")
@click.option("--reason", required=True, help="Why; it stands in the evidence.")
@click.option("--moment", help="Recover to just before this, as with `leeward run`.")
@click.option("--drill", is_flag=True, help="Act on stand-ins alone.")
@BY
@CODE
@STANDBY
@FORMAT
def declare(
    scenario: str,
    reason: str,
    moment: str | None,
    drill: bool,
    by: str,
    code: str | None,
    standby: str | None,
    form: str,
) -> None:
    """Declare SCENARIO of the deployed plan, with your one-time code: its run starts.

    Takes a role that may declare.
    """
    event = {
        "verb": "declare",
        "scenario": scenario,
        "reason": reason,
        "moment": moment,
        "drill": drill,
        "by": by,
        "code": ask_for_code(code),
        "key": new_key(),
    }
    said = say(event, standby)
    if form == "json":
        click.echo(json.dumps(said))
        return
    click.echo(f"incident {said['incident']}\nrun      {said['run']}")


@command.command("close")
@click.argument("incident")
@click.option("--reason", required=True, help="Why it is over; it stands in the evidence.")
@BY
@CODE
@STANDBY
@FORMAT
def close(
    incident: str, reason: str, by: str, code: str | None, standby: str | None, form: str
) -> None:
    """Close INCIDENT, whose run did not recover it: a person says that it is over."""
    event = {
        "verb": "close",
        "incident": incident,
        "reason": reason,
        "by": by,
        "code": ask_for_code(code),
        "key": new_key(),
    }
    show(say(event, standby), form)


def _second(time: str) -> str:
    """Nobody reads a millionth of one."""
    return f"{time[:19]}Z"


def _text(value: str) -> str:
    return escape(printable(value))
