"""An answer of a person, taken: checked, kept, counted, and told to the run that waits.

    checks -> code used up -> vote kept -> enough? -> verdict kept (once) -> the run is told
                                                                  |            (again, until it was)
    the state is tried again: a new token --> question kept ------+

The order makes deaths harmless: whoever kept the verdict may die before the run is told, and the
next who looks (the same request again, the escalation's clock, the state's next try) tells it. The
question with its newest token is written before the verdict is looked for, and the verdict before
the token is read: of two that meet, at least one sees the other. What was told to which token is
kept, so that a token is used once.

must: a verdict is created once and never changed. must: what lets the run go on is the verdict
alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from chalicelib.errors import BadInput, LeewardError, Refused
from chalicelib.incidents.approval import (
    Answer,
    Question,
    Verdict,
    Vote,
    decide_verdict,
    require_entitled,
    require_open,
    verdict_from,
)
from chalicelib.incidents.factors import FactorDesk, use_code
from chalicelib.incidents.streams import people_stream
from chalicelib.plan.people import Contact, Role
from chalicelib.plan.records import parse_time
from chalicelib.ports import Clock, Records, StateStore
from chalicelib.ports.people import Tokens

KINDS = ("approve", "do")
# Wrong codes and the like are recorded once in this time for each person, step and reason: the
# evidence cannot be deleted, and must not be filled by whoever guesses.
REFUSALS_EVERY = timedelta(minutes=15)


@dataclass(frozen=True)
class AnswerDesk:
    """What taking answers needs. roles and contacts: the plan's."""

    state: StateStore
    records: Records
    clock: Clock
    tokens: Tokens
    factors: FactorDesk
    roles: Mapping[str, Role]
    contacts: Mapping[str, Contact]


@dataclass(frozen=True)
class Taken:
    """What came of an answer. outcome: "waiting", or the verdict's. told: whether the run, or an
    earlier token of it, was told; False: it waits no more."""

    outcome: str
    found: str
    told: bool | None = None


def take_answer(answer: Answer, code: str, *, desk: AnswerDesk) -> Taken:
    """Take it, or refuse it; both are recorded. The same answer again changes nothing.

    Raises:
        BadInput: codes "unknown-run", "unknown-person".
        Refused: codes "not-asked", those of approval.py and of factors.py.
        NotReady: code "not-enrolled".
    """
    run = read_run(answer.run_id, desk.state)
    try:
        return _take(answer, code, run, desk)
    except LeewardError as error:
        _record_refusal(answer, error, run, desk)
        raise


def _take(answer: Answer, code: str, run: dict[str, Any], desk: AnswerDesk) -> Taken:
    if answer.by not in desk.contacts:
        raise BadInput(
            f"the plan has no contact {answer.by!r}",
            hint=f"one of: {', '.join(desk.contacts)}",
            code="unknown-person",
        )
    question = find_question(answer.run_id, answer.step, state=desk.state, run=run)
    # In this order: the votes that led to a verdict are read with it.
    verdict, votes = read_verdict(question, desk.state), read_votes(question, desk.state)
    if not _has(votes, answer):
        now = desk.clock.now()
        running = run["status"] == "running"
        require_open(question, verdict, running=running, now=now)
        roles = require_entitled(question, answer, votes, desk.roles, now=now)
        factor = use_code(answer.by, code, request=answer.digest, desk=desk.factors)
        _keep_vote(question, answer, roles, factor, desk)
    return settle(question, run, desk=desk)


def settle(question: Question, run: Mapping[str, Any], *, desk: AnswerDesk) -> Taken:
    """Decide if enough have answered, and tell the run. Safe to repeat, by anybody, at any time."""
    votes, verdict = read_votes(question, desk.state), read_verdict(question, desk.state)
    for vote in votes:
        body = {name: value for name, value in vote.to_json().items() if name != "request"}
        _say(question, run, "answered", body, desk, key=f"answered-{vote.by}", actor=vote.by)
    if verdict is None:
        decided = decide_verdict(question, votes, now=desk.clock.now())
        if decided is None:
            have = sum(vote.decision != "decline" for vote in votes)
            return Taken("waiting", f"{have} of {question.count} have answered")
        desk.state.create(_partition(question), _sort("verdict", question), decided.to_json())
        verdict = read_verdict(question, desk.state) or decided
    _say(question, run, "decided", verdict.to_json(), desk, key="decided")
    told = tell_run(question, verdict, run, desk=desk)
    by = ", ".join(verdict.by)
    late = "" if told else "; the run waited no more"
    return Taken(verdict.outcome, f"{verdict.outcome} by {by}{late}", told)


def tell_run(
    question: Question, verdict: Verdict, run: Mapping[str, Any], *, desk: AnswerDesk
) -> bool:
    """Tell the state that waits; once for each token that the question had."""
    partition = _partition(question)
    kept = desk.state.get(partition, _sort("question", question)) or {}
    mark = hashlib.sha256(kept["token"].encode()).hexdigest()
    told = desk.state.get(partition, _sort("told", question))
    if told is not None and told["token"] == mark:
        return bool(told["accepted"])
    accepted = _send(kept["token"], question, verdict, desk.tokens)
    item = {"token": mark, "accepted": accepted}
    if not desk.state.create(partition, _sort("told", question), item):
        desk.state.replace(partition, _sort("told", question), item, expected={})
    body = {"outcome": verdict.outcome, "accepted": accepted}
    _say(question, run, "answer-told", body, desk, key=f"told-{mark[:16]}")
    return accepted


