"""The report: from the records alone, the same every time, and no markup from what it quotes.

After a change that is meant to show: `LEEWARD_WRITE_GOLDEN=1 pytest tests/unit -k golden`.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from chalicelib.evidence import entries
from chalicelib.evidence.charts import draw_budget, draw_gantt, draw_ticks, sum_by_name
from chalicelib.evidence.render import escape_markdown, render_html, render_markdown
from chalicelib.evidence.report import Report, make_report
from chalicelib.evidence.scorecard import score_run
from chalicelib.evidence.text import in_units, printable
from chalicelib.plan.records import CheckResult
from tests.evidence_sample import (
    INCIDENT,
    Recorder,
    at,
    failed_run,
    find_and_fence,
    open_incident,
    recovered_run,
    restore_and_replay,
    the_damage,
    the_proof,
    verify_and_switch,
)

GOLDEN = Path(__file__).parents[1] / "golden"
HOSTILE = (
    "<img src=x onerror=alert(1)>\"'--><script>alert(1)</script>|`*_[x](http://evil.example)\n# h"
)
VOID = {"meta", "br", "rect", "line"}


def report_of(records) -> Report:
    return make_report(INCIDENT, records.read(INCIDENT))


class Page(HTMLParser):
    """The elements, attributes and text of a page; fails on a tag that is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(("name", "run"), [("recovered", recovered_run), ("failed", failed_run)])
@pytest.mark.parametrize(("suffix", "render"), [("html", render_html), ("md", render_markdown)])
def test_report_is_the_golden_one(name, run, suffix, render):
    path = GOLDEN / f"report-{name}.{suffix}"
    text = render(report_of(run()))
    assert text == render(report_of(run()))
    if os.environ.get("LEEWARD_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_first_screen_answers_what_happened_and_what_to_do():
    report = report_of(recovered_run())
    text = Page(render_html(report)).text
    first = text[: text.index("Time line")]
    for words in (
        "Recovered and proven",
        "Transaction 771 updated 12480 of 12480 rows of public.projects",
        "43.9 s",
        "objective 4 h",
        "Yes. 6 of 6 checks passed",
        "Merge 23 transactions committed after the damage",
    ):
        assert words in first


def test_failed_run_is_never_green():
    text = Page(render_html(report_of(failed_run()))).text
    first = text[: text.index("Time line")]
    assert "Not recovered" in first
    assert "projects-have-owners" in first
    assert "Writes to nexus-db are still stopped" in first
    assert "RTO is unknown" in first
    assert "choose an earlier moment and start the scenario again" in first


def test_page_needs_nothing_else_and_can_be_heard():
    page = Page(render_html(report_of(recovered_run())))
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert [name for _, name, _ in page.attributes if name in ("src", "href", "onload")] == []
    assert page.tags.count("h1") == 1
    labelled = [tag for tag, name, value in page.attributes if name == "aria-label" and value]
    assert labelled.count("svg") == page.tags.count("svg") > 0
    assert page.tags.count("caption") == page.tags.count("table")
    scopes = [tag for tag, name, _ in page.attributes if name == "scope"]
    assert scopes.count("th") == page.tags.count("th")
    assert ("html", "lang", "en") in page.attributes


def hostile_run() -> Recorder:
    record = Recorder()
    open_incident(record, name=HOSTILE)
    record(2, entries.step_started(attempt=1, does=HOSTILE), step=HOSTILE, actor=HOSTILE)
    record(3, entries.damage_found(the_damage(HOSTILE)), step=HOSTILE)
    record(3, entries.decision(what=HOSTILE, why=HOSTILE, alternatives=[HOSTILE]))
    record(3, entries.rejected_point(point=HOSTILE, reason=HOSTILE))
    proof = dataclasses.replace(the_proof(), checks=(CheckResult(HOSTILE, True, HOSTILE),))
    record(4, entries.proven(proof))
    record(4, entries.set_aside(transactions=1, rows=1, object_key=HOSTILE, unreadable=1))
    record(
        5, entries.step_finished(found=HOSTILE, outputs={HOSTILE: HOSTILE}, seconds=1), step=HOSTILE
    )
    record(5, entries.Entry(HOSTILE, {HOSTILE: HOSTILE}))
    record(6, entries.run_finished(outcome="failed", why=HOSTILE))
    return record


def test_markup_in_names_and_reasons_stays_text_in_html():
    plain = Page("".join(render_html(report_of(run())) for run in (recovered_run, failed_run)))
    page = Page(render_html(report_of(hostile_run().records)))
    assert set(page.tags) <= set(plain.tags)
    assert {name for _, name, _ in page.attributes} <= {n for _, n, _ in plain.attributes}
    assert "<img src=x onerror=alert(1)>" in page.text


def test_markup_in_names_and_reasons_stays_text_in_markdown():
    to_html = MarkdownIt("commonmark").enable("table")
    plain = Page(to_html.render(render_markdown(report_of(recovered_run()))))
    page = Page(to_html.render(render_markdown(report_of(hostile_run().records))))
    assert set(page.tags) <= set(plain.tags)
    assert page.tags.count("h1") == 1
    assert page.attributes == []
    assert "<img src=x onerror=alert(1)>" in page.text


@pytest.mark.parametrize("frame", ["- {}\n", "| a |\n|---|\n| {} |\n", "{}\n", "1. **{}**: x\n"])
@settings(deadline=None)
@given(text=st.text(st.sampled_from("\\`*_{}[]()<>#+-=.!|~$&:/@ 1aw\n\t\u202e\x1b"), max_size=12))
def test_text_survives_markdown(frame, text):
    expected = " ".join(printable(text).split())
    escaped = escape_markdown(text)
    shown = Page(MarkdownIt("commonmark").enable("table").render(frame.format(escaped)))
    assert expected in " ".join(shown.text.split())
    assert not {"a", "img", "h1", "h2", "code", "em", "pre", "hr"} & set(shown.tags)


def test_characters_that_move_or_turn_the_line_are_written_out():
    assert printable("a\x1b[2Jb\u202ec\u200bd") == "a\\x1b[2Jb\\u202ec\\u200bd"


ODD = [None, True, -1, 1.5, "x", [], ["x"], {}, {"x": 1}, [{"x": None}], "2026-11-22"]


KINDS = [
    "incident-opened",
    "alarm-joined",
    "run-started",
    "step-failed",
    "step-finished",
    "decision",
    "damage",
    "rejected-point",
    "chosen-point",
    "proof",
    "data-loss",
    "fenced",
    "unfenced",
    "set-aside",
    "first-write",
    "run-finished",
]
NAMES = [
    "alarm",
    "alarm_at",
    "damaged_at",
    "checks",
    "alternatives",
    "tables",
    "target",
    "at",
    "rows_lost",
    "seconds",
    "transactions",
    "outcome",
    "point",
    "found",
    "xid",
    "commit_lsn",
    "rto_objective_seconds",
    "last_commit_before_at",
    "scenario",
    "component",
    "plan_sha256",
    "severity",
    "proven_at",
    "last_commit_at",
    "hint",
    "message",
    "does",
]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(ODD)))
def test_odd_record_still_gives_a_report_and_no_green_one(kind, body):
    record = Recorder()
    open_incident(record)
    record(3, entries.Entry(kind, body), step="verify")
    report = report_of(record.records)
    assert not report.score.ok
    assert "</html>" in render_html(report)
    assert "How to check this report" in render_markdown(report)


