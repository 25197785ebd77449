"""leeward alarms: what is raised and starts no scenario."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from chalicelib.evidence.text import printable
from leeward.answering import STANDBY, look
from leeward.options import FORMAT


@click.command("alarms", short_help="Alarms that are raised and start no scenario.")
@STANDBY
@FORMAT
def command(form: str, standby: str | None) -> None:
    """List the alarms that are raised and start no scenario, the oldest first.

    People are told of each when it is raised, once a day while it lasts, and when it is over.

    Exit status: 0 none is raised; 1 one is, or nobody has looked of late.
    """
    told = look({"verb": "alarms"}, standby)
    click.echo(json.dumps(told) if form == "json" else _as_text(told))
    sys.exit(0 if told["known"] and not told["alarms"] else 1)


def _as_text(told: dict[str, Any]) -> str:
    lines = []
    for it in told["alarms"]:
        lines += [printable(f"{it['raised_at'][:16]}Z  {it['alarm']}"),
                  printable(f"  {it['description']}")]  # fmt: skip
    if not told["known"]:
        since = f"since {told['looked_at']}" if told["looked_at"] else "yet"
        lines.append(f"UNKNOWN: nobody has looked {since}; see the log of on_alarm")
    elif len(told["alarms"]) > 1:
        lines.append(f"{len(told['alarms'])} alarms are raised")
    return "\n".join(lines or ["no alarm is raised"])
