"""What a report says, drawn from an incident's records alone; how it looks is in templates/.

Pure and without a clock: the same records give the same report, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.evidence.attack_report import attack_rows
from chalicelib.evidence.body import (
    count_of,
    last_body,
    moment_of,
    number_of,
    objects_of,
    text_of,
    texts_of,
)
from chalicelib.evidence.charts import Gantt, Share, draw_budget, draw_gantt, sum_by_name
from chalicelib.evidence.duties import Duty, list_duties
from chalicelib.evidence.scorecard import Scorecard, score_run
from chalicelib.evidence.telling import tell
from chalicelib.evidence.text import UNKNOWN, clock, day_and_clock, in_units
from chalicelib.plan.records import EvidenceRecord, format_lsn


@dataclass(frozen=True)
class Tile:
    """A figure. `met` is None when it is not known, which is as bad as False.

    `share`: of the objective, in per cent, for the meter; None without a meter.
    """

    name: str
    value: str
    note: str
    met: bool | None
    share: float | None = None


@dataclass(frozen=True)
class Moment:
    """A line of the time line. `since` counts from the alarm."""

    at: str
    since: str
    kind: str
    step: str
    actor: str
    text: str


@dataclass(frozen=True)
class Row:
    """Cells of a table, and whether the row is good (None: neither)."""

    cells: tuple[str, ...]
    ok: bool | None = None


@dataclass(frozen=True)
class Report:
    """Everything the templates show. Text in it may come from anywhere and is escaped there."""

    score: Scorecard
    title: str
    severity: str
    day: str
    verdict: str
    happened: tuple[str, ...]
    ended: tuple[str, ...]
    proof: str
    duties: tuple[Duty, ...]
    tiles: tuple[Tile, ...]
    gantt: Gantt | None
    budget: tuple[Share, ...]
    budget_sums: tuple[Share, ...]
    moments: tuple[Moment, ...]
    damage: tuple[Row, ...]
    alternatives: tuple[Row, ...]
    points: tuple[Row, ...]
    checks: tuple[Row, ...]
    loss: tuple[Row, ...]
    loss_how: str
    decisions: tuple[Row, ...]
    attack: tuple[Row, ...]
    set_aside: str
    records: tuple[EvidenceRecord, ...]


def make_report(incident: str, records: Sequence[EvidenceRecord], *, run_id: str = "") -> Report:
    """The report of one run of an incident ("": of the last).

    Args:
        records: the incident's whole chain, in order.
    """
    score = score_run(incident, records, run_id=run_id)
    run = [record for record in records if record.run_id in ("", score.run_id)]
    proof, loss = last_body(run, "proof"), last_body(run, "data-loss")
    damage, budget = last_body(run, "damage"), draw_budget(score)
    return Report(
        score=score,
        title=f"{_words(score.scenario)}: {score.component or UNKNOWN}",
        severity=text_of(last_body(run, "incident-opened"), "severity"),
        day=day_and_clock(score.alarm_at or (run[0].at if run else None)),
        verdict=_verdict(score),
        happened=tuple(_happened(score, run)),
        ended=tuple(_ended(score, run)),
        proof=_proof(proof),
        duties=tuple(list_duties(score, run)),
        tiles=_tiles(score, proof),
        gantt=draw_gantt(score, run[-1].at) if run else None,
        budget=budget,
        budget_sums=sum_by_name(budget),
        moments=tuple(_moment(record, score.alarm_at) for record in run),
        damage=_damage_rows(damage),
        alternatives=tuple(_alternative(item) for item in objects_of(damage, "alternatives")),
        points=_point_rows(run),
        checks=tuple(_check(item) for item in objects_of(proof, "checks")),
        loss=_loss_rows(score),
        loss_how=text_of(loss, "how"),
        decisions=tuple(_decision(record) for record in run if record.kind == "decision"),
        attack=tuple(Row(cells) for cells in attack_rows(run)),
        set_aside=_set_aside(last_body(run, "set-aside")),
        records=tuple(records),
    )


def _verdict(score: Scorecard) -> str:
    if score.ok:
        return "Recovered and proven"
    if score.outcome == "recovered":
        return "Recovered, with shortfalls"
    if score.outcome == "partial":
        lost = "something is lost for good" if score.not_recovered else "what is lost is not known"
        return f"Recovered in part: {lost}"
    return "Not finished" if score.outcome == "unfinished" else "Not recovered"


def _happened(score: Scorecard, run: Sequence[EvidenceRecord]) -> list[str]:
    opened, damage = last_body(run, "incident-opened"), last_body(run, "damage")
    alarm = text_of(opened, "alarm", UNKNOWN)
    raised = f"Alarm {alarm} was raised at {day_and_clock(score.alarm_at)}"
    if score.detection_seconds is not None:
        raised += f", {in_units(score.detection_seconds)} after the damage"
    found = text_of(damage, "found")
    first = f"{_sentence(found)}." if found else "What was damaged is not known."
    return [first, f"{raised}."]


def _ended(score: Scorecard, run: Sequence[EvidenceRecord]) -> list[str]:
    if score.rto_seconds is None:
        wrote = "The application has not written again, as far as is known."
    else:
        wrote = f"The application wrote again {in_units(score.rto_seconds)} after the alarm."
    why = text_of(last_body(run, "run-finished"), "why")
    return [wrote, *([f"The run ended because of: {why}"] if why else [])]


def _proof(proof: dict[str, Any]) -> str:
    checks = objects_of(proof, "checks")
    failed = [text_of(check, "name", UNKNOWN) for check in checks if check.get("ok") is not True]
    if not checks:
        return "No. The recovered data was not verified."
    if failed:
        return f"No. {len(failed)} of {len(checks)} checks failed: {', '.join(failed)}."
    at = day_and_clock(moment_of(proof, "proven_at"))
    return f"Yes. {len(checks)} of {len(checks)} checks passed on the recovered data at {at}."


def _tiles(score: Scorecard, proof: dict[str, Any]) -> tuple[Tile, ...]:
    checks = objects_of(proof, "checks")
    passed = sum(check.get("ok") is True for check in checks)
    aside = score.transactions_set_aside
    return (
        _objective("RTO", score.rto_seconds, score.rto_objective_seconds, score.rto_met),
        _objective("RPO", score.rpo_seconds, score.rpo_objective_seconds, score.rpo_met),
        Tile(
            "Rows lost",
            UNKNOWN if score.rows_lost is None else f"{score.rows_lost:,}",
            "none set aside is known" if aside is None else f"{aside} transactions set aside",
            None if score.rows_lost is None else score.rows_lost == 0,
        ),
        Tile(
            "Proof",
            f"{passed} of {len(checks)}" if checks else UNKNOWN,
            "checks passed",
            score.proven if checks else None,
        ),
    )


def _objective(
    name: str, measured: float | None, objective: float | None, met: bool | None
) -> Tile:
    share = None
    if measured is not None and objective:
        share = min(100.0, round(measured / objective * 100, 1))
    return Tile(name, in_units(measured), f"objective {in_units(objective)}", met, share)


def _moment(record: EvidenceRecord, alarm_at: datetime | None) -> Moment:
    since = f"+{in_units((record.at - alarm_at).total_seconds())}" if alarm_at else ""
    return Moment(
        at=clock(record.at),
        since=since.replace("+-", "-"),
        kind=record.kind,
        step=record.step,
        actor=record.actor,
        text=tell(record),
    )


def _damage_rows(damage: dict[str, Any]) -> tuple[Row, ...]:
    if not damage:
        return ()
    target = damage.get("target")
    target = target if isinstance(target, dict) else {}
    lsn = count_of(damage, "commit_lsn")
    facts = {
        "Kind": damage.get("kind"),
        "Tables": ", ".join(texts_of(damage, "tables")) or "none named",
        "Rows": damage.get("rows"),
        "Transaction": damage.get("xid"),
        "Committed at": day_and_clock(moment_of(damage, "damaged_at")),
        "Commit LSN": UNKNOWN if lsn is None else format_lsn(lsn),
        "Recovered to the instant before": f"{target.get('kind')} {target.get('value')}",
        "How it was found": damage.get("how"),
    }
    return tuple(
        Row((name, UNKNOWN if value is None else str(value))) for name, value in facts.items()
    )


def _alternative(item: dict[str, Any]) -> Row:
    committed = moment_of(item, "committed_at")
    tables = ", ".join(texts_of(item, "tables"))
    return Row(
        (
            f"{item.get('xid', UNKNOWN)} at {clock(committed)}",
            f"{item.get('rows', UNKNOWN)} rows of {tables or UNKNOWN}",
            text_of(item, "why"),
        )
    )


def _point_rows(run: Sequence[EvidenceRecord]) -> tuple[Row, ...]:
    kinds = {"rejected-point": ("refused", False), "chosen-point": ("chosen", True)}
    return tuple(
        Row(
            (
                text_of(record.body, "point", UNKNOWN),
                kinds[record.kind][0],
                text_of(record.body, "reason"),
            ),
            kinds[record.kind][1],
        )
        for record in run
        if record.kind in kinds
    )


def _check(item: dict[str, Any]) -> Row:
    ok, took = item.get("ok") is True, in_units(number_of(item, "seconds"))
    name, found = text_of(item, "name", UNKNOWN), text_of(item, "found")
    return Row((name, found, "passed" if ok else "failed", took), ok)


def _loss_rows(score: Scorecard) -> tuple[Row, ...]:
    """The four moments of a loss, in the order in which they happened where all went well."""
    moments = (
        ("last commit that was recovered", score.last_commit_recovered_at),
        ("last commit before the damage", score.last_commit_before_at),
        ("damage", score.damaged_at),
        ("alarm", score.alarm_at),
    )
    return tuple(Row((clock(at), name)) for name, at in moments)


def _decision(record: EvidenceRecord) -> Row:
    others = ", ".join(texts_of(record.body, "alternatives")) or "none recorded"
    what, why = text_of(record.body, "what"), text_of(record.body, "why")
    return Row((clock(record.at), record.actor, what, why, others))


def _set_aside(body: dict[str, Any]) -> str:
    if not body:
        return ""
    if body.get("transactions") == 0:
        return "No transaction that changed rows after the damage was found: nothing is set aside."
    known = {name: body.get(name, UNKNOWN) for name in ("transactions", "rows", "object")}
    said = (
        f"{known['transactions']} transactions ({known['rows']} rows) committed after the damage "
        f"are set aside in {known['object']}, one JSON object a line, for a person to merge."
    )
    if body.get("unreadable"):
        said += f" Of {body['unreadable']} of them not every row could be read; each line says so."
    return said


def _words(scenario: str) -> str:
    return _sentence(scenario.replace("-", " ")) if scenario else "Incident"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".")
