"""leeward people: who can answer, and with what."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from chalicelib.incidents.factors import Enrolment, enrolled_at, new_enrolment, revoke
from chalicelib.plan.records import format_time
from leeward.enrolling import STACKS, enrol_everywhere, offices, require_contact
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan

PLAN = click.option(
    "--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML: who there is."
)
STACK = click.option(
    "--stack",
    type=click.Choice(STACKS),
    multiple=True,
    help="Only in this region's stack, when the other one cannot be reached.",
)


@click.group("people", short_help="Second factors of the plan's people.")
def command() -> None:
    """Second factors: enrolled, listed, revoked, with your own rights in AWS."""


@command.command("enrol")
@click.argument("person")
@PLAN
@STACK
@click.option("--replace", is_flag=True, help="The device and codes before are no longer good.")
@FORMAT
def enrol(person: str, plan_path: Path, stack: tuple[str, ...], replace: bool, form: str) -> None:
    """Give PERSON, a contact of the plan, a second factor, in the stacks of both regions.

    Shows once, to be read by an authenticator: a QR code and its address; and recovery codes, to
    be kept on paper. Do it with the person beside you, and not over chat or mail.

    Exit status: 0 enrolled; 1 refused; 2 the input cannot be used.

    \b
    Example:
    leeward people enrol cto --plan policies/plans/nexus-studio.yaml
    """
    plan = load_plan(plan_path).plan
    require_contact(plan, person)
    made = new_enrolment(person, issuer=f"Leeward {plan.organisation}")
    enrol_everywhere(made, offices(plan, stack), replace=replace)
    if form == "json":
        codes = list(made.recovery_codes)
        click.echo(json.dumps({"person": person, "address": made.address, "recovery": codes}))
        return
    _show(made)


def _show(made: Enrolment) -> None:
    import segno

    segno.make(made.address, error="m").terminal(out=sys.stdout, compact=True)
    click.echo(f"{made.address}\n\nRecovery codes, each good once; they are shown only now:")
    for code in made.recovery_codes:
        click.echo(f"  {code}")


@command.command("list")
@PLAN
@STACK
@FORMAT
def list_(plan_path: Path, stack: tuple[str, ...], form: str) -> None:
    """List the plan's contacts, what they may answer, and in which stacks they can.

    Exit status: 0 all who hold a role are enrolled everywhere; 1 somebody is not.
    """
    plan = load_plan(plan_path).plan
    found = offices(plan, stack)
    rows = []
    for person in plan.contacts:
        roles = [name for name, role in plan.roles.items() if person in role.held_by]
        at = {it.stack: enrolled_at(person, state=it.desk.state) for it in found}
        enrolled = {name: format_time(it) if it else None for name, it in at.items()}
        rows.append({"person": person, "roles": roles, "enrolled": enrolled})
    if form == "json":
        click.echo(json.dumps({"people": rows}))
    else:
        for row in rows:
            stacks = [name for name, it in row["enrolled"].items() if it]  # type: ignore[attr-defined]
            held = ", ".join(row["roles"]) or "no role"
            click.echo(f"{row['person']}: {held}; {', '.join(stacks) or 'NOT enrolled'}")
    if any(row["roles"] and None in row["enrolled"].values() for row in rows):  # type: ignore[attr-defined]
        raise SystemExit(1)


@command.command("revoke")
@click.argument("person")
@PLAN
@STACK
@FORMAT
def revoke_(person: str, plan_path: Path, stack: tuple[str, ...], form: str) -> None:
    """Let no code of PERSON be good any more: a device is lost, or they have left.

    Exit status: 0 revoked, or never enrolled.
    """
    plan = load_plan(plan_path).plan
    gone = []
    for office in offices(plan, stack):
        if revoke(person, state=office.desk.state):
            office.record("revoked", person)
            gone.append(office.stack)
    if form == "json":
        click.echo(json.dumps({"person": person, "revoked": gone}))
        return
    click.echo(f"{person}: {'revoked in ' + ', '.join(gone) if gone else 'was not enrolled'}")
