"""leeward done RUN STEP: a person has done a step that is theirs."""

from __future__ import annotations

import click

from leeward.answering import BY, CODE, STANDBY, answer
from leeward.options import FORMAT


@click.command(short_help="Say that a person's step is done.")
@click.argument("run")
@click.argument("step")
@BY
@CODE
@click.option("--reason", default="", help="What was done and found; it stands in the evidence.")
@STANDBY
@FORMAT
def command(
    run: str, step: str, by: str, code: str | None, reason: str, standby: str | None, form: str
) -> None:
    """Say that STEP of RUN, which waits for a person, is done: the run goes on.

    Exit status: 0 counted; 1 refused; 2 the input cannot be used.

    \b
    Example:
    leeward done run-20261122T084500Z-nexus-db root-cause \\
        --by dba-lead --reason "a bad import"
    """
    answer("done", run=run, step=step, by=by, code=code, reason=reason, standby=standby, form=form)
