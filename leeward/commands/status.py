"""leeward status: what everybody can read of the services, and what is said there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from chalicelib.evidence.text import printable_lines
from chalicelib.incidents.status.sources import STATES
from leeward.answering import BY, CODE, STANDBY, ask_for_code, new_key, say
from leeward.answering import show as show_answer
from leeward.options import FORMAT, PLAN_PATH, writing_to
from leeward.plan_file import load_plan

PLAN = click.option(
    "--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML: its services."
)


@click.group("status", short_help="The status page: shown, written on, planned work.")
def command() -> None:
    """The public status page: docs/status-page.md."""


@command.command("show")
@STANDBY
@FORMAT
def show(standby: str | None, form: str) -> None:
    """Show what the page says, and whether that still holds.

    Exit status: 0 everything works; 1 something does not, is not known, or is not confirmed.
    """
    from leeward.status import is_stale, read_status, render_status

    said = read_status(standby)
    stale = is_stale(said, now=datetime.now(UTC))
    if form == "json":
        click.echo(json.dumps(said | {"stale": stale}))
    else:
        click.echo(render_status(said, stale=stale))
    if stale or said["state"] != "operational":
        raise SystemExit(1)


@command.command("post")
@click.argument("incident")
@click.option("--text", required=True, help="What everybody is to read; text, no markup.")
@click.option(
    "--state",
    type=click.Choice(STATES),
    default="identified",
    show_default=True,
    help="How the incident stands by these words.",
)
@click.option(
    "--own-rights",
    is_flag=True,
    help="Write with your own rights in AWS: the stack that knows the incident is lost.",
)
@BY
@CODE
@STANDBY
@FORMAT
def post(
    incident: str,
    text: str,
    state: str,
    own_rights: bool,
    by: str,
    code: str | None,
    standby: str | None,
    form: str,
) -> None:
    """Say something of INCIDENT on the status page, with your one-time code.

    Takes a role that may communicate. With --own-rights no code is asked for, and the record, in
    the evidence of the stack that is asked, says as whom AWS knows you; the page must show the
    incident already.

    \b
    Example:
    leeward status post inc-20261122T084500Z-nexus-db \\
        --state monitoring --text "It is back."
    """
    if own_rights:
        from leeward.status import open_bucket
        from leeward.status_by_hand import add_words, known_to_aws, open_records

        add_words(
            incident,
            text,
            state,
            known_to_aws(by, standby),
            bucket=open_bucket(standby),
            records=open_records(standby),
            now=datetime.now(UTC),
        )
        _tell({"incident": incident, "by": by}, f"{state}: on the page within a minute", form)
        return
    event = {
        "verb": "post",
        "incident": incident,
        "text": text,
        "state": state,
        "by": by,
        "code": ask_for_code(code),
        "key": new_key(),
    }
    show_answer(say(event, standby), form)


@command.command("render")
@PLAN
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to fill.")
@FORMAT
def render(plan_path: Path, out: Path, form: str) -> None:
    """Write the page as it would look during an incident, with an invented history, into a folder.

    Asks nothing of AWS.

    Exit status: 0 written; 2 the plan or the folder cannot be used.
    """
    from leeward.status import example_page

    files = example_page(load_plan(plan_path).plan, now=datetime.now(UTC))
    with writing_to(out):
        for key, data in files.items():
            (out / key).parent.mkdir(parents=True, exist_ok=True)
            (out / key).write_bytes(data)
    if form == "json":
        click.echo(json.dumps({"files": sorted(str(out / key) for key in files)}))
        return
    click.echo(f"{len(files)} files; begin with {out / 'index.html'}")


@command.group("maintenance", short_help="Planned work: announced, listed, called off.")
def maintenance() -> None:
    """Planned work on the page, with your own rights in AWS; there within a minute."""


@maintenance.command("add")
@PLAN
@click.option("--service", "services", multiple=True, required=True, help="A public service.")
@click.option("--from", "begins", required=True, help="ISO 8601 with an offset or Z.")
@click.option("--until", "ends", required=True, help="The same.")
@click.option("--says", required=True, help="What is done, for everybody.")
@BY
@STANDBY
@FORMAT
def add(
    plan_path: Path,
    services: tuple[str, ...],
    begins: str,
    ends: str,
    says: str,
    by: str,
    standby: str | None,
    form: str,
) -> None:
    """Announce planned work.

    \b
    Example:
    leeward status maintenance add --plan PLAN --service api --by cto \\
      --from 2026-12-01T22:00+01:00 --until 2026-12-01T23:30+01:00 \\
      --says "New disks"
    """
    from leeward.status import add_work, plan_work

    now = datetime.now(UTC)
    work = plan_work(load_plan(plan_path).plan, services, (begins, ends), says, by, now=now)
    add_work(work, standby)
    _tell(work.to_json(), f"{work.id}: announced, on the page within a minute", form)


@maintenance.command("list")
@STANDBY
@FORMAT
def list_(standby: str | None, form: str) -> None:
    """List planned work, and what is over."""
    from leeward.status import list_work

    rows = list_work(standby, now=datetime.now(UTC))
    if form == "json":
        click.echo(json.dumps({"maintenance": rows}))
        return
    for row in rows:
        when = f"{row['from_at'][:16]}Z to {row['until_at'][:16]}Z"
        services = ", ".join(row["services"])
        click.echo(
            printable_lines(f"{row['id']}  {row['state']}  {when}  {services}: {row['says']}")
        )
    if not rows:
        click.echo("no work was announced")


@maintenance.command("cancel")
@click.argument("identity", metavar="ID")
@BY
@STANDBY
@FORMAT
def cancel(identity: str, by: str, standby: str | None, form: str) -> None:
    """Call work ID off: the page says so."""
    from leeward.status import cancel_work

    cancel_work(identity, by, standby, now=datetime.now(UTC))
    _tell({"id": identity, "cancelled": True}, f"{identity}: called off", form)


def _tell(body: dict[str, Any], words: str, form: str) -> None:
    click.echo(json.dumps(body) if form == "json" else words)
