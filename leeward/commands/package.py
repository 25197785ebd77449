"""leeward package --plan PLAN --out DIR: what goes to AWS."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(short_help="Make the zip and the CloudFormation template.")
@click.option("--plan", "plan_path", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def command(plan_path: Path, out: Path, form: str) -> None:
    """Package the application with PLAN; needs no credentials.

    Deploy with `aws cloudformation package` and `aws cloudformation deploy --capabilities
    CAPABILITY_NAMED_IAM`.
    """
    from leeward.package import build_package
    from leeward.plan_file import load_plan

    package = build_package(load_plan(plan_path).plan, out)
    if form == "json":
        click.echo(json.dumps({"zip": str(package.zip), "template": str(package.template)}))
        return
    click.echo(f"{package.zip}  {package.zip.stat().st_size / 1e6:.1f} MB")
    click.echo(f"{package.template}")
