"""Run named checks: each gives what it found, or fails.

A check that fails because of what it found is a sign of damage. A check that could not run has
failed too, but says nothing about the data: it must wake somebody, and start no recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from chalicelib.errors import CheckFailed, Damaged, LeewardError
from chalicelib.plan.records import CheckResult
from chalicelib.ports import Clock

# A name, and what returns its finding in words or raises one of our errors.
Check = tuple[str, Callable[[], str]]


@dataclass(frozen=True)
class Outcome:
    """`signs`: names of failed checks that point to damaged data. `unable`: names of those that
    could not run. `results` holds every check."""

    results: tuple[CheckResult, ...]
    signs: tuple[str, ...]
    unable: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return bool(self.results) and all(result.ok for result in self.results)


def run_checks(planned: Iterable[Check], clock: Clock) -> Outcome:
    results: list[CheckResult] = []
    signs: list[str] = []
    unable: list[str] = []
    for name, check in planned:
        started = clock.now()
        try:
            found, ok = check(), True
        except (CheckFailed, Damaged) as error:
            found, ok = error.message, False
            signs.append(name)
        except LeewardError as error:
            found, ok = error.message, False
            unable.append(name)
        results.append(CheckResult(name, ok, found, (clock.now() - started).total_seconds()))
    return Outcome(tuple(results), tuple(signs), tuple(unable))
