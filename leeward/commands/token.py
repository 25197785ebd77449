"""leeward token: what programs show the API."""

from __future__ import annotations

import getpass
import json
from datetime import timedelta

import click

from chalicelib.incidents.tokens import SCOPES, Scope, issue_token, list_tokens, revoke_token
from chalicelib.plan.records import format_time
from leeward.answering import STANDBY
from leeward.options import FORMAT
from leeward.tokening import require_subject, token_office


@click.group("token", short_help="Tokens of the API: issued, listed, revoked.")
def command() -> None:
    """Tokens of the API (docs/api.md), with your own rights in AWS."""


@command.command("issue")
@click.option("--for", "subject", required=True, help="A contact of the plan, or system:NAME.")
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    default="read",
    show_default=True,
    help="act: it may also ask for what changes something.",
)
@click.option(
    "--hours",
    type=float,
    default=1.0,
    show_default=True,
    help="How long it is good: at most 12 for a person, 2160 (90 days) for a program.",
)
@STANDBY
@FORMAT
def issue(subject: str, scope: Scope, hours: float, standby: str | None, form: str) -> None:
    """Print a token, once; it is kept nowhere.

    It is good in one region's stack alone.

    Exit status: 0 issued; 1 refused; 2 the input cannot be used.

    \b
    Example:
    leeward token issue --for system:grafana --scope read --hours 2160
    """
    require_subject(subject, standby)
    office = token_office(standby)
    by = getpass.getuser()
    good_for = timedelta(hours=max(min(hours, 1e6), -1.0))
    token, claims = issue_token(subject, scope, good_for, by=by, desk=office.desk)
    office.record("token-issued", subject, claims.id, claims.expires_at)
    until = format_time(claims.expires_at)
    if form == "json":
        click.echo(json.dumps({"token": token, "id": claims.id, "for": subject,
                               "scope": scope, "good_until": until}))  # fmt: skip
        return
    click.echo(token)
    click.echo(f"id {claims.id}, for {subject}, scope {scope}, until {until}", err=True)


@command.command("list")
@STANDBY
@FORMAT
def list_(standby: str | None, form: str) -> None:
    """List the tokens that are not over, revoked ones too; never a token itself."""
    office = token_office(standby)
    found = list_tokens(office.desk.state, now=office.desk.clock.now())
    if form == "json":
        click.echo(json.dumps({"tokens": found}))
        return
    for one in found:
        state = (
            f"revoked {one['revoked_at']}" if one["revoked_at"] else f"until {one['good_until']}"
        )
        click.echo(f"{one['id']}  {one['for']}  {one['scope']}  {state}  by {one['by']}")
    if not found:
        click.echo("no token is good")


@command.command("revoke")
@click.argument("token_id", metavar="ID")
@STANDBY
@FORMAT
def revoke(token_id: str, standby: str | None, form: str) -> None:
    """Let the token with this ID be good no more, at once.

    Exit status: 0 revoked, or it was before; 2 there is none.
    """
    office = token_office(standby)
    subject = revoke_token(token_id, by=getpass.getuser(), desk=office.desk)
    office.record("token-revoked", subject, token_id)
    if form == "json":
        click.echo(json.dumps({"id": token_id, "for": subject, "revoked": True}))
        return
    click.echo(f"{token_id}: revoked; it was {subject}'s")
