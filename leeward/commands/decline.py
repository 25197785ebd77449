"""leeward decline RUN STEP: no, or it cannot be done."""

from __future__ import annotations

import click

from leeward.answering import BY, CODE, STANDBY, answer
from leeward.options import FORMAT


@click.command(short_help="Decline a step that waits for people.")
@click.argument("run")
@click.argument("step")
@BY
@CODE
@click.option("--reason", required=True, help="Why; it stands in the evidence.")
@STANDBY
@FORMAT
def command(
    run: str, step: str, by: str, code: str | None, reason: str, standby: str | None, form: str
) -> None:
    """Decline STEP of RUN, or say that it cannot be done: the run ends there.

    One who declines is enough.

    Exit status: 0 counted; 1 refused; 2 the input cannot be used.

    \b
    Example:
    leeward decline run-20261122T084500Z-nexus-db switch \\
        --by cto --reason "a false alarm"
    """
    answer(
        "decline", run=run, step=step, by=by, code=code, reason=reason, standby=standby, form=form
    )
