"""Questions to people, and what people say.

Every way in (the command line, chat, a browser) comes to `answer` with the same events.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from chalicelib.errors import BadInput, Refused
from chalicelib.incidents.answer import (
    AnswerDesk,
    Taken,
    find_question,
    read_run,
    settle,
    take_answer,
)
from chalicelib.incidents.approval import Question, read_answer
from chalicelib.incidents.paths import question_subject, start_path
from chalicelib.incidents.question import put_question
from chalicelib.incidents.register import close_incident, find_incident
from chalicelib.incidents.streams import people_stream
from chalicelib.plan.people import Power
from chalicelib.plan.records import format_time
from chalicelib.services import build, environment
from chalicelib.services.people import reminding, reviewing
from chalicelib.services.people.hearing import Event, Verbs, hear
from chalicelib.services.people.notices import notify, tells_anybody
from chalicelib.services.people.second_factor import factor_desk, require_code


@cache
def answer_desk() -> AnswerDesk:
    from chalicelib.adapters.step_tokens import StepTokens

    return AnswerDesk(
        state=build.state(),
        records=build.records(),
        clock=build.clock(),
        tokens=StepTokens(build.client("stepfunctions")),
        factors=factor_desk(),
        roles=build.plan().roles,
        contacts=build.plan().contacts,
    )


def ask(event: Event) -> Event:
    """Record a person's step or an approval that waits, with its token, and call people to it."""
    question = put_question(event, desk=answer_desk())
    if tells_anybody():
        incident = str(read_run(question.run_id, build.state())["incident_id"])
        notify(
            "asked",
            incident,
            run_id=question.run_id,
            about=question_subject(question),
            **_facts(question),
        )
        start_path(incident, question_subject(question), plan=build.plan(), desk=build.desk())
    return {"found": f"waiting for {question.kind}"}


def _facts(question: Question) -> dict[str, Any]:
    known = build.plan().roles
    roles = [known[name].title for name in question.roles if name in known]
    return {
        "kind": question.kind,
        "step": question.step,
        "says": question.says,
        "count": question.count,
        "roles": " or ".join(roles),
        "deadline_at": format_time(question.deadline_at),
        "otherwise": question.otherwise,
    }


def answer(event: Event) -> Event:
    """Do what a person says: `verb` is one of VERBS, an answer to a question when there is none.

    What is refused comes back as {"error": ...} (hearing.py).
    """
    return hear(event, VERBS, default="answer")


def _answer(event: Event) -> Event:
    """{"run_id", "step", "decision", "by", "code", "reason", "key"}."""
    said = read_answer(event)
    taken = take_answer(said, str(event.get("code") or ""), desk=answer_desk())
    return _shown(said.run_id, said.step, taken)


def _settle(event: Event) -> Event:
    """{"run_id", "step"}: tell the run what was decided before, if whoever decided could not."""
    run = read_run(str(event.get("run_id")), build.state())
    step = str(event.get("step"))
    question = find_question(run["run_id"], step, state=build.state(), run=run)
    return _shown(run["run_id"], step, settle(question, run, desk=answer_desk()))


def _shown(run_id: str, step: str, taken: Taken) -> Event:
    if taken.outcome != "waiting" and tells_anybody():
        run = read_run(run_id, build.state())
        question = find_question(run_id, step, state=build.state(), run=run)
        facts = {"step": step, "outcome": taken.outcome, "by": "", "why": taken.found}
        facts["by"] = taken.found.removeprefix(f"{taken.outcome} by ").partition(";")[0]
        about = question_subject(question)
        notify("answered", run["incident_id"], run_id=run_id, about=about, **facts)
    return {
        "run_id": run_id,
        "step": step,
        "outcome": taken.outcome,
        "found": taken.found,
        "told": taken.told,
    }


def _acknowledge(event: Event) -> Event:
    """{"incident", "by"}. It needs no code: it lets nothing happen, it only stops the calls."""
    from chalicelib.services.people.escalation import acknowledge

    incident = find_incident(str(event.get("incident")), state=build.state())
    if incident.status != "open":
        raise Refused(
            f"{incident.id} is {incident.status}",
            hint="nobody is called any more",
            code="already-closed",
        )
    return acknowledge(incident.id, _known(event))


