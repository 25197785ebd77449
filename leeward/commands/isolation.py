"""leeward isolation list | lift: what keeps an attack from the plan's components."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalicelib.errors import BadInput, NotReady, Refused
from chalicelib.evidence.text import printable
from leeward.deployed import DEPLOYED, reach
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan

if TYPE_CHECKING:
    from chalicelib.recover.attack.isolate import Cut

FUNCTION = "leeward-primary-isolate"
KINDS = ("bucket-policy", "bucket-history", "access-keys", "sessions", "network", "snapshots")
PLAN = click.option(
    "--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML."
)  # fmt: skip


@click.group(short_help="What keeps an attack out: shown, lifted.")
def command() -> None:
    """What runs raised to keep an attack from components of the plan: docs/isolation.md."""


@command.command("list", short_help="Print what stands, and how each is undone.")
@click.argument("components", nargs=-1)
@PLAN
@FORMAT
def list_(components: tuple[str, ...], plan_path: Path, form: str) -> None:
    """Print what was raised for COMPONENTS (all of the plan when none is named), what stood there
    before, and how a person takes it back without Leeward.

    Exit status: 0 nothing stands; 1 something does, or no answer; 2 the input cannot be used.

    \b
    Example:
    leeward isolation list --plan policies/plans/nexus-studio.yaml
    """
    from chalicelib.recover.attack.isolate import read_cuts
    from chalicelib.services import build

    plan = load_plan(plan_path).plan
    unknown = [name for name in components if name not in plan.components]
    if unknown:
        raise _unknown(unknown[0], tuple(plan.components))
    with reach(plan, DEPLOYED):
        named = components or tuple(plan.components)
        cuts = [cut for name in named for cut in read_cuts(build.state(), name)]
    if form == "json":
        click.echo(json.dumps({"isolation": [cut.to_json() for cut in cuts]}))
    else:
        _print(cuts)
    if any(cut.standing != "lowered" for cut in cuts):
        sys.exit(1)


@command.command(short_help="Take it down again, as it was before.")
@click.argument("component")
@PLAN
@click.option("--reason", required=True, help="Why; it stands in the evidence.")
@click.option(
    "--only", multiple=True, type=click.Choice(KINDS), help="Of this kind; may be given again."
)
@click.option("--target", default="", help="Of this bucket, user, role or instance alone.")
@click.option(
    "--as-found",
    is_flag=True,
    help="Also put back what was harmful when it was found: an expiry within days, suspended"
    " versions.",
)
@click.option(
    "--despite-left",
    is_flag=True,
    help="What was left to a person is done: identities that Leeward has no rights over.",
)
@FORMAT
def lift(
    component: str,
    plan_path: Path,
    reason: str,
    only: tuple[str, ...],
    target: str,
    as_found: bool,
    despite_left: bool,
    form: str,
) -> None:
    """Take down what was raised for COMPONENT, all of it or a part: each thing is again what it
    was, byte for byte, unless somebody else changed it since; then only Leeward's part goes.

    Exit status: 0 done; 1 refused, not all of it could be done, or no answer; 2 the input cannot
    be used.

    \b
    Example:
    leeward isolation lift nexus-uploads --plan plan.yaml \\
        --only access-keys --reason "new keys"
    """
    plan = load_plan(plan_path).plan
    if component not in plan.components:
        raise _unknown(component, tuple(plan.components))
    if not reason.strip():
        hint = "say in one line why"
        raise BadInput("expected a reason, found none", hint=hint, code="no-reason")
    asked = {
        "component": component, "by": getpass.getuser(), "reason": reason, "only": ",".join(only),
        "target": target, "as_found": as_found, "despite_left": despite_left,
    }  # fmt: skip
    answer = _invoke({"lift": asked})
    click.echo(json.dumps(answer) if form == "json" else answer["found"])


def _invoke(event: dict[str, Any]) -> dict[str, Any]:
    import boto3

    from chalicelib.adapters.aws_errors import mapped

    with mapped("lambda", function=FUNCTION):
        answer = boto3.client("lambda").invoke(
            FunctionName=FUNCTION, Payload=json.dumps(event).encode()
        )
    body: dict[str, Any] = json.loads(answer["Payload"].read())
    if "FunctionError" not in answer:
        return body
    kind, said = body.get("errorType"), str(body.get("errorMessage"))
    if kind == Refused.__name__:
        hint = "do what is left by hand, then say so with --despite-left"
        raise Refused(said, hint=hint, code="attack-not-cut-off")
    hint = "look at the log of the function; what was lifted already stays so"
    raise NotReady(f"{FUNCTION} failed: {kind}: {said}", hint=hint, code="not-lifted")


def _unknown(name: str, known: tuple[str, ...]) -> BadInput:
    return BadInput(
        f"the plan has no component {name!r}",
        hint=f"one of: {', '.join(known)}",
        code="unknown-component",
    )


def _print(cuts: list[Cut]) -> None:
    """A barrier a line, and below it what a person does without Leeward: commands must not wrap."""
    if not cuts:
        click.echo("nothing was ever isolated")
    for cut in cuts:
        colour = "green" if cut.standing == "lowered" else "red"
        what = f"{cut.component}: {cut.kind} of {cut.target}"
        since = f"{cut.at:%Y-%m-%d %H:%M:%S} UTC"
        click.echo(f"{printable(what)}, {click.style(cut.standing, fg=colour)} since {since}")
        if cut.standing != "lowered":
            click.echo(f"  undo: {printable(cut.undo)}")
