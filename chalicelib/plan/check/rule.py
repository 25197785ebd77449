"""A rule: a stable id, how bad a hit is, how to mend it, and the pure function that finds hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from chalicelib.plan.check.finding import Finding, Path, Severity
from chalicelib.plan.model import Plan

Hits = Iterator[tuple[Path, str]]


@dataclass(frozen=True)
class Rule:
    """find(plan, now) yields (path, message) for each hit; `now` is aware UTC."""

    id: str
    severity: Severity
    title: str
    hint: str
    find: Callable[[Plan, datetime], Hits]

    def check(self, plan: Plan, now: datetime) -> Iterator[Finding]:
        for path, message in self.find(plan, now):
            yield Finding(self.id, self.severity, path, message, self.hint)