def _declare(event: Event) -> Event:
    """{"scenario", "reason", "by", "code", "key", "moment"?, "drill"?}: start a run."""
    from chalicelib.services.signals import handle_declaration, require_declarable

    require_declarable(event)
    by = _entitled(event, "declare", "the declaration of a disaster")
    names = ("scenario", "reason", "moment", "drill")
    detail = {name: event.get(name) for name in names}
    at = format_time(build.clock().now())
    return handle_declaration({"detail": detail | {"by": by, "at": at}})


def _close(event: Event) -> Event:
    """{"incident", "reason", "by", "code", "key"}: end an incident that no run recovered."""
    incident = find_incident(str(event.get("incident")), state=build.state())
    reason = str(event.get("reason") or "").strip()
    if not reason:
        hint = "say in one line why it is over"
        raise BadInput("expected a reason, found none", hint=hint, code="no-reason")
    by = _entitled(event, "declare", f"closing {incident.id}")
    closed = close_incident(incident, state=build.state())
    body = {"by": by, "why": reason}
    build.records().append(
        people_stream(closed.id), "incident-closed", body, actor=by, key="incident-closed"
    )
    if tells_anybody():
        notify("closed", closed.id, by=by, why=reason)
    return {"incident": closed.id, "found": f"closed by {by}: {reason}"}


def _entitled(event: Event, power: Power, what: str) -> str:
    """The person, if a role of theirs may do it and their code is good.

    Raises:
        BadInput: code "unknown-person".
        Refused: code "not-entitled", and those of factors.py.
    """
    by = _known(event)
    roles = build.plan().roles
    may = [name for name, role in roles.items() if power in role.may]
    if not any(by in roles[name].held_by for name in may):
        raise Refused(
            f"{by} may not {power}: {what}",
            hint=f"somebody must who holds one of: {', '.join(may)}",
            code="not-entitled",
        )
    require_code(event, by, power, what, str(event.get("scenario")))
    return by


def _link(event: Event) -> Event:
    """{"by"}: a link to the dashboard, for that person to sign in with, once.

    It needs no code: who has signed in sees, and still gives a code for whatever happens.
    """
    from chalicelib.incidents.tokens import issue_link
    from chalicelib.services.people.tokens import token_desk

    secret, until = issue_link(_known(event), desk=token_desk())
    address = f"{environment.endpoint()}sign-in?link={secret}"
    found = f"{address}\ngood once, until {until:%H:%M} UTC; it signs in {event['by']}"
    return {"address": address, "until": format_time(until), "found": found}


def _sign_in(event: Event) -> Event:
    """{"link"}: the token of a session."""
    from chalicelib.incidents.tokens import redeem_link
    from chalicelib.services.people.tokens import token_desk

    session = redeem_link(str(event.get("link") or ""), desk=token_desk())
    until = format_time(session.expires_at)
    return {"person": session.person, "token": session.token, "until": until}


def _known(event: Event) -> str:
    by = str(event.get("by") or "")
    if by not in build.plan().contacts:
        raise BadInput(
            f"the plan has no contact {by[:100]!r}",
            hint=f"one of: {', '.join(build.plan().contacts)}",
            code="unknown-person",
        )
    return by


def _post(event: Event) -> Event:
    """{"incident", "text", "state", "by", "code", "key"}: words for the status page."""
    from chalicelib.services.people.status_page import post, require_post

    words = require_post(event)
    return post(words, _entitled(event, "communicate", f"words on {words.incident}"))


VERBS: Verbs = {
    "answer": _answer,
    "settle": _settle,
    "ack": _acknowledge,
    "declare": _declare,
    "post": _post,
    "close": _close,
    "review-write": reviewing.write,
    "review-finish": reviewing.finish,
    "action-add": reviewing.add,
    "action-done": reviewing.done,
    "action-drop": reviewing.drop,
    "plan-reviewed": reminding.reviewed,
    "link": _link,
    "sign-in": _sign_in,
}
