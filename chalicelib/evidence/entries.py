"""The kinds of records and what their bodies hold; whoever records and whoever reads agree here.

    records.append(incident_id, *step_started(attempt=1), actor="leeward", run_id=..., step=...)

Times are text as `format_time` writes it, durations seconds, unknown figures null and never 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, NamedTuple

from chalicelib.errors import LeewardError
from chalicelib.evidence.chain import FOREIGN_OBJECT
from chalicelib.plan.records import Damage, Proof, format_time

# "partial": what could be brought back is, and something was lost for good.
Outcome = Literal["recovered", "partial", "failed", "stopped"]


class Entry(NamedTuple):
    """The kind and the body of a record to append."""

    kind: str
    body: dict[str, Any]


def incident_opened(
    *,
    alarm: str,
    alarm_at: datetime,
    component: str,
    scenario: str,
    severity: str,
    reason: str = "",
) -> Entry:
    """An alarm opened an incident. At `alarm_at`, the alarm's own time, the RTO clock starts."""
    return Entry(
        "incident-opened",
        {
            "alarm": alarm,
            "alarm_at": format_time(alarm_at),
            "component": component,
            "scenario": scenario,
            "severity": severity,
            "reason": reason,
        },
    )


def alarm_joined(*, alarm: str, alarm_at: datetime, reason: str = "") -> Entry:
    """Another alarm, or the same one again, found the incident open."""
    return Entry(
        "alarm-joined", {"alarm": alarm, "alarm_at": format_time(alarm_at), "reason": reason}
    )


def run_started(
    *,
    scenario: str,
    component: str,
    plan_sha256: str,
    execution: str,
    rto_objective_seconds: float | None,
    rpo_objective_seconds: float | None,
) -> Entry:
    """A run of a scenario began, under this plan, with these promises."""
    return Entry(
        "run-started",
        {
            "scenario": scenario,
            "component": component,
            "plan_sha256": plan_sha256,
            "execution": execution,
            "rto_objective_seconds": rto_objective_seconds,
            "rpo_objective_seconds": rpo_objective_seconds,
        },
    )


def step_started(*, attempt: int, does: str = "") -> Entry:
    """A worker began the step; `does` says in words what the step is for."""
    return Entry("step-started", {"attempt": attempt, "does": does})


def step_finished(*, found: str, outputs: dict[str, Any], seconds: float) -> Entry:
    """The step is done. `seconds`: the attempt that succeeded; `found`: one line for a person."""
    return Entry(
        "step-finished",
        {"outcome": "ok", "found": found, "outputs": outputs, "seconds": round(seconds, 3)},
    )


def step_failed(error: LeewardError, *, attempt: int) -> Entry:
    """An attempt at the step ended with this error."""
    body = {"code": error.instance_code, "message": error.message, "hint": error.hint}
    return Entry("step-failed", body | {"attempt": attempt})


def foreign_object(objects: Iterable[tuple[int, str, str]]) -> Entry:
    """What lies in places of records and is none: (place, SHA-256, "" of what is too large, why).
    Whoever may write to the evidence put it there, or a later version of Leeward."""
    named = [{"place": place, "sha256": sha256, "why": why} for place, sha256, why in objects]
    return Entry(FOREIGN_OBJECT, {"objects": named})


def decision(*, what: str, why: str, alternatives: Iterable[str] = ()) -> Entry:
    """What was chosen, why, and what else was possible."""
    return Entry("decision", {"what": what, "why": why, "alternatives": list(alternatives)})


def damage_found(damage: Damage) -> Entry:
    """What is wrong with the component and the moment to go back to."""
    return Entry("damage", damage.to_json())


def rejected_point(*, point: str, reason: str) -> Entry:
    """A recovery point was considered and must not be restored."""
    return Entry("rejected-point", {"point": point, "reason": reason})


def chosen_point(*, point: str, reason: str, taken_at: datetime, chain: Iterable[str]) -> Entry:
    """The recovery point to restore; `chain`: ids from its full backup to itself."""
    return Entry(
        "chosen-point",
        {"point": point, "reason": reason, "taken_at": format_time(taken_at), "chain": [*chain]},
    )


def proven(proof: Proof) -> Entry:
    """The recovered data was verified; whether it is clean, the checks say."""
    return Entry("proof", proof.to_json())


def data_loss(
    *,
    last_commit_before_at: datetime | None,
    last_commit_recovered_at: datetime | None,
    rows_lost: int | None,
    how: str,
    bounded: bool = False,
) -> Entry:
    """What of the application's data is gone, as measured in the recovered data itself.

    Args:
        last_commit_before_at: the last commit before the damage.
        last_commit_recovered_at: the last commit that the recovered data holds.
        rows_lost: committed rows that are in neither the recovered data nor the set-aside file.
        how: the method of the measurement, one line.
        bounded: nobody can count the rows, the source being lost; `last_commit_before_at` is then
            the latest that it can have been.
    """
    before, recovered = last_commit_before_at, last_commit_recovered_at
    return Entry(
        "data-loss",
        {
            "last_commit_before_at": format_time(before) if before else None,
            "last_commit_recovered_at": format_time(recovered) if recovered else None,
            "rows_lost": rows_lost,
            "how": how,
        }
        | ({"bounded": True} if bounded else {}),
    )


def fenced(*, token: int, ended: int, seconds: float) -> Entry:
    """The application cannot write any more; `ended` of its sessions were cut off."""
    return Entry("fenced", {"token": token, "ended": ended, "seconds": round(seconds, 3)})


def unfenced(*, token: int, seconds: float) -> Entry:
    """The application may write again."""
    return Entry("unfenced", {"token": token, "seconds": round(seconds, 3)})


def set_aside(*, transactions: int, rows: int, object_key: str, unreadable: int = 0) -> Entry:
    """What was committed after the damage lies in `object_key` for a person to merge.

    `unreadable`: transactions of which not all row contents could be read.
    """
    return Entry(
        "set-aside",
        {
            "transactions": transactions,
            "rows": rows,
            "object": object_key,
            "unreadable": unreadable,
        },
    )


def first_write(*, at: datetime) -> Entry:
    """The application's first successful write after the damage: the RTO clock stops there."""
    return Entry("first-write", {"at": format_time(at)})


def serving(*, at: datetime, how: str) -> Entry:
    """The service was seen to answer as it should: where that comes after the application's first
    write, or nothing is written, the RTO clock stops there."""
    return Entry("serving", {"at": format_time(at), "how": how})


def left_behind(*, step: str, what: str, how: str) -> Entry:
    """A drill could not take back what a step did; `how` a person removes it."""
    return Entry("left-behind", {"left": step, "what": what, "how": how})


def not_recovered(*, component: str, why: str, rule: str) -> Entry:
    """Something the scenario was to bring back is lost for good; `rule` of `leeward check` told
    so before."""
    return Entry("not-recovered", {"component": component, "why": why, "rule": rule})


def run_finished(*, outcome: Outcome, why: str = "") -> Entry:
    """The run ended."""
    return Entry("run-finished", {"outcome": outcome, "why": why})


def incident_closed(*, why: str) -> Entry:
    """The incident is over for the machine; what people owe afterwards stands in the report."""
    return Entry("incident-closed", {"why": why})
