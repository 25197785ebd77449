"""What a report says of an attack: from the records alone, and nothing where there was none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from chalicelib.evidence.attack_entries import isolated, lifted
from chalicelib.evidence.attack_report import attack_rows
from chalicelib.evidence.render import render_html, render_markdown
from chalicelib.evidence.report import make_report
from chalicelib.plan.records import EvidenceRecord
from tests.unit.test_infection import FACTS, decide_infection

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
CUT = {
    "component": "uploads",
    "kind": "bucket-policy",
    "target": "assets",
    "found": "nobody writes",
    "made": [],
    "undo": "remove <the statement>",
}


def record(kind: str, body: dict[str, Any]) -> EvidenceRecord:
    return EvidenceRecord(
        seq=1, at=AT, previous="", kind=kind, actor="leeward", run_id="", step="", key="",
        body=body, digest="",
    )  # fmt: skip


def test_what_still_stands_is_told_with_its_undo_until_it_is_lifted() -> None:
    up = record(*isolated(CUT))
    [(what, said)] = attack_rows([up])
    assert what == "bucket-policy of assets"
    assert said == "nobody writes. STANDS; undo: remove <the statement>"
    gone = lifted(component="uploads", kind="bucket-policy", target="assets", found="as before")
    [(_, said)] = attack_rows([up, record(*gone)])
    assert said == "Lifted: as before"


def test_who_and_since_when_stand_in_both_reports_escaped() -> None:
    found = replace(decide_infection(FACTS), how="<script>")
    chain = [record("infection", found.to_json()), record(*isolated(CUT))]
    report = make_report("inc-1", chain)
    rows = dict(row.cells for row in report.attack)
    assert rows["Began"] == "2026-11-22 12:00:00 UTC"
    assert "203.0.113.66" in rows["Who"]
    html, markdown = render_html(report), render_markdown(report)
    assert "The attack" in html
    assert "The attack" in markdown
    assert "<script>" not in html


def test_no_other_run_has_the_section() -> None:
    report = make_report("inc-1", [record("run-started", {"scenario": "x"})])
    assert report.attack == ()
    assert "The attack" not in render_html(report)
