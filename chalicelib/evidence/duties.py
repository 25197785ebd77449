"""What a run leaves for people to do. What they are asked afterwards: plan/questions.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chalicelib.evidence.body import count_of, last_body, text_of
from chalicelib.evidence.scorecard import Scorecard, say_outcome
from chalicelib.evidence.text import UNKNOWN
from chalicelib.plan.records import EvidenceRecord


@dataclass(frozen=True)
class Duty:
    """One thing to do. `urgent`: the application or its data is not well until it is done."""

    what: str
    how: str
    urgent: bool = False


# The duty that is done once the review is finished.
REVIEW = "Answer the questions for people"

# The last of these says whether the application can write.
_ABOUT_WRITES = ("fenced", "unfenced", "first-write")


def list_duties(score: Scorecard, run: Sequence[EvidenceRecord]) -> Iterator[Duty]:
    """What is left to do after the run, the most urgent first."""
    yield from _left_behind(run)
    yield from _open_fence(score, run)
    yield from _unrecovered(score, run)
    yield from _lost(score)
    yield from _aside(last_body(run, "set-aside"))
    yield from _refused(run)
    yield Duty(REVIEW, f"leeward review show {score.incident}")


def _left_behind(run: Sequence[EvidenceRecord]) -> Iterator[Duty]:
    for body in (it.body for it in run if it.kind == "left-behind"):
        what = f"Remove what the drill's step {text_of(body, 'left')} left: {text_of(body, 'what')}"
        yield Duty(what, text_of(body, "how", UNKNOWN), urgent=True)


def _open_fence(score: Scorecard, run: Sequence[EvidenceRecord]) -> Iterator[Duty]:
    writes = [record.kind for record in run if record.kind in _ABOUT_WRITES]
    if writes and writes[-1] == "fenced":
        yield Duty(
            f"Writes to {score.component or UNKNOWN} are still stopped",
            "they stay stopped until a run recovers, or a person lets the application's role log "
            "in again",
            urgent=True,
        )


def _unrecovered(score: Scorecard, run: Sequence[EvidenceRecord]) -> Iterator[Duty]:
    if score.serves:
        yield from (
            Duty(f"Find another copy, or say that it is lost: {lost}", "no run can", urgent=True)
            for lost in score.not_recovered
        )
        return
    then = "find out what stopped it, then start the scenario again"
    how = text_of(last_body(run, "step-failed"), "hint", then)
    yield Duty(f"Decide how to go on: the run {say_outcome(score.outcome)}", how, urgent=True)


def _lost(score: Scorecard) -> Iterator[Duty]:
    if score.rows_lost is None:
        yield Duty(
            "Find out which committed rows are lost",
            "their count could not be measured; compare with the damaged database",
            urgent=True,
        )
    elif score.rows_lost:
        yield Duty(
            f"Tell the owner of the data that {score.rows_lost} committed rows are lost",
            "they are neither in the recovered database nor set aside",
            urgent=True,
        )


def _aside(body: dict[str, Any]) -> Iterator[Duty]:
    transactions, unreadable = count_of(body, "transactions"), count_of(body, "unreadable")
    if not body or transactions == 0:
        return
    where, rows = text_of(body, "object", UNKNOWN), count_of(body, "rows")
    how = f"they lie in {where}, {UNKNOWN if rows is None else rows} rows in all"
    if unreadable:
        how += f"; of {unreadable} of them not every row could be read"
    count = UNKNOWN if transactions is None else transactions
    yield Duty(f"Merge {count} transactions committed after the damage", how)


def _refused(run: Sequence[EvidenceRecord]) -> Iterator[Duty]:
    refused = [record.body for record in run if record.kind == "rejected-point"]
    points = [text_of(body, "point", UNKNOWN) for body in refused]
    if points:
        yield Duty("Find out why recovery points were refused", ", ".join(points))
