"""The drill's own people: they hold every role of the plan, and answer as people do, by code."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyotp

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.kms_vault import KmsVault
from chalicelib.incidents.factors import FactorDesk, keep_enrolment, new_enrolment
from chalicelib.plan.model import Plan
from chalicelib.ports import StateStore


def crew_of(plan: Plan) -> tuple[str, ...]:
    """As many as any step of the plan wants: "drill-1", "drill-2", ..."""
    steps = (step for it in plan.scenarios.values() for step in it.all_steps())
    most = max((step.approve.count for step in steps if step.approve), default=1)
    return tuple(f"drill-{number}" for number in range(1, most + 1))


def with_crew(plan: Plan) -> Plan:
    """The plan with the crew in each role, beside whoever holds it; nothing else is changed, and
    nobody of the plan is told or called in their place."""
    data = plan.to_json()
    crew = crew_of(plan)
    people = {name: {"title": f"The drill's own person {name}"} for name in crew}
    data["contacts"] = data.get("contacts", {}) | people
    for role in data.get("roles", {}).values():
        role["held_by"] = [*role.get("held_by", []), *crew]
    return Plan.from_json(data)


def fresh_code(person: str, *, state: StateStore, kms: Any, key: str) -> str:
    """The code of a device that is enrolled for this one answer: a person's own would show its
    next one in half a minute, and a drill is not to wait for that."""
    made = new_enrolment(person, issuer="Leeward drill")
    desk = FactorDesk(state, KmsVault(kms, key), SystemClock())
    keep_enrolment(made, desk=desk, replace=True)
    return pyotp.TOTP(made.secret).at(datetime.now(UTC))
