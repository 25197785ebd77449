"""leeward compile PLAN --out DIR: plan.json, one state machine a scenario, template parts."""

from __future__ import annotations

import json
from pathlib import Path

import click

from chalicelib.plan.model import Plan
from chalicelib.scenarios.compile import compile_scenario
from leeward.options import FORMAT, PLAN_PATH, writing_to
from leeward.packaging.template import plan_resources
from leeward.plan_file import load_plan
from leeward.wired import require_wired


@click.command(short_help="Write plan.json, state machines and template parts.")
@click.argument("plan_path", metavar="PLAN", type=PLAN_PATH)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder to write to.",
)
@FORMAT
def command(plan_path: Path, out: Path, form: str) -> None:
    """Write what PLAN becomes.

    \b
    SCENARIO.asl.json   one Step Functions state machine each
    template.json       schedules, alarms, machines: CloudFormation
    plan.json           what the functions read; written last

    Exit status: 0; 2 when PLAN is no plan, its scenarios do not fit together, or DIR cannot be
    written to.

    \b
    Example:
    leeward compile policies/plans/nexus-studio.yaml --out build/compiled
    """
    file = load_plan(plan_path)
    require_wired(file)
    with writing_to(out):
        written = write_compiled(file.plan, out)
    if form == "json":
        body = {"plan_sha256": file.plan.plan_sha256, "files": [str(path) for path in written]}
        click.echo(json.dumps(body))
        return
    click.echo(f"plan {file.plan.name}, SHA-256 {file.plan.plan_sha256}")
    for path in written:
        click.echo(f"  {path}")


def write_compiled(plan: Plan, out: Path) -> list[Path]:
    """The files written into the folder, plan.json last: where one is, the rest is complete."""
    contents = {
        f"{name}.asl.json": compile_scenario(name, scenario)
        for name, scenario in plan.scenarios.items()
    }
    contents["template.json"] = {"Resources": plan_resources(plan)}
    contents["plan.json"] = plan.to_json()
    for name, content in contents.items():
        (out / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return [out / name for name in contents]
