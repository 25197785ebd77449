"""Rules on what is looked for in a database: checks that can pass and fail, damage that is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from chalicelib.plan.check.finding import Path
from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.components import Assertion, DatabaseChecks, Postgres
from chalicelib.plan.model import Plan

_COUNTS = re.compile(r"\s*select\s+count\s*\(", re.IGNORECASE)
# From an empty table to more rows than any table has.
_ANY_COUNT = (0, 1, 2, 10, 1_000, 1_000_000, 1e12)
# Which table it is does not matter.
_ANY_TABLE = "public.any of them"
_BAND = re.compile(r"\s*(\S+?)\s*\.\.\s*(\S+)\s*")


def find_idle_checks(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.components.items():
        if isinstance(component, Postgres):
            for path, message in _idle(component.checks):
                yield ("components", name, "checks", *path), message


def _idle(checks: DatabaseChecks) -> Iterator[tuple[Path, str]]:
    for number, assertion in enumerate(checks.assertions):
        if why := _why_idle(assertion):
            yield ("assertions", number, "expect"), f"{assertion.name} {why}: {assertion.expect}"
    for number, rule in enumerate(checks.freshness):
        if rule.max_age == timedelta(0):
            yield ("freshness", number, "max_age"), f"no row of {rule.table} is ever 0s old"
    looks = checks.amcheck or checks.page_checksums or checks.schema_digest
    if not (checks.assertions or checks.freshness or looks):
        yield (), "every check is switched off: whatever is restored counts as sound"


def _why_idle(assertion: Assertion) -> str:
    band = _BAND.fullmatch(assertion.expect)
    if band and float(band[1]) > float(band[2]):
        return "can never hold"
    if _COUNTS.match(assertion.sql) and all(assertion.holds(count) for count in _ANY_COUNT):
        return "holds for every count, that of an empty table too"
    return ""


def find_damage_nobody_is_told_of(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.components.items():
        if not isinstance(component, Postgres):
            continue
        checked = [rule.table for rule in component.checks.freshness]
        for number, change in enumerate(component.damage.expected):
            path = ("components", name, "damage", "expected", number)
            kinds = ", ".join(change.kinds)
            if change.covers(change.kinds[0], _ANY_TABLE):
                yield path, f"{kinds} of every table starts no recovery"
                continue
            for table in checked:
                if change.covers(change.kinds[0], _with_schema(table)):
                    yield path, f"{kinds} of {table} starts no recovery; its rows must be fresh"


def _with_schema(table: str) -> str:
    return table if "." in table else f"public.{table}"


RULES = (
    Rule(
        "LW111",
        "error",
        "A check that cannot fail, or cannot pass",
        "expect what only sound data has, such as `> 0`",
        find_idle_checks,
    ),
    Rule(
        "LW113",
        "error",
        "Damage that nobody is told of",
        "name the tables that the application's own jobs empty or drop, and no others",
        find_damage_nobody_is_told_of,
    ),
)