def _send(token: str, question: Question, verdict: Verdict, tokens: Tokens) -> bool:
    by = ", ".join(verdict.by)
    if verdict.outcome == "declined":
        said = f"{question.step} was declined by {by}: {verdict.why or 'no reason given'}"
        return tokens.fail(token, "Declined", said)
    found = f"{verdict.outcome} by {by}" + (f": {verdict.why}" if verdict.why else "")
    return tokens.succeed(token, {"found": found, "answer": verdict.outcome, "by": by})


def find_question(run_id: str, step: str, *, state: StateStore, run: Mapping[str, Any]) -> Question:
    """The step's question: whether it may begin, else whether it is done.

    Raises:
        Refused: code "not-asked".
    """
    found = [
        question
        for kind in KINDS
        if (item := state.get(f"run#{run_id}", f"question#{kind}#{step}")) is not None
        and (question := question_from(item, run))
    ]
    if not found:
        raise Refused(
            f"nobody was asked about {step!r} of {run_id}",
            hint="`leeward incident show` lists what waits for people",
            code="not-asked",
        )
    # A step that was approved may then be a person's to do: the last one asked is meant.
    return max(found, key=lambda question: question.asked_at)


def question_from(item: Mapping[str, Any], run: Mapping[str, Any]) -> Question:
    """From what was kept when it was asked."""
    asked, asked_at = item["question"], parse_time(item["asked_at"])
    return Question(
        run_id=run["run_id"],
        step=item["step"],
        kind=item["kind"],
        roles=tuple(asked.get("roles") or (asked["role"],)),
        count=int(asked.get("count", 1)),
        says=asked["says"],
        asked_at=asked_at,
        deadline_at=asked_at + timedelta(seconds=float(asked["within_seconds"])),
        requested_by=run.get("requested_by", ""),
        otherwise=asked.get("otherwise", "stop"),
    )


def read_votes(question: Question, state: StateStore) -> tuple[Vote, ...]:
    items = state.query(_partition(question), f"{_sort('vote', question)}#")
    return tuple(Vote.from_json(item) for item in items)


def read_verdict(question: Question, state: StateStore) -> Verdict | None:
    found = state.get(_partition(question), _sort("verdict", question))
    return None if found is None else verdict_from(found)


def _keep_vote(
    question: Question,
    answer: Answer,
    roles: tuple[str, ...],
    factor: str,
    desk: AnswerDesk,
) -> None:
    """One for each person: of two that the same person gives at once, the second is refused, but
    not when it is the same (a button pressed twice)."""
    now = desk.clock.now()
    vote = Vote(answer.by, answer.decision, answer.reason, now, roles, factor, answer.digest)
    sort = f"{_sort('vote', question)}#{answer.by}"
    if desk.state.create(_partition(question), sort, vote.to_json()):
        return
    kept = read_votes(question, desk.state)
    if not _has(kept, answer):
        require_entitled(question, answer, kept, desk.roles, now=now)


def _has(votes: tuple[Vote, ...], answer: Answer) -> bool:
    return any(vote.request == answer.digest for vote in votes)


def read_run(run_id: str, state: StateStore) -> dict[str, Any]:
    found = state.get(f"run#{run_id}", "run")
    if found is None:
        raise BadInput(
            f"there is no run {run_id!r}",
            hint="`leeward incident list` names the runs",
            code="unknown-run",
        )
    return found


def _record_refusal(
    answer: Answer, error: LeewardError, run: Mapping[str, Any], desk: AnswerDesk
) -> None:
    known = answer.by if answer.by in desk.contacts else "somebody unknown"
    window = int(desk.clock.now().timestamp() // REFUSALS_EVERY.total_seconds())
    body = {"by": known, "decision": answer.decision, "code": error.instance_code}
    desk.records.append(
        _stream(answer.run_id, run, desk.state),
        "answer-refused",
        body | {"message": error.message, "asked_about": answer.step[:100]},
        actor=known,
        run_id=answer.run_id,
        key=f"{answer.run_id}/refused/{known}/{error.instance_code}/{window}",
    )


def _say(
    question: Question,
    run: Mapping[str, Any],
    kind: str,
    body: dict[str, Any],
    desk: AnswerDesk,
    *,
    key: str,
    actor: str = "leeward",
) -> None:
    desk.records.append(
        _stream(question.run_id, run, desk.state),
        kind,
        {"kind": question.kind, **body},
        actor=actor,
        run_id=question.run_id,
        step=question.step,
        key=f"{question.run_id}/{question.step}/{question.kind}/{key}",
    )


def _stream(run_id: str, run: Mapping[str, Any], state: StateStore) -> str:
    """The incident's own chain while the run goes on; it is sealed when the run ends."""
    running = read_run(run_id, state)["status"] == "running"
    incident = str(run["incident_id"])
    return incident if running else people_stream(incident)


def _partition(question: Question) -> str:
    return f"run#{question.run_id}"


def _sort(what: str, question: Question) -> str:
    return f"{what}#{question.kind}#{question.step}"
