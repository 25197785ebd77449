"""The pages say what is, in words and shapes, and nothing that they are told becomes markup."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import Refused
from chalicelib.pages.actions import action_rows, review_row
from chalicelib.pages.notices import Notice
from chalicelib.pages.overview import component_rows, headlines, may_answer
from chalicelib.pages.render import Frame, render, style_source
from chalicelib.pages.shapes import draw_bars, draw_gauge, draw_spark
from chalicelib.pages.words import READINESS, RUN, STEP, UNKNOWN, mark

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FRAME = Frame("/api", NOW, person="cto", tokens={"/sign-out": "t"})
HOSTILE = "<script>alert(1)</script>&\"'`\u202e"


def seen(**changed: Any) -> dict[str, Any]:
    ready = {"component": "db", "level": "ready", "why": "proven", "points": 1, "proof": None}
    rpo = {"component": "db", "level": "within", "why": "", "age_seconds": 60.0,
           "objective_seconds": 3600.0, "history": []}  # fmt: skip
    base: dict[str, Any] = {
        "plan": "nexus", "incidents": [], "ended": [], "approvals": [], "exercises": 0,
        "failing": [], "readiness": {"components": [ready]}, "rpo": {"components": [rpo]},
        "alarms": {"known": True, "looked_at": None, "alarms": []},
    }  # fmt: skip
    return base | changed


def components(**levels: str) -> dict[str, Any]:
    return {"components": [
        {"component": name, "level": level, "why": "", "points": 0, "proof": None}
        for name, level in levels.items()
    ]}  # fmt: skip


def incident(**changed: Any) -> dict[str, Any]:
    return {"incident": "inc-1", "scenario": "corruption", "component": "db", "severity": "SEV1",
            "drill": False} | changed  # fmt: skip


def question(**changed: Any) -> dict[str, Any]:
    return {"step": "restore", "says": "Restore", "people": ["cto", "dba"], "by": []} | changed


def test_a_quiet_night_is_three_times_green() -> None:
    assert [it.tone for it in headlines(seen(), "cto")] == ["good", "good", "good"]


def test_a_raised_alarm_or_one_that_nobody_looked_for_is_no_quiet_night() -> None:
    raised = {"known": True, "looked_at": None, "alarms": [{"alarm": "a"}, {"alarm": "b"}]}
    [fire, *_] = headlines(seen(alarms=raised), "cto")
    assert (fire.tone, fire.says, fire.where) == ("warn", "2 alarms raised", "#alarms")
    [fire, *_] = headlines(seen(alarms=raised, incidents=[incident()]), "cto")
    assert (fire.tone, fire.says) == ("bad", "corruption, db; 2 alarms raised")
    unknown = {"known": False, "looked_at": None, "alarms": []}
    [fire, *_] = headlines(seen(alarms=unknown), "cto")
    assert (fire.tone, fire.says) == ("bad", "nobody has looked which alarms are raised")


def test_what_was_never_promised_is_not_told_as_kept() -> None:
    assert headlines(seen(), "cto")[2].says == "all within their RPO"
    free = seen()["rpo"]["components"][0] | {"level": "not-promised", "objective_seconds": None}
    found = headlines(seen(rpo={"components": [free]}), "cto")[2]
    assert found.says == "no RPO promised: db"


@pytest.mark.parametrize(
    ("found", "which", "answer", "tone"),
    [
        (seen(incidents=[incident()]), 0, "1 open", "bad"),
        (seen(incidents=[incident(drill=True)]), 0, "None open", "live"),
        (seen(approvals=[question()]), 1, "1 answer", "warn"),
        (seen(approvals=[question(by=["cto"])]), 1, "Nothing", "good"),
        (seen(approvals=[question(people=["dba"])]), 1, "Nothing", "good"),
        (seen(readiness=components(db="not-ready", files="ready")), 2, "1 of 2 proven", "bad"),
        (seen(readiness=components(db="no-copies")), 2, "Unknown", "bad"),
        (seen(rpo={"components": [{"component": "db", "level": "over"}]}), 2, "1 of 1 proven",
         "bad"),
        (seen(rpo={"components": [{"component": "db", "level": "unknown"}]}), 2, "1 of 1 proven",
         "bad"),
    ],
)  # fmt: skip
def test_each_of_the_three_answers_can_be_bad(
    found: dict[str, Any], which: int, answer: str, tone: str
) -> None:
    head = headlines(found, "cto")[which]
    assert (head.answer, head.tone) == (answer, tone)


def test_whose_answer_it_is() -> None:
    assert may_answer(question(), "cto")
    assert not may_answer(question(by=["cto"]), "cto")
    assert not may_answer(question(), "mallory")


def test_what_is_not_ready_comes_first() -> None:
    found = seen(readiness=components(a="no-copies", b="ready", c="not-ready"))
    assert [row.ready["component"] for row in component_rows(found)] == ["c", "b", "a"]


@pytest.mark.parametrize("table", [READINESS, STEP, RUN])
def test_a_state_that_no_page_knows_is_never_green(table: dict[str, Any]) -> None:
    assert mark(table, "invented").tone == "bad"
    assert mark(table, "").word == "unknown"


def overview(found: dict[str, Any]) -> str:
    names = ("plan", "incidents", "ended", "approvals", "alarms", "exercises", "failing")
    return render(
        "overview.html", FRAME, **{name: found[name] for name in names}, said=None,
        heads=headlines(found, "cto"), rows=component_rows(found), others=[HOSTILE],
        open=2, overdue=1, review={"mark": UNKNOWN, "why": HOSTILE},
    )  # fmt: skip


def test_a_storm_of_alarms_is_counted_and_folded_and_all_of_it_is_there() -> None:
    raised = [
        {"alarm": f"alarm-{it:02}", "description": "d", "raised_at": "2026-11-22T11:00:00Z"}
        for it in range(40)
    ]
    body = overview(seen(alarms={"known": True, "looked_at": None, "alarms": raised}))
    assert "Raised alarms: 40" in body
    shown, folded = body.split("And 32 more, raised later")
    assert "alarm-07" in shown
    assert "alarm-08" not in shown
    assert all(it["alarm"] in body for it in raised)
    assert "</details>" in folded
    few = overview(seen(alarms={"known": True, "looked_at": None, "alarms": raised[:8]}))
    assert "raised later" not in few


def test_the_first_page_escapes_whatever_it_is_told() -> None:
    it = incident(opened_at="2026-11-22T11:00:00Z", run_status=HOSTILE, waits_for=[HOSTILE],
                  scenario=HOSTILE, component=HOSTILE, incident=HOSTILE)  # fmt: skip
    body = overview(seen(incidents=[it], plan=HOSTILE, failing=[HOSTILE]))
    assert "<script" not in body
    assert "1 of them overdue" in body
    assert "\u202e" not in body
    assert "\\u202e" in body, "what turns the line round is written out"


@given(st.text(max_size=40))
def test_a_notice_is_text_and_its_backticks_are_code(text: str) -> None:
    said = Notice.of(Refused(text, hint=f"say `{text}` <b>"))
    body = render("problem.html", FRAME, title="x", said=said)
    assert "<b>" not in body
    assert body.count("<script") == 0


def test_the_style_is_the_one_that_the_policy_allows() -> None:
    import base64
    import hashlib
    import re

    body = render("problem.html", FRAME, title="x", said=None)
    [style] = re.findall(r"<style>(.*?)</style>", body, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert style_source() == f"'sha256-{digest}'"
    assert " style=" not in body


def test_a_gauge_shows_going_over_and_fills_nothing_when_nothing_is_known() -> None:
    assert draw_gauge(1800, 3600, "Lost").fill == 37.5
    assert draw_gauge(9000, 3600, "Lost").fill == 100.0
    unknown = draw_gauge(None, 3600, "Lost")
    assert (unknown.fill, unknown.says) == (0.0, "Lost: unknown")


def test_a_day_with_a_gap_says_how_long_nothing_is_known() -> None:
    drawn = draw_spark([None, None, 60.0, 7200.0], 3600.0)
    assert drawn is not None
    assert drawn.says == "Last 24 h: at worst 2 h of 1 h, unknown for 12.0 h"
    assert [(it.width, it.state) for it in drawn.columns] == [
        (2, "unknown"), (1, "good"), (1, "bad"),
    ]  # fmt: skip
    assert draw_spark([], 3600.0) is None
    nothing = draw_spark([None] * 4, 3600.0)
    assert nothing is not None
    assert nothing.says == "Last 24 h: nothing is known"


def test_the_bars_of_a_run_lie_between_the_alarm_and_now() -> None:
    run = {"alarm_at": "2026-11-22T11:59:00Z", "status": "running", "steps": [
        {"step": "a", "state": "done", "started_at": "2026-11-22T11:59:15Z",
         "ended_at": "2026-11-22T11:59:30Z"},
        {"step": "b", "state": "running", "started_at": "2026-11-22T11:59:30Z", "ended_at": None},
        {"step": "c", "state": "not-begun", "started_at": None, "ended_at": None},
    ]}  # fmt: skip
    bars = draw_bars(run, NOW)
    assert (bars["a"].left, bars["a"].width) == (25.0, 25.0)
    assert (bars["b"].left, bars["b"].width) == (50.0, 50.0)
    assert "c" not in bars


def test_what_is_late_is_said_to_be() -> None:
    names = ("action", "what", "incident", "owner_title", "due_on")
    told = {"actions": [
        dict.fromkeys(names, "x") | {"standing": standing}
        for standing in ("overdue", "due soon", "open", "done", "dropped", "never heard of")
    ]}  # fmt: skip
    marks = [it["mark"] for it in action_rows(told)]
    words = ["Overdue", "Due soon", "Open", "Done", "Dropped", "unknown"]
    assert [it.word for it in marks] == words
    assert [it.tone for it in marks] == ["bad", "warn", "quiet", "good", "quiet", "bad"]


def test_a_review_of_the_plan_that_is_overdue_is_red() -> None:
    row = review_row({"standing": "overdue", "due_on": None, "why": "no date is known"})
    assert row is not None
    assert (row["mark"].tone, row["why"]) == ("bad", "no date is known")
    assert review_row(None) is None


@pytest.mark.parametrize(("line", "shown"), [(152, True), (None, False)])
def test_a_finding_leads_to_its_line_where_that_is_known(line: int | None, shown: bool) -> None:
    one = {"rule": "LW001", "title": "T", "severity": "error", "path": "components.db", "hint": "h",
           "message": "m", "line": line, "accepted": False}  # fmt: skip
    told = {"plan": "nexus", "file": "nexus.yaml" if line else None}
    counts = {"error": 1, "warning": 0, "note": 0, "accepted": 0}
    page = render(
        "findings.html", FRAME, seen=told, counts=counts, rules=[one | {"findings": [one]}]
    )
    assert ("line 152" in page, "nexus.yaml" in page) == (shown, shown)
    assert "None" not in page
