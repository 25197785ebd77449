"""CloudFormation for what is done less often than an alarm looks back: who looks at it instead."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from chalicelib.plan.model import Plan
from leeward.packaging.limits import LONGEST_INPUT
from leeward.packaging.parts import PROMISE, SELDOM_LOOKED_AT, Resources, schedule

SUBJECT = "seldom"


def seldom_resources(plan: Plan, resources: Resources) -> Resources:
    """The schedules that tell the alarms among `resources` which of their promises are kept.

    As many as their input needs: each names as many promises as fit.
    """
    minutes = SELDOM_LOOKED_AT.seconds // 60
    made: Resources = {}
    for number, promises in enumerate(_in_parts(_promises(resources)), start=1):
        part = f"look-{number}"
        body = _body(part, promises)
        made |= schedule(plan, SUBJECT, part, "tell", f"rate({minutes} minutes)", body)
    return made


def _promises(resources: Resources) -> list[tuple[str, str, int]]:
    """(component, metric, seconds) of each alarm that cannot look back so far."""
    told = (it.get("Metadata", {}).get(PROMISE) for it in resources.values())
    return sorted(
        {(component, metric, seconds) for component, metric, seconds in filter(None, told)}
    )


def _in_parts(promises: Iterable[tuple[str, str, int]]) -> Iterator[list[tuple[str, str, int]]]:
    part: list[tuple[str, str, int]] = []
    for promise in promises:
        if part and len(json.dumps(_body("look-999", [*part, promise]))) > LONGEST_INPUT:
            yield part
            part = []
        part.append(promise)
    if part:
        yield part


def _body(part: str, promises: list[tuple[str, str, int]]) -> dict[str, Any]:
    """As chalicelib/services/jobs/seldom.py takes it."""
    told: dict[str, dict[str, list[int]]] = {}
    for component, metric, seconds in promises:
        told.setdefault(component, {}).setdefault(metric, []).append(seconds)
    return {"verb": "seldom", "part": part, "promises": told}