def test_no_records_still_give_a_report():
    report = make_report(INCIDENT, [])
    assert report.verdict == "Not finished"
    assert "</html>" in render_html(report)
    assert "No step was recorded" in render_html(report)


def test_fence_that_was_opened_is_no_duty():
    record = Recorder()
    open_incident(record)
    find_and_fence(record)
    assert any("still stopped" in duty.what for duty in report_of(record.records).duties)
    restore_and_replay(record)
    verify_and_switch(record)
    assert not any("still stopped" in duty.what for duty in report_of(record.records).duties)


def test_application_that_writes_is_not_said_to_be_stopped():
    record = Recorder()
    open_incident(record)
    find_and_fence(record)
    record(9, entries.first_write(at=at(9)))
    assert not any("still stopped" in duty.what for duty in report_of(record.records).duties)


def test_lost_rows_are_the_first_thing_to_do():
    record = Recorder()
    open_incident(record)
    loss = {"last_commit_before_at": at(-5), "last_commit_recovered_at": at(-95)}
    record(3, entries.data_loss(**loss, rows_lost=812, how="x"))
    record(4, entries.run_finished(outcome="recovered"))
    report = report_of(record.records)
    assert "812 committed rows are lost" in report.duties[0].what
    assert report.duties[0].urgent
    assert report.verdict == "Recovered, with shortfalls"


def test_nothing_that_was_set_aside_is_said_in_a_sentence():
    record = Recorder()
    open_incident(record)
    record(4, entries.set_aside(transactions=0, rows=0, object_key="", unreadable=0))
    page = Page(render_html(report_of(record.records)))
    assert "No transaction that changed rows after the damage was found" in page.text
    assert "set aside in" not in page.text


def test_budget_adds_up_to_the_measured_rto():
    score = score_run(INCIDENT, recovered_run().read(INCIDENT))
    shares = draw_budget(score)
    assert sum(share.seconds for share in shares) == pytest.approx(score.rto_seconds)
    assert sum(share.width for share in shares) == pytest.approx(100, abs=0.01)
    sums = {share.name: share.seconds for share in sum_by_name(shares)}
    assert sums["restore"] == 9.2
    assert sums["between steps"] == pytest.approx(2.3)


def test_bars_stay_on_the_axis():
    records = recovered_run().read(INCIDENT)
    gantt = draw_gantt(score_run(INCIDENT, records), records[-1].at)
    assert all(bar.left >= 0 and bar.left + bar.width <= 100 for bar in gantt.bars)
    assert [bar.left for bar in gantt.bars] == sorted(bar.left for bar in gantt.bars)


@settings(deadline=None)
@given(st.floats(0.001, 40 * 86400))
def test_ticks_are_few_and_in_place(span):
    ticks = draw_ticks(span)
    assert 1 <= len(ticks) <= 7
    assert ticks[0].left == 0
    assert all(tick.left <= 100 for tick in ticks)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "unknown"), (0, "0 s"), (0.42, "0.42 s"), (1, "1 s"), (12.34, "12.3 s"),
     (59.96, "1 min"), (250, "4 min 10 s"), (7500, "2 h 5 min"), (14400, "4 h"),
     (273600, "3 d 4 h"), (-3, "-3 s")],
)  # fmt: skip
def test_seconds_are_told_in_units(seconds, text):
    assert in_units(seconds) == text


def test_importing_the_report_costs_no_template_engine():
    code = (
        "import sys, chalicelib.evidence.render, chalicelib.evidence.verify\n"
        "print([name for name in ('jinja2', 'cryptography', 'boto3') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
