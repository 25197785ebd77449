"""The figures of a run, from its records alone. What was not measured is None and never green."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from chalicelib.evidence.body import (
    count_of,
    last_body,
    moment_of,
    number_of,
    objects_of,
    text_of,
    texts_of,
)
from chalicelib.evidence.text import in_units
from chalicelib.plan.records import EvidenceRecord, Record

StepOutcome = Literal["ok", "failed", "unfinished"]

_OUTCOMES: dict[str, StepOutcome] = {"step-finished": "ok", "step-failed": "failed"}


@dataclass(frozen=True)
class StepScore(Record):
    """One step of the run.

    `seconds`: from the start of its first attempt to its end, as the RTO pays for it; None while
    it has not ended. `found`: what it said, or its error.
    """

    name: str
    outcome: StepOutcome
    found: str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None
    attempts: int = 1
    does: str = ""


@dataclass(frozen=True)
class Scorecard(Record):
    """A run in figures. Seconds everywhere; None: not known, which counts as not met.

    Of several components the worst counts. `loss_is_bounded`: the source is lost, nobody can count
    rows; the times then say the most that can be lost. `first_write_at`: or, where that was later,
    when the service was seen to answer. `not_recovered`: what is lost for good, "name: why".
    `left_behind`: what a drill did and could not take back, "step: what; how to remove it".
    """

    incident: str
    run_id: str
    scenario: str
    component: str
    outcome: str
    plan_sha256: str = ""
    alarm_at: datetime | None = None
    damaged_at: datetime | None = None
    first_write_at: datetime | None = None
    rto_objective_seconds: float | None = None
    rpo_objective_seconds: float | None = None
    last_commit_before_at: datetime | None = None
    last_commit_recovered_at: datetime | None = None
    rows_lost: int | None = None
    loss_is_bounded: bool = False
    transactions_set_aside: int | None = None
    proven: bool = False
    not_recovered: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()
    steps: tuple[StepScore, ...] = field(default=())

    @property
    def serves(self) -> bool:
        """The run came to its end: what could be brought back is."""
        return self.outcome in ("recovered", "partial")

    @property
    def rto_seconds(self) -> float | None:
        """From the alarm to the application's first successful write; a write before is none."""
        seconds = _between(self.alarm_at, self.first_write_at)
        return None if seconds is None or seconds < 0 else seconds

    @property
    def rpo_seconds(self) -> float | None:
        """From the last commit recovered to the last one before the damage; 0 when both are one."""
        lost = _between(self.last_commit_recovered_at, self.last_commit_before_at)
        return None if lost is None else max(0.0, lost)

    @property
    def detection_seconds(self) -> float | None:
        """From the damage to the alarm."""
        return _between(self.damaged_at, self.alarm_at)

    @property
    def rto_met(self) -> bool | None:
        return _met(self.rto_seconds, self.rto_objective_seconds)

    @property
    def rpo_met(self) -> bool | None:
        return _met(self.rpo_seconds, self.rpo_objective_seconds)

    @property
    def ok(self) -> bool:
        """Recovered, proven, both objectives met, every figure known."""
        return not self.shortfalls

    @property
    def shortfalls(self) -> list[str]:
        """What keeps the run from being green, one line each."""
        steps = [
            f"step {step.name} {say_outcome(step.outcome)}"
            for step in self.steps
            if step.outcome != "ok"
        ]
        return [
            *([] if self._is_named() else [f"the run {say_outcome(self.outcome)}"]),
            *(f"not recovered: {lost}" for lost in self.not_recovered),
            *(f"left behind: {left}" for left in self.left_behind),
            *([] if self.proven else ["the recovered data is not proven"]),
            *_missed("RTO", self.rto_seconds, self.rto_objective_seconds),
            *_missed("RPO", self.rpo_seconds, self.rpo_objective_seconds),
            *(
                []
                if self.rows_lost is not None or self.loss_is_bounded
                else ["the count of lost rows is unknown"]
            ),
            *(steps if self.steps else ["no step was recorded"]),
        ]

    def _is_named(self) -> bool:
        """Recovered, or in part and what is lost is named line by line."""
        return self.outcome == "recovered" or (self.serves and bool(self.not_recovered))

    def to_line(self, *, report: str, evidence: str) -> dict[str, Any]:
        """The last line of `leeward drill --format json`."""
        return {
            "scenario": self.scenario,
            "outcome": self.outcome,
            "ok": self.ok,
            "proven": self.proven,
            "not_recovered": list(self.not_recovered),
            "rto_seconds": self.rto_seconds,
            "rto_objective_seconds": self.rto_objective_seconds,
            "rpo_seconds": self.rpo_seconds,
            "rpo_objective_seconds": self.rpo_objective_seconds,
            "rows_lost": self.rows_lost,
            "transactions_set_aside": self.transactions_set_aside,
            "detection_seconds": self.detection_seconds,
            "steps": [
                {"name": s.name, "seconds": s.seconds, "outcome": s.outcome, "found": s.found}
                for s in self.steps
            ],
            "component": self.component,
            "incident": self.incident,
            "run_id": self.run_id,
            "report": report,
            "evidence": evidence,
        }


