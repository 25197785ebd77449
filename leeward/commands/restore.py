"""`leeward restore`: take things back to how they were."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from chalicelib.errors import Refused
from chalicelib.plan.units import parse_size
from leeward.console import Console
from leeward.options import FORMAT, PLAN_PATH, writing_to

STATUSES = {"proven": 0, "not-proven": 1, "versions-alone": 3}


class SizeText(click.ParamType):
    """ "500 MB" -> bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Restores(click.Group):
    """What needs the plan's model is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), "inventory", "point", "rows"})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "inventory":
            from leeward.commands.restore_inventory import command as inventory

            return inventory
        if cmd_name == "point":
            from leeward.commands.restore_point import command as point

            return point
        if cmd_name == "rows":
            from leeward.commands.restore_rows import command as rows

            return rows
        return super().get_command(ctx, cmd_name)


@click.group(cls=Restores, short_help="Take things back to how they were.")
def command() -> None:
    """Take things back to how they were."""


@command.command(short_help="Take a versioned bucket back to a moment.")
@click.argument("name")
@click.option(
    "--to",
    "moment",
    required=True,
    metavar="TIME",
    help="2026-11-22T08:45:00Z, another offset, or '2h ago'.",
)
@click.option(
    "--plan",
    "plan_path",
    type=PLAN_PATH,
    help="The plan's YAML that names the bucket: its inventories witness what was removed.",
)
@click.option("--prefix", default="", help="Only the keys that begin with this.")
@click.option("--in-place", is_flag=True, help="Change the bucket itself (unless --to-bucket).")
@click.option(
    "--to-bucket", "target", default="", metavar="NAME", help="Copy into this bucket instead."
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--keep-markers",
    is_flag=True,
    help="Copy on top of delete markers instead of removing them.",
)
@click.option(
    "--archived",
    type=click.Choice(["refuse", "leave", "thaw"]),
    default="refuse",
    show_default=True,
    help="What becomes of objects that lie in an archive.",
)
@click.option(
    "--accept-gaps",
    is_flag=True,
    help="Act on what is left of an incomplete history; never counts as proven.",
)
@click.option(
    "--read-limit",
    type=SizeText(),
    default="1 GB",
    show_default=True,
    help="Read at most so much to prove what S3 keeps no checksums of.",
)
@click.option(
    "--log",
    "log_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append each key, before it is changed, as a JSON line.",
)
@click.option("--region", help="The bucket's region; otherwise the environment's.")
@click.option("--endpoint-url", help="An S3 other than AWS's.")
@FORMAT
def bucket(
    name: str,
    moment: str,
    plan_path: Path | None,
    prefix: str,
    in_place: bool,
    target: str,
    dry_run: bool,
    yes: bool,
    keep_markers: bool,
    archived: str,
    accept_gaps: bool,
    read_limit: int,
    log_path: Path | None,
    region: str | None,
    endpoint_url: str | None,
    form: str,
) -> None:
    """Take bucket NAME back to TIME, from its versions and delete markers.

    Shows the plan with its cost, asks, does it on S3's side, and proves each key against the
    versions of that moment. With --plan, the inventories of the nights around TIME are asked
    which versions there were: what has been removed for good since is named, and brought back
    from the replica. No data is deleted. Safe to repeat: what a killed run left to do is done.

    Exit status: 0 proven, or a plan that is possible; 1 refused, failed or not proven; 2 the
    input cannot be used; 3 every key is as the versions say, and no inventory witnesses that
    none was removed; 130 after Ctrl-C.

    \b
    Example:
    leeward restore bucket uploads --to 2026-11-22T08:45:00Z --dry-run
    """
    from leeward.bucket_undo import Undoing, Wish, knowing, read_moment
    from leeward.bucket_undo_screen import progress, show_end, show_plan, to_json
    from leeward.garbage import expect_many_rows

    if in_place and target:
        raise click.UsageError("expected --in-place or --to-bucket, found both")
    if log_path and target:
        raise click.UsageError("expected --log without --to-bucket, which changes no key")
    wish = Wish(
        name, read_moment(moment, datetime.now(UTC)), prefix, target, keep_markers, accept_gaps,
        archived, read_limit, region, endpoint_url,
    )  # fmt: skip
    screen = Console(stderr=form == "json", quiet=form == "json")
    bar = Console(stderr=True, quiet=form == "json")
    expect_many_rows()
    context = click.get_current_context()
    known = context.with_resource(knowing(plan_path, wish)) if plan_path else None
    undoing = Undoing(wish, known)
    context.call_on_close(undoing.close)
    undoing.look()
    undoing.hear()
    with progress(bar, "reading versions") as tell:
        undoing.survey(tell)
    show_plan(screen, undoing)
    undoing.require_possible()
    if dry_run:
        if form == "json":
            click.echo(json.dumps(to_json(undoing, None, None, None)))
        return
    if (undoing.changes or undoing.writes) and not yes:
        _ask(name, form)
    if log_path is not None:
        with writing_to(log_path.parent), log_path.open("a"):
            pass
    time.sleep(undoing.seconds_to_wait())
    begun = time.monotonic()
    with progress(bar, "taking back", undoing.plan.keys) as tell:
        outcome = undoing.apply(tell, log_path)
    undoing.refill()
    seconds = time.monotonic() - begun
    with progress(bar, "proving", undoing.plan.keys) as tell:
        proof = undoing.verify(tell)
    grade = undoing.grade(as_listed=outcome.ok and proof.ok)
    if form == "json":
        click.echo(json.dumps(to_json(undoing, outcome, proof, grade)))
    else:
        show_end(screen, undoing, outcome, proof, grade, seconds)
    sys.exit(STATUSES[grade.level])


def _ask(name: str, form: str) -> None:
    """Raises Refused where nobody can answer, click.Abort when the answer is no."""
    if form == "json" or not sys.stdin.isatty():
        raise Refused(
            f"expected a person, or --yes, before {name} itself is changed",
            code="not-confirmed",
            hint="Add --yes, or --dry-run to see the plan, or --to-bucket to leave it as it is.",
        )
    click.confirm(f"change {name} itself?", abort=True, err=True)
