"""leeward package --plan PLAN --out DIR: what goes to AWS."""

from __future__ import annotations

import json
from pathlib import Path

import click

from leeward.options import FORMAT, PLAN_PATH, writing_to


@click.command(short_help="Make the zip and the CloudFormation template.")
@click.option("--plan", "plan_path", type=PLAN_PATH, required=True, help="The plan's YAML.")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder to write to.",
)
@FORMAT
def command(plan_path: Path, out: Path, form: str) -> None:
    """Package the application with the plan; needs no credentials.

    \b
    deployment.zip   the application, its libraries and the plan
    template.json    the CloudFormation (SAM) template around it
    expanded.json    the same after the SAM transform
    standby.json     the template of the standby region, if it is in AWS

    The first time it fetches the pinned libraries for Lambda's Linux from the package index.
    Deploy with `aws cloudformation package` and `aws cloudformation deploy --capabilities
    CAPABILITY_NAMED_IAM`; then standby.json in its own region, with the first stack's outputs
    of the same names as parameters.

    Exit status: 0; 1 when it could not be made; 2 when the plan or DIR cannot be used.

    \b
    Example:
    leeward package --plan policies/plans/nexus-studio.yaml --out build/package
    """
    from leeward.packaging.package import build_package
    from leeward.plan_file import load_plan

    file = load_plan(plan_path)
    with writing_to(out):
        package = build_package(file.plan, out, file.lines)
    if form == "json":
        click.echo(json.dumps({"zip": str(package.zip), "template": str(package.template)}))
        return
    click.echo(f"{package.zip}  {package.zip.stat().st_size / 1e6:.1f} MB")
    click.echo(f"{package.template}")
    if package.standby:
        click.echo(f"{package.standby}")
