"""leeward unfence DSN ROLE: give a fenced role its login back, as it was."""

from __future__ import annotations

import json
from typing import Any

import click

from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.recover.database.fence import open_writes, read_fence
from chalicelib.recover.database.switch import reinstate_database
from leeward.options import FORMAT


@click.command(short_help="Give a fenced role its login back.")
@click.argument("dsn")
@click.argument("role")
@click.option(
    "--reinstate",
    metavar="DATABASE",
    help="Let the role into this database again, which a switch closed to it.",
)
@FORMAT
def command(dsn: str, role: str, reinstate: str | None, form: str) -> None:
    """Undo what a run did to ROLE on the server at DSN, when a person takes over from it.

    DSN is the operator's. Look first whether the run that holds the fence has ended: a running one
    relies on it. What it undoes is what the run found: a role that could not log in before stays
    so. Safe to repeat.

    Exit status: 0, also when the role was not fenced; 1 refused or no answer; 2 DSN cannot be used.

    \b
    Example:
    leeward unfence postgresql://leeward@db.example.org/nexus nexus_app
    """
    databases = PostgresDatabases(dsn)
    marker = read_fence(databases, role)
    opened = marker is not None and open_writes(databases, role, token=marker["token"])
    if reinstate:
        reinstate_database(databases, reinstate, role)
    if form == "json":
        held = {name: marker[name] for name in ("token", "run_id")} if marker else None
        click.echo(json.dumps({"role": role, "opened": opened, "held": held}))
    else:
        click.echo(_tell(role, marker))


def _tell(role: str, marker: dict[str, Any] | None) -> str:
    if marker is None:
        return f"{role} was not fenced"
    may = "may log in again" if marker["login"] else "cannot log in, as before the fence"
    return f"{role} {may}; it was fenced by {marker['run_id']} with token {marker['token']}"
