"""Who may answer a question, and when enough have. Pure: no clock, no AWS.

A question of kind "approve" waits for `count` people of its roles; one of kind "do" for one person
who did the step.

      state     an answer comes                     the state after
      --------  ----------------------------------  ----------------------------------
      waiting   approve, fewer than `count` people  waiting
      waiting   approve, `count` people             approved
      waiting   decline (either kind)               declined
      waiting   done (kind "do")                    done
      waiting   nobody, until `deadline_at`         expired: the plan's `otherwise`
      approved, declined, done    any               refused: already-answered
      expired   any                                 refused: too-late
      over (the run has ended)    any               refused: run-over

must: nothing is approved without `count` different people, each of a role that was asked and that
may approve, each with a second factor of their own. must: where two or more are asked, the person
who asked for the run is none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from chalicelib.errors import BadInput, LeewardError, Refused
from chalicelib.plan.people import Role
from chalicelib.plan.records import Record, digest_of, parse_time

Kind = Literal["approve", "do"]
Decision = Literal["approve", "decline", "done"]
DECISIONS = ("approve", "decline", "done")
OUTCOMES: Mapping[str, str] = {"approve": "approved", "decline": "declined", "done": "done"}
# Whose role covers for another may answer once this share of the time has passed unanswered.
COVER_AFTER = 0.5
LONGEST_REASON = 2000


@dataclass(frozen=True)
class Question(Record):
    """What a run waits for. roles: any of them may answer. requested_by: who asked for the run,
    "" when no person did. otherwise: what the run does when nobody answers."""

    run_id: str
    step: str
    kind: Kind
    roles: tuple[str, ...]
    count: int
    says: str
    asked_at: datetime
    deadline_at: datetime
    requested_by: str = ""
    otherwise: str = "stop"


@dataclass(frozen=True)
class Answer:
    """What a person says. key: of the request; the same one again is the same answer."""

    run_id: str
    step: str
    decision: Decision
    by: str
    reason: str
    key: str

    @property
    def digest(self) -> str:
        return digest_of([self.run_id, self.step, self.decision, self.by, self.key])


@dataclass(frozen=True)
class Vote(Record):
    """An answer that counts. request: the answer's digest."""

    by: str
    decision: Decision
    reason: str
    voted_at: datetime
    roles: tuple[str, ...]
    factor: str
    request: str


@dataclass(frozen=True)
class Verdict(Record):
    """How a question was answered, once and for all."""

    outcome: str
    by: tuple[str, ...]
    why: str
    decided_at: datetime


def read_answer(event: Mapping[str, Any]) -> Answer:
    """Raises BadInput (code "bad-answer") naming what is missing or too long."""
    given = {name: str(event.get(name) or "").strip() for name in ("run_id", "step", "by", "key")}
    missing = [name for name, value in given.items() if not value]
    decision: Any = event.get("decision")
    reason = str(event.get("reason") or "").strip()
    if decision not in DECISIONS:
        missing.append("decision")
    if missing or len(reason) > LONGEST_REASON or max(map(len, given.values())) > LONGEST_REASON:
        raise BadInput(
            f"expected run_id, step, by, key, a decision and a short reason, found no or a bad"
            f" {', '.join(missing) or 'reason'}",
            hint=f"decision is one of {', '.join(DECISIONS)}; a reason has at most"
            f" {LONGEST_REASON} letters",
            code="bad-answer",
        )
    return Answer(**given, decision=decision, reason=reason)


def entitled_roles(
    question: Question, person: str, roles: Mapping[str, Role], *, now: datetime
) -> tuple[str, ...]:
    """The roles by which the person may answer; () when by none.

    Pure. An approval takes a role that may approve; a person's step, the role that the plan names.
    """
    waited = now - question.asked_at
    covers = waited >= (question.deadline_at - question.asked_at) * COVER_AFTER
    found = []
    for name in question.roles:
        role = roles.get(name)
        if role is None or (question.kind == "approve" and "approve" not in role.may):
            continue
        cover = roles.get(role.covered_by or "")
        if person in role.held_by or (covers and cover and person in cover.held_by):
            found.append(name)
    return tuple(found)


def require_open(
    question: Question, verdict: Verdict | None, *, running: bool, now: datetime
) -> None:
    """Raises Refused: codes "run-over", "already-answered", "too-late"."""
    if not running:
        raise _refused(question, "its run is over", "look at its report", "run-over")
    if verdict is not None:
        said = f"it was {verdict.outcome} by {', '.join(verdict.by)} before"
        raise _refused(question, said, "nothing is left to do here", "already-answered")
    if now >= question.deadline_at:
        said = f"its time ended at {question.deadline_at:%H:%M:%S} UTC: {question.otherwise}"
        raise _refused(question, said, "look at what the run does now", "too-late")


def require_entitled(
    question: Question,
    answer: Answer,
    votes: Iterable[Vote],
    roles: Mapping[str, Role],
    *,
    now: datetime,
) -> tuple[str, ...]:
    """The roles by which the answer counts.

    Raises:
        Refused: codes "not-that-question", "not-entitled", "own-request", "voted-already".
    """
    if (answer.decision == "done") != (question.kind == "do") and answer.decision != "decline":
        said = "approve or decline it" if question.kind == "approve" else "do it, and say done"
        raise _refused(
            question, f"it cannot be answered {answer.decision}", said, "not-that-question"
        )
    found = entitled_roles(question, answer.by, roles, now=now)
    if not found:
        wanted = ", ".join(question.roles)
        hint = f"somebody must answer who holds one of: {wanted}, and may"
        raise _refused(question, f"{answer.by} may not answer it", hint, "not-entitled")
    if question.count > 1 and answer.by == question.requested_by and answer.decision == "approve":
        hint = f"{question.count} others must approve"
        raise _refused(question, f"{answer.by} asked for this run", hint, "own-request")
    if any(vote.by == answer.by for vote in votes):
        raise _refused(
            question, f"{answer.by} answered before", "wait for the others", "voted-already"
        )
    return found


def decide_verdict(question: Question, votes: Iterable[Vote], *, now: datetime) -> Verdict | None:
    """None while the question waits for more. One who declines is enough to decline."""
    given = sorted(votes, key=lambda vote: (vote.voted_at, vote.by))
    against = [vote for vote in given if vote.decision == "decline"]
    if against:
        return Verdict("declined", (against[0].by,), against[0].reason, now)
    wanted = "approve" if question.kind == "approve" else "done"
    people = tuple(dict.fromkeys(vote.by for vote in given if vote.decision == wanted))
    if len(people) < question.count:
        return None
    reasons = "; ".join(vote.reason for vote in given if vote.reason)
    return Verdict(OUTCOMES[wanted], people, reasons, now)


def verdict_from(item: Mapping[str, Any]) -> Verdict:
    return Verdict(item["outcome"], tuple(item["by"]), item["why"], parse_time(item["decided_at"]))


def _refused(question: Question, fact: str, hint: str, code: str) -> LeewardError:
    text = f"{question.step} of {question.run_id}: {fact}"
    return Refused(text, hint=hint, code=code, run_id=question.run_id, step=question.step)
