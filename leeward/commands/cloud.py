"""leeward cloud up | env: the local cloud in the foreground, and how to reach it."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leeward.options import FORMAT, PLAN_PATH

if TYPE_CHECKING:
    from leeward.plan_file import PlanFile

DEFAULT_PLAN = "policies/plans/nexus-studio.yaml"


@click.group(short_help="Run the local cloud.")
def command() -> None:
    """Run AWS and a production database on this machine: docs/local-cloud.md."""


@command.command(short_help="Start it and stay in the foreground.")
@click.option("--once", is_flag=True, help="Deploy, check that every function starts, and end.")
@click.option(
    "--plan",
    "plan_path",
    type=PLAN_PATH,
    default=DEFAULT_PLAN,
    show_default=True,
    help="The plan to deploy.",
)
@FORMAT
def up(once: bool, plan_path: Path, form: str) -> None:
    """Start AWS in two regions and PostgreSQL, and deploy the package with the plan into it.

    Says where everything is, stays in the foreground, and on Ctrl-C takes everything that it
    started with it. Any number of them run side by side.

    Exit status: 0 when it was ended; 1 when something did not start; 2 when the plan cannot be
    used.

    \b
    Example:
    leeward cloud up --plan policies/plans/nexus-studio.yaml
    """
    from leeward.plan_file import load_plan

    file = load_plan(plan_path)
    click.echo("starting AWS, PostgreSQL and the package", err=True)
    with until_interrupted(), running_stage(file, schedules=not once) as stage:
        click.echo(json.dumps(stage) if form == "json" else render_stage(stage))
        if not once:
            click.echo(f"ready: {how_to_reach(stage['folder'])}", err=True)
            signal.pause()


@command.command(short_help="Print the exports that reach it.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="The folder of one cloud.")
@FORMAT
def env(state_dir: Path | None, form: str) -> None:
    """Print the exports with which aws, psql and boto3 reach a local cloud: the one of this user
    that runs, or the one in --state-dir (the folder that `leeward cloud up` calls its state).

    Exit status: 0; 1 when none runs, or several and none is named.

    \b
    Example:
    eval "$(leeward cloud env)"; aws lambda list-functions
    """
    from leeward.local.running import find_running

    found = find_running(state_dir)
    values = found.environment | found.notes.get("environment", {})
    if form == "json":
        click.echo(json.dumps(values))
        return
    for name, value in values.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def how_to_reach(folder: str) -> str:
    """Of this very cloud, as others may run beside it."""
    env = f"leeward cloud env --state-dir {shlex.quote(folder)}"
    return f'eval "$({env})" in another shell, Ctrl-C here'


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP unwind the block from wherever it is, and are no error."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        yield


@contextmanager
def running_stage(file: PlanFile, *, schedules: bool) -> Iterator[dict[str, Any]]:
    """A cloud with production and the deployed package; yields what is up. No secret is in it but
    the link to the dashboard, which is good once and for ten minutes."""
    from leeward.local.cloud import LocalCloud
    from leeward.local.deploy import deploy
    from leeward.local.locations import create_application_buckets, start_locations
    from leeward.local.production import Production, store_secrets
    from leeward.local.status import open_page
    from leeward.local.visiting import dashboard_link
    from leeward.packaging.package import build_package

    plan = file.plan
    with LocalCloud(schedules=schedules) as cloud:
        package = build_package(plan, cloud.folder / "package", file.lines)
        with Production(cloud.folder / "production", cloud.reaper) as production:
            for component in plan.live.values():
                if component.kind == "postgres":
                    store_secrets(
                        cloud.client("secretsmanager"),
                        production,
                        operator=component.operator_secret,
                        application=component.application_secret,
                    )
            create_application_buckets(cloud, plan)
            others = start_locations(cloud, plan)
            deployed = deploy(cloud, package, names=True)
            cloud.warm()
            cloud.note(environment=production.environment())
            status_page = open_page(cloud)
            yield {
                "url": cloud.url,
                "dns": cloud.dns_address,
                "folder": str(cloud.folder),
                "regions": list(cloud.regions),
                "apis": dict(cloud.apis),
                "dashboard": dashboard_link(cloud, plan),
                "functions": [it.name for it in cloud.functions()],
                "schedules": cloud.schedules(),
                "outputs": deployed.outputs,
                "status_page": status_page,
                "database": production.address(),
                "locations": {name: it.login["endpoint_url"] for name, it in others.items()},
            }


def render_stage(stage: dict[str, Any]) -> str:
    """What is up, for a person."""
    facts = (
        stage["outputs"]
        | stage["locations"]
        | {f"API {name}": address for name, address in stage["apis"].items()}
        | {
            "AWS": f"{stage['url']}  ({', '.join(stage['regions'])})",
            "DNS": stage["dns"],
            "PostgreSQL": stage["database"],
            "state": stage["folder"],
        }
        | ({"status page": stage["status_page"]} if stage["status_page"] else {})
        | ({"dashboard": stage["dashboard"]} if stage["dashboard"] else {})
    )
    wide = 2 + max(map(len, facts))
    # What is gone to first stands last: there are more functions than a screen has lines.
    lines = ["functions", *(f"  {name}" for name in stage["functions"])]
    lines += ["schedules", *(f"  {name}  {when}" for name, when in stage["schedules"].items())]
    lines += (f"{name:<{wide}}{value}" for name, value in facts.items())
    return "\n".join(lines)
