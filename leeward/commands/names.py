"""leeward names PLAN [COMPONENT]: where names lead now, as their own name servers say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from chalicelib.errors import BadInput, CheckFailed
from chalicelib.plan.components import NameRecord, Names
from chalicelib.plan.model import Plan
from chalicelib.ports.traffic import Answer, Resolver
from leeward.console import Console
from leeward.options import FORMAT, PLAN_PATH

ELSEWHERE = "elsewhere"


@click.command(short_help="Ask name servers where a plan's names lead.")
@click.argument("plan_path", metavar="PLAN", type=PLAN_PATH)
@click.argument("component", required=False)
@click.option("--site", help="Fail unless every name leads to this site.")
@FORMAT
def command(plan_path: Path, component: str | None, site: str | None, form: str) -> None:
    """Ask the name servers of the plan's names (or of COMPONENT's) where they lead.

    Needs no login: each zone's own servers are asked, and no cache. LEEWARD_DNS names another
    server to ask, as `leeward cloud env` does for a local cloud.

    Exit status: 0; 1 when a name does not lead to --site; 2 when PLAN is no plan or has no such
    names.

    \b
    Example:
    leeward names policies/plans/nexus-studio.yaml nexus-names --site dr
    """
    from chalicelib.adapters.traffic.dns_client import NameServers
    from leeward.plan_file import load_plan

    plan = load_plan(plan_path).plan
    chosen = _choose(plan, component)
    if site is not None and site not in plan.sites:
        raise BadInput(
            f"the plan has no site {site!r}",
            hint=f"one of: {', '.join(plan.sites)}",
            code="no-such-site",
        )
    resolver = NameServers(os.environ.get("LEEWARD_DNS", ""))
    rows = [
        _ask(resolver, name, it, record) for name, it in chosen.items() for record in it.records
    ]
    if form == "json":
        click.echo(json.dumps({"names": rows}))
    else:
        _print(rows)
    wrong = [row["name"] for row in rows if site is not None and row["leads_to"] != site]
    if wrong:
        raise CheckFailed(
            f"expected all names at {site}, found elsewhere: {', '.join(wrong)}",
            hint="docs/traffic.md, section When names do not move",
            code="names-elsewhere",
        )


def _choose(plan: Plan, component: str | None) -> dict[str, Names]:
    names = {name: it for name, it in plan.components.items() if isinstance(it, Names)}
    if component is not None and component not in names:
        raise BadInput(
            f"the plan has no names {component!r}",
            hint=f"one of: {', '.join(names)}",
            code="unknown-component",
        )
    return {component: names[component]} if component else names


def _ask(resolver: Resolver, component: str, found: Names, record: NameRecord) -> dict[str, Any]:
    answers = resolver.ask(found.zone, record.name, record.type)
    return {
        "component": component,
        "name": record.name,
        "type": record.type,
        "leads_to": _site_of(record, answers),
        "servers": [
            {"server": it.server, "values": it.values, "ttl": it.ttl, "problem": it.problem}
            for it in answers
        ],
    }


def _site_of(record: NameRecord, answers: list[Answer]) -> str:
    """The one site that all servers which answer agree on, else "elsewhere"."""
    from chalicelib.recover.sites.traffic import problem_of

    fits = [site for site in record.answers if not problem_of(record, answers, site)]
    return fits[0] if len(fits) == 1 else ELSEWHERE


def _print(rows: list[dict[str, Any]]) -> None:
    console = Console(highlight=False)
    for row in rows:
        colour = "yellow" if row["leads_to"] == ELSEWHERE else "green"
        where = f"[{colour}]{escape(row['leads_to'])}[/{colour}]"
        console.print(f"{escape(row['name'])} {row['type']} leads to {where}")
        for it in row["servers"]:
            said = it["problem"] or f"{', '.join(it['values']) or 'nothing'}, TTL {it['ttl']} s"
            console.print(f"  {it['server']:<22}{escape(said)}")
