"""leeward approve RUN STEP: let a step that waits for an approval begin."""

from __future__ import annotations

import click

from leeward.answering import BY, CODE, STANDBY, answer
from leeward.options import FORMAT


@click.command(short_help="Approve a step that waits for it.")
@click.argument("run")
@click.argument("step")
@BY
@CODE
@click.option("--reason", default="", help="Why; it stands in the evidence.")
@STANDBY
@FORMAT
def command(
    run: str, step: str, by: str, code: str | None, reason: str, standby: str | None, form: str
) -> None:
    """Approve STEP of RUN, with your one-time code.

    Where the plan asks for two people, the step begins when the second one has approved, and
    whoever asked for the run is none of them.

    Exit status: 0 counted; 1 refused; 2 the input cannot be used.

    \b
    Example:
    leeward approve run-20261122T084500Z-nexus-db switch --by cto
    """
    answer(
        "approve", run=run, step=step, by=by, code=code, reason=reason, standby=standby, form=form
    )
