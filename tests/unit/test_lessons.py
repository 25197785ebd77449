"""The lessons-learned log, as its readers get it: text, CSV for a spreadsheet, a plan's own log."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from chalicelib.services.views.actions import _items, _past
from leeward.commands.lessons import _FORMS
from leeward.plan_file import load_plan

PLAN = Path(__file__).parents[2] / "policies" / "plans" / "artist-tech.yaml"
HOSTILE = '=HYPERLINK("http://x","y") <script>alert(1)</script> **b** \x1b[31m'


@pytest.fixture(scope="module")
def past() -> list[dict[str, Any]]:
    return [_past(it) for it in load_plan(PLAN).plan.past_incidents]


def reviewed(**change: Any) -> dict[str, Any]:
    return {
        "on": "2026-11-22", "title": "Database corruption", "incident": "inc-1",
        "scenario": "database-corruption", "severity": "SEV1", "outcome": "recovered",
        "rto_seconds": 43.9, "rto_objective_seconds": 14400.0, "rpo_seconds": 0.0,
        "rpo_objective_seconds": 3600.0, "rows_lost": 0, "cause": "No WHERE", "impact": "None",
        "resolution": "Restored", "version": 1, "actions": [],
        "lessons": [{"says": "Limit statements", "owner": "DBA Lead", "done": False}],
    } | change  # fmt: skip


def test_the_log_of_the_plans_document_comes_out_as_it_was_written(
    past: list[dict[str, Any]],
) -> None:
    """Source: the lessons-learned log of Artist Tech's plan."""
    log = _FORMS["markdown"](past)
    for line in (
        "## Lessons Learned Log",
        "### Incident: Database Corruption (2024-01-15)",
        "- **Cause**: Storage array failure",
        "- **Impact**: 2 hour downtime",
        "- **Resolution**: Restored from 1-hour old backup",
        "### Incident: Application Deployment Failure (2024-02-01)",
        "- **Cause**: Configuration error in deployment script",
    ):
        assert line in log.splitlines()
    assert "- **Measured**: RTO 2 h; RPO 1 h" in log
    assert "Implement more frequent backups (not done), Add storage redundancy (not done)" in log


def test_what_was_measured_stands_beside_what_was_promised() -> None:
    text = _FORMS["text"]([reviewed()])
    assert "RTO 43.9 s of 4 h; RPO 0 s of 1 h; 0 rows lost" in text
    assert "- Limit statements (DBA Lead, not done)" in text
    unknown = _FORMS["text"]([reviewed(rto_seconds=None, rows_lost=None)])
    assert "RTO unknown of 4 h" in unknown
    assert "rows lost" not in unknown


def test_a_spreadsheet_gets_a_line_for_each_lesson_and_runs_none_of_it() -> None:
    lessons = [{"says": HOSTILE, "owner": "-1+1", "done": None}, {"says": "b", "owner": None,
                                                                 "done": True}]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(_FORMS["csv"]([reviewed(lessons=lessons)]))))
    assert [row["lesson"] for row in rows] == [f"'{HOSTILE}", "b"]
    assert [row["owner"] for row in rows] == ["'-1+1", ""]
    assert rows[0]["rto_seconds"] == "43.9"
    assert len(list(csv.DictReader(io.StringIO(_FORMS["csv"]([reviewed(lessons=[])]))))) == 1


def test_markup_in_a_lesson_stays_text() -> None:
    hostile = reviewed(title=HOSTILE, cause=HOSTILE,
                       lessons=[{"says": HOSTILE, "owner": HOSTILE, "done": None}])  # fmt: skip
    shown = MarkdownIt("commonmark").render(_FORMS["markdown"]([hostile]))
    assert "<script" not in shown
    assert "<strong>b</strong>" not in shown
    assert "\x1b" not in _FORMS["text"]([hostile]) + _FORMS["markdown"]([hostile])


def test_json_is_what_was_shown_and_nothing_is_said_of_nothing() -> None:
    assert json.loads(_FORMS["json"]([reviewed()])) == {"lessons": [reviewed()]}
    assert _FORMS["text"]([]) == "nothing was learned yet\n"


@pytest.mark.parametrize(
    ("text", "lessons"),
    [
        ("- a\n-b\n- c d", ["a", "c d"]),
        ("One thing,\nsaid in two lines.", ["One thing, said in two lines."]),
        ("", []),
    ],
)
def test_each_item_of_a_list_is_a_lesson_and_without_one_all_of_it(
    text: str, lessons: list[str]
) -> None:
    assert _items(text) == lessons
