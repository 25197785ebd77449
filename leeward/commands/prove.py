"""leeward prove DSN: back up, restore and verify any PostgreSQL that can be reached."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import FrameType

import click
from rich.status import Status
from rich.table import Table
from rich.text import Text

from chalicelib.evidence.text import day_and_clock, in_units, printable
from chalicelib.plan.records import CheckResult
from leeward.console import Console
from leeward.options import FORMAT, require_writable
from leeward.prove import ProofOfServer, Prover


@click.command(short_help="Back up, restore and verify any PostgreSQL you can reach.")
@click.argument("dsn")
@FORMAT
@click.option(
    "--keep-backup",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Keep the backup and its WAL in this folder; docs/restore-by-hand.md restores it.",
)
@click.option(
    "--binaries",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of the PostgreSQL programs to use; of the server's major version.",
)
def command(dsn: str, form: str, keep_backup: Path | None, binaries: str | None) -> None:
    """Take an agentless backup of the server at DSN, restore it, and look whether it is whole.

    DSN: postgresql://role@host/database or libpq's key=value pairs, of a role with the
    REPLICATION right; its password may come from PGPASSWORD or ~/.pgpass. Servers of versions 15
    to 18. Nothing on the server is changed, and nothing is left there or here.

    Exit status: 0 only when every check passed; 1 when one did not, or the proof could not be
    made; 2 when DSN cannot be used; 130 after Ctrl-C.

    \b
    Example:
    leeward prove postgresql://backup@db.example.org/app
    """
    signal.signal(signal.SIGTERM, _end_in_order)
    if keep_backup:
        require_writable(keep_backup)
    screen = Screen(quiet=form == "json")
    try:
        found = Prover(dsn, screen.tell, keep=keep_backup, binaries=binaries).run()
    finally:
        screen.close()
    if form == "json":
        click.echo(json.dumps(found.to_json()))
    else:
        show_proof(Console(), found)
    sys.exit(0 if found.proof.ok else 1)


def _end_in_order(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


class Screen:
    """A line per finished step on stderr, and the running one with its clock."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._status: Status | None = None

    def tell(self, step: str, found: str) -> None:
        self.close()
        if found:
            line = Text(f"  {step:<10}", style="bold").append(printable(found), style="")
            self._console.print(line)
        else:
            self._status = self._console.status(f"{step} ...")
            self._status.start()

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def show_proof(console: Console, found: ProofOfServer) -> None:
    proof = found.proof
    verdict = (
        Text("PROVEN", style="bold green") if found.proof.ok else Text("FAILED", style="bold red")
    )
    last_commit = day_and_clock(proof.last_commit_at) if proof.last_commit_at else "none replayed"
    back_again = proof.seconds["restore"] + proof.seconds["replay"]
    summary = Table.grid(padding=(0, 2))
    summary.add_column(no_wrap=True)
    summary.add_column(overflow="fold")
    for name, value in (
        ("recovery point", found.point.id),
        ("last commit in it", last_commit),
        ("restore and replay", in_units(back_again)),
        ("whole proof", in_units(sum(proof.seconds.values()))),
        *(("not checked", reason) for reason in found.not_checked),
    ):
        summary.add_row(name, Text(value))
    console.print()
    console.print(_checks_table(proof.checks))
    console.print(summary)
    if found.backup_folder:
        told = f"The backup is in {found.backup_folder}; docs/restore-by-hand.md tells how."
        console.print(told, markup=False)
    console.print(verdict)


def _checks_table(checks: tuple[CheckResult, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("check", "", "found"):
        table.add_column(heading)
    for check in checks:
        mark = Text("ok", style="green") if check.ok else Text("FAILED", style="bold red")
        table.add_row(Text(check.name), mark, Text(check.found))
    return table
