"""leeward dashboard: a link to sign in with."""

from __future__ import annotations

import click

from leeward.answering import BY, STANDBY, say, show
from leeward.options import FORMAT


@click.command("dashboard", short_help="A link to sign in to the dashboard with.")
@BY
@STANDBY
@FORMAT
def command(by: str, standby: str | None, form: str) -> None:
    """Print a link with which one browser signs in, once, within ten minutes.

    Exit status: 0; 2 the plan has no such person.

    \b
    Example:
    leeward dashboard --by cto
    """
    show(say({"verb": "link", "by": by}, standby), form)