def score_run(incident: str, records: Iterable[EvidenceRecord], *, run_id: str = "") -> Scorecard:
    """The scorecard of one run of an incident. Pure.

    Args:
        records: the incident's chain, in order.
        run_id: which run; "" takes the one that started last.
    Returns:
        Of a kind that was recorded more than once in the run, the last record counts.
    """
    chain = list(records)
    started = [record for record in chain if record.kind == "run-started"]
    run_id = run_id or (started[-1].run_id if started else "")
    of_run = [record for record in chain if record.run_id == run_id and run_id]
    opened = last_body(chain, "incident-opened")
    run = opened | last_body(of_run, "run-started")
    losses, proofs = _last_of_each_step(of_run, "data-loss"), _last_of_each_step(of_run, "proof")
    worst = max(losses, key=_lost_seconds, default={})
    alone = len(proofs) == 1 and len(losses) <= 1
    counts = [count_of(loss, "rows_lost") for loss in losses]
    known = [count for count in counts if count is not None]
    served = [moment_of(last_body(of_run, kind), "at") for kind in ("first-write", "serving")]
    return Scorecard(
        incident=incident,
        run_id=run_id,
        scenario=text_of(run, "scenario"),
        component=text_of(run, "component"),
        outcome=text_of(last_body(of_run, "run-finished"), "outcome", "unfinished"),
        plan_sha256=text_of(run, "plan_sha256"),
        alarm_at=moment_of(run, "alarm_at"),
        damaged_at=moment_of(last_body(of_run, "damage"), "damaged_at"),
        first_write_at=max((at for at in served if at), default=None),
        rto_objective_seconds=number_of(run, "rto_objective_seconds"),
        rpo_objective_seconds=number_of(run, "rpo_objective_seconds"),
        last_commit_before_at=moment_of(worst, "last_commit_before_at"),
        last_commit_recovered_at=(
            moment_of(worst, "last_commit_recovered_at")
            # Of several, another component's proof would tell nothing of this one.
            or (moment_of(proofs[0], "last_commit_at") if alone else None)
        ),
        rows_lost=sum(known) if known and len(known) == len(counts) else None,
        loss_is_bounded=bool(losses) and all(loss.get("bounded") is True for loss in losses),
        transactions_set_aside=count_of(last_body(of_run, "set-aside"), "transactions"),
        proven=bool(proofs) and all(_is_proof(proof) for proof in proofs),
        not_recovered=tuple(
            f"{text_of(it.body, 'component')}: {text_of(it.body, 'why')}"
            for it in of_run
            if it.kind == "not-recovered"
        ),
        left_behind=tuple(
            f"{text_of(it.body, 'left')}: {text_of(it.body, 'what')};"
            f" to remove it: {text_of(it.body, 'how')}"
            for it in of_run
            if it.kind == "left-behind"
        ),
        steps=score_steps(of_run),
    )


def _last_of_each_step(records: Iterable[EvidenceRecord], kind: str) -> list[dict[str, Any]]:
    """The bodies of a kind, one for each step that said it, the last that it said."""
    return list({record.step: record.body for record in records if record.kind == kind}.values())


def _lost_seconds(loss: dict[str, Any]) -> float:
    """How much time is lost; what is not known is the worst."""
    before, after = (
        moment_of(loss, name) for name in ("last_commit_before_at", "last_commit_recovered_at")
    )
    return float("inf") if before is None or after is None else (before - after).total_seconds()


def score_steps(records: Iterable[EvidenceRecord]) -> tuple[StepScore, ...]:
    """The steps of one run in the order in which they began."""
    by_step: dict[str, list[EvidenceRecord]] = {}
    for record in records:
        if record.step and record.kind.startswith("step-"):
            by_step.setdefault(record.step, []).append(record)
    return tuple(_score_step(name, of_step) for name, of_step in by_step.items())


def say_outcome(outcome: str) -> str:
    """ "failed", "was stopped", "has not finished": what a run or a step did."""
    told = {
        "unfinished": "has not finished",
        "stopped": "was stopped",
        "partial": "recovered in part",
    }
    return told.get(outcome, outcome)


def _score_step(name: str, records: list[EvidenceRecord]) -> StepScore:
    """A result that was recorded stands, whatever a second delivery of the step did after it."""
    starts = [record for record in records if record.kind == "step-started"]
    finished = [record for record in records if record.kind == "step-finished"]
    last = (finished or records)[-1]
    outcome = _OUTCOMES.get(last.kind, "unfinished")
    started_at = starts[0].at if starts else None
    finished_at = None if outcome == "unfinished" else last.at
    seconds = _between(started_at, finished_at)
    return StepScore(
        name=name,
        outcome=outcome,
        found=text_of(last.body, "found") or text_of(last.body, "message"),
        started_at=started_at,
        finished_at=finished_at,
        seconds=number_of(last.body, "seconds") if seconds is None else seconds,
        attempts=max(1, len([start for start in starts if start.seq < last.seq])),
        does=text_of(starts[0].body, "does") if starts else "",
    )


def _is_proof(body: dict[str, Any]) -> bool:
    checks = objects_of(body, "checks")
    whole = len(checks) == len(texts_of(body, "checks"))
    return bool(checks) and whole and all(check.get("ok") is True for check in checks)


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 3) if start and end else None


def _missed(name: str, measured: float | None, objective: float | None) -> list[str]:
    if _met(measured, objective):
        return []
    return [f"{name} is {in_units(measured)}, the objective {in_units(objective)}"]


def _met(measured: float | None, objective: float | None) -> bool | None:
    return None if measured is None or objective is None else measured <= objective
