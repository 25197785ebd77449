"""leeward break-glass SCENARIO: a failover from a laptop; its records are merged later."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalicelib.errors import BadInput, NotReady
from leeward.console import Console
from leeward.deployed import Access, reach
from leeward.options import FORMAT, PLAN_PATH, require_writable
from leeward.plan_file import load_plan
from leeward.wired import require_scenario, require_wired

if TYPE_CHECKING:
    from chalicelib.plan.model import Plan
    from leeward.break_glass import Result

SWITCHES = click.option(
    "--switch-bucket",
    envvar="LEEWARD_SWITCH_BUCKET",
    default="",
    help="The bucket of the switch objects: leeward-switch-ACCOUNT-REGION. [LEEWARD_SWITCH_BUCKET]",
)


class _ScenarioOrCommand(click.Group):
    """`break-glass merge FOLDER` is a command; `break-glass SCENARIO` a failover."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["fail-over", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_ScenarioOrCommand, short_help="Fail over from a laptop, with AWS half gone.")
def command() -> None:
    """Fail over from a laptop: object reads and one object write, no deployment.

    \b
    leeward break-glass SCENARIO --plan PLAN --reason TEXT
    leeward break-glass merge FOLDER --plan PLAN
    """


@command.command("fail-over", short_help="Fail over: also without this word.")
@click.argument("scenario")
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@click.option("--reason", required=True, help="Why; it stands in the evidence.")
@SWITCHES
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A new folder for the records; break-glass-TIME by default.",
)
@click.option("--insist", is_flag=True, help="Also when the lost site answers, or the other not.")
@click.option("--dry-run", is_flag=True, help="Assess and choose; change nothing.")
@click.option(
    "--dns",
    envvar="LEEWARD_DNS",
    default="",
    metavar="HOST:PORT",
    help="Ask this name server instead of the zone's own. [LEEWARD_DNS]",
)
@click.option(
    "--login",
    multiple=True,
    metavar="LOCATION=FILE",
    help="The login to a location, JSON as in its secret; may be given again.",
)
@click.option(
    "--private-key", type=click.Path(path_type=Path), help="Offline key (PEM) that opens copies."
)
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path), help="Its passphrase: the first line."
)
@FORMAT
def fail_over(
    scenario: str,
    plan_path: Path,
    reason: str,
    switch_bucket: str,
    out: Path | None,
    insist: bool,
    dry_run: bool,
    dns: str,
    login: tuple[str, ...],
    private_key: Path | None,
    passphrase_file: Path | None,
    form: str,
) -> None:
    """Move the names of a SCENARIO that loses a site to the other one, and see them moved.

    Looks at what answers at both sites, chooses the copy of each component, writes the one object
    that moves the names, asks the name servers until they answer for the other site, and asks every
    service there for its health. Asks nothing of the lost region, of Lambda, Step Functions or
    DynamoDB. What needs those is named as left to do. The records are files in a folder.

    Exit status: 0 names moved and services verified, or with --dry-run nothing in the way; 1 not;
    2 the input cannot be used.

    \b
    Example:
    leeward break-glass regional-outage --plan policies/plans/nexus-studio.yaml \\
        --reason "us-east-1 is gone" \\
        --switch-bucket leeward-switch-123456789012-us-west-2
    """
    from leeward.deployed import parse_logins

    file = load_plan(plan_path)
    require_scenario(file.plan, scenario)
    require_wired(file)
    if not reason.strip():
        hint = "say in one line why"
        raise BadInput("expected a reason, found none", hint=hint, code="no-reason")
    folder = out or Path(f"break-glass-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    require_writable(folder.absolute().parent)
    access = Access(parse_logins(login), private_key, passphrase_file, without_aws=True)
    console = Console(highlight=False, quiet=form == "json")
    request = {"reason": reason, "folder": folder, "insist": insist, "dry_run": dry_run}
    result = _fail_over(file.plan, scenario, access, switch_bucket, dns, console, request)
    if form == "json":
        click.echo(json.dumps(_as_json(result)))
        return
    took = f"{result.seconds:.1f} s" if result.seconds is not None else "nothing was changed"
    _tell(console, f"incident  {result.incident}\nrecords   {result.folder}\ntook      {took}")
    if result.left:
        _tell(console, f"left to do with the deployment: {', '.join(result.left)}")


def _tell(console: Console, text: str) -> None:
    """What was found may be anybody's words: brackets in them are no markup."""
    console.print(text, markup=False)


def _fail_over(
    plan: Plan,
    scenario: str,
    access: Access,
    bucket: str,
    dns: str,
    console: Console,
    request: dict[str, Any],
) -> Result:
    from chalicelib.adapters.clock import SystemClock
    from chalicelib.adapters.http.probe import HttpProber
    from chalicelib.adapters.traffic.dns_client import NameServers
    from leeward.break_glass import BreakGlass, Means, Request

    with reach(plan, access) as places:
        means = Means(
            switch_store(plan, bucket), HttpProber(), NameServers(dns), places, SystemClock()
        )
        asked = Request(scenario, by=getpass.getuser(), **request)
        told = BreakGlass(
            plan, asked, means, lambda step, found: _tell(console, f"{step:<9} {found}")
        )
        return told.run()


def switch_store(plan: Plan, bucket: str) -> Any:
    """Raises NotReady (code "no-switch-bucket")."""
    from chalicelib.adapters.s3.access import reach_s3
    from chalicelib.adapters.s3.store import S3ObjectStore

    region = plan.aws_region("standby")
    if not bucket or region is None:
        raise NotReady(
            "expected the name of the switch bucket, and a standby region in the plan",
            hint="--switch-bucket leeward-switch-ACCOUNT-REGION; keep the name with the plan",
            code="no-switch-bucket",
        )
    return S3ObjectStore(reach_s3(region), bucket)


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "incident": result.incident,
        "folder": str(result.folder),
        "site": result.site,
        "seconds": result.seconds,
        "copies": result.copies,
        "left": list(result.left),
    }


