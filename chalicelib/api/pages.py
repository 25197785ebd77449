"""What each page shows, and what each form does."""

from __future__ import annotations

import uuid
from itertools import groupby
from typing import Any

from chalice.app import Response

from chalicelib.api.dashboard import (
    COOKIE,
    COOKIE_SHAPE,
    REPORT_POLICY,
    SECURITY,
    Asked,
    frame_of,
    html,
    redirect,
    sign_in_page,
)
from chalicelib.api.problems import status_of
from chalicelib.errors import LeewardError
from chalicelib.pages.actions import action_rows, review_row
from chalicelib.pages.notices import Notice
from chalicelib.pages.overview import component_rows, headlines, with_copies
from chalicelib.pages.render import Frame, render
from chalicelib.pages.shapes import draw_bars
from chalicelib.services.people.tokens import ask_answer, ask_show, redeem_link, sign_out

Json = dict[str, Any]
# How often a page is made anew: while a run goes on, while an incident is open, otherwise.
RUNNING_SECONDS, OPEN_SECONDS, QUIET_SECONDS = 5, 10, 60
SHOWN_FIRST = ("plan", "incidents", "ended", "approvals", "alarms", "exercises", "failing", "open",
               "overdue")  # fmt: skip


def show_overview(asked: Asked) -> Response:
    seen = ask_show({"verb": "overview"})
    frame = frame_of(asked, refresh_seconds=OPEN_SECONDS if seen["incidents"] else QUIET_SECONDS)
    rows = component_rows(seen)
    body = render(
        "overview.html",
        frame,
        **{name: seen[name] for name in SHOWN_FIRST},
        review=review_row(seen["plan_review"]),
        heads=headlines(seen, asked.person),
        rows=with_copies(rows),
        others=[it.ready["component"] for it in rows if it not in with_copies(rows)],
        said=Notice.named(asked.query.get("said", "")),
    )
    return html(body, frame)


def show_incident(asked: Asked, incident: str, *, error: LeewardError | None = None) -> Response:
    """With what was written into the form, when it was refused; the code is never written back."""
    seen = ask_show({"verb": "page", "incident": incident})
    run, path = seen["run"], f"/incidents/{incident}"
    questions = [_question(it, asked, error) for it in seen["approvals"]]
    lasts = run is not None and run["status"] == "running"
    typed = any(it["mine"] for it in questions)
    frame = frame_of(
        asked,
        f"{path}/answer",
        f"{path}/acknowledgement",
        # A page that is made anew would take from the person what they are writing.
        refresh_seconds=RUNNING_SECONDS if lasts and not typed and not error else None,
    )
    said = Notice.of(error) if error else Notice.named(asked.query.get("said", ""))
    body = render(
        "incident.html", frame, **_told(seen, frame, path), questions=questions, said=said
    )
    return html(body, frame, status_of(error) if error else 200)


def _told(seen: Json, frame: Frame, path: str) -> Json:
    run, incident = seen["run"], seen["incident"]
    clocks = run["clocks"] if run else {}
    promised, so_far = clocks.get("rto_objective_seconds"), clocks.get("rto_so_far_seconds")
    left = promised - so_far if promised is not None and so_far is not None else None
    return {
        "incident": incident,
        "run": run,
        "title": (run and run["title"]) or incident["scenario"],
        "report": seen["report"],
        "bars": draw_bars(run, frame.now) if run else {},
        "left": left,
        "late": "bad" if left is not None and left < 0 else "live",
        "form_token": frame.tokens[f"{path}/answer"],
        "ack_token": frame.tokens[f"{path}/acknowledgement"],
    }


def _question(asked_of: Json, asked: Asked, error: LeewardError | None) -> Json:
    """The form's key makes a second press the same answer, after an error too: it may have come
    after the answer was counted."""
    again = error is not None and asked.fields.get("step") == asked_of["step"]
    voted = asked.person in asked_of["by"]
    return asked_of | {
        "mine": asked.person in asked_of["people"] and not voted,
        "voted": voted,
        "key": asked.fields.get("key") or uuid.uuid4().hex if again else uuid.uuid4().hex,
        "reason": asked.fields.get("reason", "") if again else "",
        "wrong": again,
    }


def take_answer(asked: Asked, incident: str) -> Response:
    fields = asked.fields
    event = {
        "run_id": fields.get("run", ""),
        "step": fields.get("step", ""),
        "decision": fields.get("decision", ""),
        "code": "".join(fields.get("code", "").split()),
        "reason": fields.get("reason", ""),
        "key": fields.get("key", ""),
        "by": asked.person,
    }
    try:
        ask_answer(event)
    except LeewardError as error:
        return show_incident(asked, incident, error=error)
    return redirect(asked, f"/incidents/{incident}?said=answered")


def take_acknowledgement(asked: Asked, incident: str) -> Response:
    try:
        ask_answer({"verb": "ack", "incident": incident, "by": asked.person})
    except LeewardError as error:
        return show_incident(asked, incident, error=error)
    return redirect(asked, f"/incidents/{incident}?said=acknowledged")


def show_report(asked: Asked, incident: str) -> Response:
    """As it was written: a page of its own, which may do nothing here."""
    found = ask_show({"verb": "report", "incident": incident})
    headers = SECURITY | {"Content-Security-Policy": REPORT_POLICY}
    return Response(found["html"], headers, 200)


def show_backups(asked: Asked, component: str) -> Response:
    frame = frame_of(asked)
    seen = ask_show({"verb": "calendar", "component": component})
    return html(render("backups.html", frame, seen=seen), frame)


def show_exercises(asked: Asked) -> Response:
    frame = frame_of(asked)
    return html(render("exercises.html", frame, seen=ask_show({"verb": "exercises"})), frame)


def show_findings(asked: Asked) -> Response:
    frame, seen = frame_of(asked), ask_show({"verb": "findings"})
    open_ones = [it for it in seen["findings"] if not it["accepted"]]
    counts = {
        name: sum(it["severity"] == name for it in open_ones)
        for name in ("error", "warning", "note")
    }
    counts["accepted"] = len(seen["findings"]) - len(open_ones)
    body = render("findings.html", frame, seen=seen, counts=counts, rules=_by_rule(seen))
    return html(body, frame)


def _by_rule(seen: Json) -> list[Json]:
    groups = groupby(seen["findings"], key=lambda it: (it["accepted"], it["rule"]))
    found = [list(group) for _, group in groups]
    return [rows[0] | {"findings": rows} for rows in found]


def show_actions(asked: Asked) -> Response:
    frame = frame_of(asked)
    seen = ask_show({"verb": "actions"})
    review = review_row(seen["plan_review"])
    body = render("actions.html", frame, actions=action_rows(seen), review=review)
    return html(body, frame)


def take_link(asked: Asked) -> Response:
    try:
        session = redeem_link(asked.fields.get("link", ""))
    except LeewardError as error:
        return sign_in_page(asked, error=error)
    seconds = int((session.expires_at - frame_of(asked).now).total_seconds())
    cookie = f"{COOKIE}={session.token}; Max-Age={seconds}; {COOKIE_SHAPE}"
    return redirect(asked, "/?said=signed-in", Set_Cookie=cookie)


def take_sign_out(asked: Asked) -> Response:
    assert asked.claims is not None
    sign_out(asked.claims)
    return redirect(asked, "/sign-in", Set_Cookie=f"{COOKIE}=; Max-Age=0; {COOKIE_SHAPE}")
