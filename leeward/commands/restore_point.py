"""leeward restore point COMPONENT: bring a component back from the best copy there is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from chalicelib.errors import BadInput
from chalicelib.plan.records import RecoveryTarget, format_time, parse_time
from leeward.console import Console
from leeward.deployed import Access, access_options, reach
from leeward.options import FORMAT, PLAN_PATH, require_writable
from leeward.plan_file import load_plan


@click.command("point", short_help="Bring a component back from the best copy there is.")
@click.argument("component")
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@click.option(
    "--to",
    "moment",
    default="end",
    show_default=True,
    metavar="TIME",
    help="A moment with its zone, or `end`: all there is.",
)
@click.option("--from", "location", default="", help="Use this location and no other.")
@click.option("--out", type=click.Path(path_type=Path), help="An empty or new folder for it.")
@click.option("--redis", "redis_url", default="", help="Server that keys are restored into (URL).")
@click.option("--prove", is_flag=True, help="Only try it: nothing stays but the proof.")
@click.option("--dry-run", is_flag=True, help="Say which copy would be used, and why.")
@access_options
@FORMAT
def command(
    component: str,
    plan_path: Path,
    moment: str,
    location: str,
    out: Path | None,
    redis_url: str,
    prove: bool,
    dry_run: bool,
    access: Access,
    form: str,
) -> None:
    """Bring COMPONENT back from the location that leads to the moment, has the most data, is
    proven and is nearest, and say why that one. Where what it holds turns out damaged, the next
    best is taken.

    A database becomes a data folder, recovered to the moment, checked, and shut down in order;
    files a folder; a repository a working copy; keys go into the server that --redis names. A
    folder has its name when all of it is on the disk; until then it is .NAME.leeward-* beside it.

    Exit status: 0 all of it is there and every check passed; 1 not; 2 the input cannot be used.

    \b
    Example:
    leeward restore point nexus-db \\
        --plan policies/plans/nexus-studio.yaml --out restored
    """
    from leeward.commands.prove import Screen
    from leeward.restoring import Restorer

    _require_purpose(out, redis_url, prove=prove, dry_run=dry_run)
    if out:
        require_writable(out.absolute().parent)
    screen = Screen(quiet=form == "json")
    try:
        with reach(load_plan(plan_path).plan, access) as places:
            restorer = Restorer(
                places, component, _target(moment), screen.tell,
                location=location, redis_url=redis_url,
            )  # fmt: skip
            restored = None
            if dry_run:
                choice = restorer.choose()
            else:
                restored = (
                    restorer.prove(restorer.choose()) if prove else restorer.bring_back_best(out)
                )
                choice = restored.choice
    finally:
        screen.close()
    if form == "json":
        click.echo(json.dumps(restored.to_json() if restored else choice.to_json()))
    else:
        _show(Console(highlight=False), choice.others, restored)
    if restored and not restored.ok:
        sys.exit(1)


def _require_purpose(out: Path | None, redis_url: str, *, prove: bool, dry_run: bool) -> None:
    if not (out or redis_url or prove or dry_run) or (prove and (out or redis_url)):
        raise BadInput(
            "expected one of --out, --redis, --prove and --dry-run",
            hint="say where it goes, or that it is only tried",
            code="no-destination",
        )


def _target(moment: str) -> RecoveryTarget:
    if moment == "end":
        return RecoveryTarget("end", "")
    try:
        return RecoveryTarget("time", format_time(parse_time(moment)))
    except ValueError as error:
        raise BadInput(
            f"expected a time with its zone or `end`, found {moment!r}",
            hint="write --to 2026-11-22T08:45:00Z",
            code="bad-target-time",
        ) from error


def _show(console: Console, others: tuple[tuple[str, str], ...], restored: object) -> None:
    from leeward.restoring import Restored

    for location, why in others:
        console.print(f"not {location}: {why}", markup=False)
    if not isinstance(restored, Restored):
        return
    for check in restored.checks:
        mark = "[green]ok[/]" if check.ok else "[bold red]FAILED[/]"
        console.print(f"{mark}  ", end="")
        console.print(f"{check.name}: {check.found}", markup=False)
    for reason in restored.not_checked:
        console.print(f"not checked: {reason}", markup=False)
    console.print(restored.found, markup=False)
    if restored.folder:
        console.print(f"in {restored.folder}", soft_wrap=True, markup=False)
    if restored.next_step:
        console.print(restored.next_step, soft_wrap=True, markup=False)