@command.command("merge", short_help="Bring the records into the evidence.")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@SWITCHES
@click.option(
    "--evidence-bucket",
    envvar="LEEWARD_EVIDENCE_BUCKET",
    required=True,
    help="The standby stack's output EvidenceBucket. [LEEWARD_EVIDENCE_BUCKET]",
)
@click.option("--incident", default="", help="Into this incident; by default one of its own.")
@FORMAT
def merge(
    folder: Path,
    plan_path: Path,
    switch_bucket: str,
    evidence_bucket: str,
    incident: str,
    form: str,
) -> None:
    """Bring what `break-glass` recorded in FOLDER into the evidence of an incident.

    The chain in the folder is verified first; each record is kept whole with its own time and
    digest. The switch enters the history by which later ones are damped. Safe to repeat.

    Exit status: 0; 1 the records are broken, or the bucket is out of reach; 2 the input cannot be
    used.

    \b
    Example:
    leeward break-glass merge break-glass-20261122T084500Z --plan plan.yaml \\
        --evidence-bucket leeward-evidence --incident inc-20261122T084512Z-primary
    """
    from chalicelib.adapters.clock import SystemClock
    from chalicelib.adapters.s3.access import reach_s3
    from chalicelib.adapters.s3.store import S3ObjectStore
    from leeward.break_glass_merge import merge as merge_records

    plan = load_plan(plan_path).plan
    switches = switch_store(plan, switch_bucket)
    evidence = S3ObjectStore(reach_s3(plan.aws_region("standby")), evidence_bucket)
    stream, count = merge_records(folder, evidence, switches, incident, clock=SystemClock())
    if form == "json":
        click.echo(json.dumps({"incident": stream, "records": count}))
        return
    click.echo(f"{count} records are in the evidence of {stream}")
