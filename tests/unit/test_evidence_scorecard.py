"""The figures of a run: measured, or unknown; never green by default."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib.evidence import entries
from chalicelib.evidence.entries import Entry
from chalicelib.evidence.scorecard import Scorecard, score_run
from tests.evidence_sample import (
    INCIDENT,
    RUN,
    Recorder,
    at,
    failed_run,
    open_incident,
    recovered_run,
    the_proof,
)


def score(records) -> Scorecard:
    return score_run(INCIDENT, records.read(INCIDENT))


def test_recovered_run_in_figures():
    card = score(recovered_run())
    assert (card.rto_seconds, card.rto_objective_seconds, card.rto_met) == (43.87, 14400, True)
    assert (card.rpo_seconds, card.rpo_objective_seconds, card.rpo_met) == (0.0, 3600, True)
    assert (card.rows_lost, card.transactions_set_aside) == (0, 23)
    assert card.detection_seconds == 48.25
    assert card.ok


def test_line_of_a_drill_has_what_is_promised():
    line = score(recovered_run()).to_line(report="a/report.html", evidence="a")
    promised = {
        "scenario", "outcome", "rto_seconds", "rto_objective_seconds", "rpo_seconds",
        "rpo_objective_seconds", "rows_lost", "steps", "report", "evidence",
    }  # fmt: skip
    assert promised <= line.keys()
    assert [step["name"] for step in line["steps"]] == [
        "identify", "stop-writes", "restore", "replay", "verify", "resume",
    ]  # fmt: skip
    assert all(step.keys() == {"name", "seconds", "outcome", "found"} for step in line["steps"])


def test_retried_step_costs_from_its_first_start():
    identify = score(recovered_run()).steps[0]
    assert (identify.attempts, identify.seconds, identify.outcome) == (2, 4.5, "ok")


def test_failed_run_knows_no_figure_it_did_not_measure():
    card = score(failed_run())
    assert card.outcome == "failed"
    assert card.steps[-1].outcome == "failed"
    assert (card.rto_seconds, card.rpo_seconds, card.rows_lost) == (None, None, None)
    assert (card.rto_met, card.rpo_met, card.proven, card.ok) == (None, None, False, False)


def test_no_records_is_no_success():
    card = score_run(INCIDENT, [])
    assert (card.outcome, card.ok, card.steps) == ("unfinished", False, ())


@pytest.mark.parametrize(
    "kind", ["first-write", "data-loss", "proof", "run-finished", "run-started", "step-finished"]
)
def test_leaving_out_any_record_that_counts_is_not_green(kind):
    records = [record for record in recovered_run().read(INCIDENT) if record.kind != kind]
    assert not score_run(INCIDENT, records, run_id=RUN).ok


def test_proof_without_checks_proves_nothing():
    record = Recorder()
    open_incident(record)
    body = the_proof().to_json() | {"checks": []}
    record(9, entries.Entry("proof", body), step="verify")
    assert not score(record.records).proven


def test_last_proof_counts():
    record = Recorder()
    open_incident(record)
    record(9, entries.proven(the_proof()), step="verify")
    record(10, entries.proven(the_proof(failing=True)), step="verify")
    assert not score(record.records).proven


def test_write_before_the_alarm_does_not_stop_the_clock():
    record = Recorder()
    open_incident(record)
    record(9, entries.first_write(at=at(-5)))
    assert score(record.records).rto_seconds is None


def test_objective_missed_by_a_second_is_missed():
    record = Recorder()
    open_incident(record)
    record(9, entries.first_write(at=at(14401)))
    loss = {"last_commit_before_at": at(0), "last_commit_recovered_at": at(0) - timedelta(hours=2)}
    record(9, entries.data_loss(**loss, rows_lost=812, how="x"))
    card = score(record.records)
    assert (card.rto_met, card.rpo_met) == (False, False)
    assert (card.rpo_seconds, card.rows_lost) == (7200, 812)


def test_unknown_loss_stays_unknown():
    record = Recorder()
    open_incident(record)
    record(
        9,
        entries.data_loss(
            last_commit_before_at=None, last_commit_recovered_at=at(0), rows_lost=None, how="x"
        ),
    )
    card = score(record.records)
    assert (card.rpo_seconds, card.rpo_met, card.rows_lost) == (None, None, None)


def test_second_delivery_after_the_result_changes_nothing():
    record = Recorder()
    open_incident(record)
    record(1, entries.step_started(attempt=1), step="restore")
    record(3, entries.step_finished(found="done", outputs={}, seconds=2), step="restore")
    record(4, entries.step_started(attempt=2), step="restore")
    (step,) = score(record.records).steps
    assert (step.outcome, step.seconds, step.attempts) == ("ok", 2.0, 1)


def test_result_of_the_attempt_that_was_kept_counts():
    record = Recorder()
    open_incident(record)
    record(1, entries.step_started(attempt=1), step="restore")
    record(
        3,
        entries.step_finished(found="lost with its worker", outputs={}, seconds=2),
        step="restore",
    )
    record(4, entries.step_started(attempt=2), step="restore")
    record(6, entries.step_finished(found="kept", outputs={}, seconds=2), step="restore")
    (step,) = score(record.records).steps
    assert (step.found, step.seconds, step.attempts) == ("kept", 5.0, 2)


def test_step_that_was_killed_is_unfinished():
    record = Recorder()
    open_incident(record)
    record(1, entries.step_started(attempt=1), step="restore")
    (step,) = score(record.records).steps
    assert (step.outcome, step.seconds) == ("unfinished", None)


def test_another_run_of_the_incident_is_not_mixed_in():
    record = Recorder()
    open_incident(record)
    record(5, entries.first_write(at=at(5)), run_id="run-other")
    assert score(record.records).first_write_at is None


def test_of_several_components_the_worst_counts_and_one_without_proof_is_enough():
    def run_with(*said: tuple[str, str, dict]) -> Scorecard:
        record = Recorder()
        open_incident(record)
        for step, kind, body in said:
            record(60, Entry(kind, body), step=step)
        return score(record.records)

    def loss(step: str, minute: int, rows: int | None, **more):
        body = {
            "last_commit_before_at": "2026-11-22T08:30:00.000000Z",
            "last_commit_recovered_at": f"2026-11-22T08:{minute:02d}:00.000000Z",
            "rows_lost": rows,
            "how": "",
        }
        return step, "data-loss", body | more

    sound = ("one", "proof", {"checks": [{"name": "a", "ok": True, "found": ""}]})
    two = (loss("one", 29, 3), loss("two", 10, 4), sound)
    seen = ("last", "serving", {"at": "2026-11-22T08:50:00.000000Z", "how": ""})
    whole = run_with(*two, seen)
    assert (whole.rpo_seconds, whole.rows_lost, whole.proven) == (1200, 7, True)
    assert whole.first_write_at.minute == 50

    damaged = ("two", "proof", {"checks": [{"name": "a", "ok": False, "found": "gone"}]})
    assert not run_with(*two, damaged).proven
    assert run_with(loss("one", 29, 3), loss("two", 10, None)).rows_lost is None
    # What one component lost is not known, whatever another one's proof says.
    unsaid = loss("two", 10, 4, last_commit_recovered_at=None)
    dated = sound[2] | {"last_commit_at": "2026-11-22T08:30:00.000000Z"}
    assert run_with(unsaid, ("two", "proof", dated)).rpo_seconds == 0
    assert run_with(loss("one", 29, 3), unsaid, ("one", "proof", dated)).rpo_met is None
    assert not run_with(loss("one", 29, None)).loss_is_bounded
    assert run_with(loss("one", 29, None, bounded=True)).loss_is_bounded


def ended_in_part(*, named: bool) -> Scorecard:
    """A recovered run whose end says "partial", with or without a word on what is lost."""
    lost = entries.not_recovered(component="uploads", why="no copy", rule="LW087")
    chain = []
    for record in recovered_run().read(INCIDENT):
        if record.kind == "run-finished":
            if named:
                chain.append(replace(record, kind=lost.kind, body=lost.body))
            record = replace(record, body=record.body | {"outcome": "partial"})
        chain.append(record)
    return score_run(INCIDENT, chain, run_id=RUN)


def test_a_run_that_lost_something_for_good_is_not_green_and_names_it():
    card = ended_in_part(named=True)
    assert (card.outcome, card.ok, card.serves) == ("partial", False, True)
    assert card.shortfalls == ["not recovered: uploads: no copy"]


def test_a_run_in_part_that_names_no_loss_is_not_green_either():
    assert ended_in_part(named=False).shortfalls == ["the run recovered in part"]
