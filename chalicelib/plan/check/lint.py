"""Check a plan: every rule over it, then what the plan itself accepts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from chalicelib.plan.check import (
    backups,
    copies,
    locks,
    names,
    objectives,
    people,
    places,
    probes,
    procedures,
    replicas,
    triggers,
    upkeep,
)
from chalicelib.plan.check.finding import Finding, show_path
from chalicelib.plan.check.rule import Rule
from chalicelib.plan.model import Plan
from chalicelib.plan.upkeep import Acceptance

_OF_ALL_PARTS = (
    *objectives.RULES,
    *backups.RULES,
    *places.RULES,
    *procedures.RULES,
    *people.RULES,
    *upkeep.RULES,
    *locks.RULES,
    *copies.RULES,
    *replicas.RULES,
    *triggers.RULES,
    *names.RULES,
    *probes.RULES,
)
RULES: tuple[Rule, ...] = tuple(sorted(_OF_ALL_PARTS, key=lambda rule: rule.id))
EXPIRED, UNUSED = "LW098", "LW099"

_TITLES = {rule.id: rule.title for rule in RULES} | {
    EXPIRED: "An acceptance has run out",
    UNUSED: "An acceptance of nothing",
    "LW101": "Two steps of one name",
    "LW102": "An unknown kind of step",
    "LW103": "An input that is missing or unknown",
    "LW104": "A step for a role that does not exist",
    "LW105": "An input that nothing provides",
    "LW106": "An approval that nobody can give",
    "LW107": "A step needs the region that is lost",
    "LW108": "A recovery from a lost site that needs a control plane",
    "LW109": "A step that acts on what is lost",
}


def title_of(rule: str) -> str:
    """What the rule with this id is about, in a few words."""
    return _TITLES[rule]


def check_plan(plan: Plan, *, now: datetime, also: Iterable[Finding] = ()) -> list[Finding]:
    """Every finding of every rule, in the order of the rules.

    Pure: reads no clock and no file.

    Args:
        now: aware UTC; reviews, lessons and acceptances are judged by it.
        also: findings of others (scenarios/wiring.py), which the plan may accept as well.
    """
    found = [finding for rule in RULES for finding in rule.check(plan, now)]
    return _accept([*found, *also], plan.accept, now)


def _accept(
    findings: list[Finding], acceptances: tuple[Acceptance, ...], now: datetime
) -> list[Finding]:
    valid = [one for one in acceptances if one.until >= now.date()]
    judged = [
        finding.as_accepted() if any(_covers(one, finding) for one in valid) else finding
        for finding in findings
    ]
    return [*judged, *_about_acceptances(findings, acceptances, now)]


def _covers(acceptance: Acceptance, finding: Finding) -> bool:
    where = show_path(finding.path)
    inside = where == acceptance.path or where.startswith(acceptance.path + ".")
    return finding.rule == acceptance.rule and inside


def _about_acceptances(
    findings: list[Finding], acceptances: tuple[Acceptance, ...], now: datetime
) -> Iterator[Finding]:
    for number, one in enumerate(acceptances):
        path = ("accept", number)
        if not any(_covers(one, finding) for finding in findings):
            message = f"{one.rule} at {one.path} is accepted, and is not found"
            yield Finding(UNUSED, "warning", path, message, "remove it, or correct rule and path")
        elif one.until < now.date():
            message = f"{one.rule} at {one.path} was accepted until {one.until}: {one.reason}"
            yield Finding(EXPIRED, "error", path, message, "mend it, or accept it anew")
