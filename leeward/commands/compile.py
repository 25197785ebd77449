"""leeward compile PLAN --out DIR: plan.json, one state machine a scenario, template parts."""

from __future__ import annotations

import json
from pathlib import Path

import click

from chalicelib.plan.model import Plan
from chalicelib.scenarios.compile import compile_scenario
from leeward.plan_file import load_plan
from leeward.template import plan_resources
from leeward.wired import require_wired


@click.command(short_help="Write plan.json, state machines and template parts.")
@click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def command(plan_path: Path, out: Path, form: str) -> None:
    """Write what PLAN becomes: plan.json, SCENARIO.asl.json each, template.json (resources)."""
    file = load_plan(plan_path)
    require_wired(file)
    written = write_compiled(file.plan, out)
    if form == "json":
        body = {"plan_sha256": file.plan.plan_sha256, "files": [str(path) for path in written]}
        click.echo(json.dumps(body))
        return
    click.echo(f"plan {file.plan.name}, SHA-256 {file.plan.plan_sha256}")
    for path in written:
        click.echo(f"  {path}")


def write_compiled(plan: Plan, out: Path) -> list[Path]:
    """The files written, plan.json last: a folder with a plan.json is a complete one."""
    out.mkdir(parents=True, exist_ok=True)
    contents = {
        f"{name}.asl.json": compile_scenario(name, scenario)
        for name, scenario in plan.scenarios.items()
    }
    contents["template.json"] = {"Resources": plan_resources(plan)}
    contents["plan.json"] = plan.to_json()
    for name, content in contents.items():
        (out / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return [out / name for name in contents]
