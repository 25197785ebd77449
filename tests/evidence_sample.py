"""A recovery as the run code records it: the update without WHERE of the Nexus plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.errors import CheckFailed, DigestMismatch, Unavailable
from chalicelib.evidence import entries
from chalicelib.evidence.entries import Entry
from chalicelib.plan.records import CheckResult, Damage, Proof, RecoveryTarget
from tests.fakes_records import InMemoryRecords, SteppingClock

INCIDENT = "inc-20261122T084500Z-nexus-db"
RUN = "run-20261122T084500Z-nexus-db"
PLAN_SHA256 = "5f3c9a0e" * 8
ALARM_AT = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """So many seconds after the alarm."""
    return ALARM_AT + timedelta(seconds=seconds)


class Recorder:
    """Appends entries at given seconds after the alarm."""

    def __init__(self) -> None:
        self.clock = SteppingClock(step=timedelta(0))
        self.records = InMemoryRecords(self.clock)

    def __call__(self, seconds: float, entry: Entry, *, step: str = "", **who: Any) -> None:
        self.clock.at = at(seconds)
        who = {"actor": "leeward", "run_id": RUN} | who
        self.records.append(INCIDENT, *entry, step=step, **who)


def open_incident(record: Recorder, name: str = "nexus-db-rows-changed") -> None:
    record(
        1.1,
        entries.incident_opened(
            alarm=name,
            alarm_at=ALARM_AT,
            component="nexus-db",
            scenario="database-corruption",
            severity="SEV1",
            reason="1 check failed: projects-have-owners found 12480 projects without an owner",
        ),
        run_id="",
    )
    record(
        1.3,
        entries.run_started(
            scenario="database-corruption",
            component="nexus-db",
            plan_sha256=PLAN_SHA256,
            execution="arn:aws:states:us-east-1:123456789012:execution:leeward-database-corruption:"
            + RUN,
            rto_objective_seconds=14400,
            rpo_objective_seconds=3600,
        ),
    )
    record(1.8, entries.alarm_joined(alarm="nexus-api-errors", alarm_at=at(1.7)), run_id="")


def the_damage(table: str = "public.projects") -> Damage:
    return Damage(
        kind="mass-update",
        found=f"transaction 771 updated 12480 of 12480 rows of {table}",
        how="row changes per transaction, read from 9 WAL segments",
        target=RecoveryTarget(kind="xid", value="771", lsn=0x5A03F20),
        detected_at=at(6.2),
        damaged_at=at(-48.25),
        xid=771,
        commit_lsn=0x5A9C0E8,
        tables=(table,),
        rows=12480,
        alternatives=(
            {
                "xid": 744,
                "committed_at": "2026-11-22T08:41:07.310000Z",
                "tables": ["public.asset_tags"],
                "rows": 312,
                "why": "312 rows, 1.4 times what this table sees every day",
            },
            {
                "xid": 780,
                "committed_at": "2026-11-22T08:44:31.002000Z",
                "tables": ["public.sessions"],
                "rows": 190,
                "why": "the nightly clean-up of sessions deletes as many",
            },
        ),
    )


def the_proof(*, failing: bool = False) -> Proof:
    checks = (
        CheckResult("projects-exist", True, "12480 rows, expected more than 0", 0.021),
        CheckResult(
            "projects-have-owners",
            not failing,
            "expected 0 projects without an owner, found 12480" if failing else "0, expected 0",
            0.034,
        ),
        CheckResult("freshness of public.projects", True, "newest row 0.3 s before 771", 0.008),
        CheckResult("page checksums", True, "41208 blocks in 1312 files, 0 bad", 1.84),
        CheckResult("amcheck", True, "87 relations, heap and indexes agree", 2.41),
        CheckResult("schema digest", True, "as recorded on 2026-11-22 02:00:41 UTC", 0.19),
    )
    return Proof(
        component="nexus-db",
        point_id="20261122T020012Z-full",
        proven_at=at(31.9),
        target=RecoveryTarget(kind="xid", value="771", lsn=0x5A03F20),
        recovered_lsn=0x5A03F20,
        last_commit_at=at(-48.62),
        checks=checks,
        seconds={"start": 0.8, "checks": 4.5},
    )


def find_and_fence(record: Recorder) -> None:
    record(
        1.9, entries.step_started(attempt=1, does="Identify corruption timestamp"), step="identify"
    )
    record(
        3.4,
        entries.step_failed(Unavailable("nexus-db did not answer: ConnectionTimeout"), attempt=1),
        step="identify",
    )
    record(
        4.4, entries.step_started(attempt=2, does="Identify corruption timestamp"), step="identify"
    )
    record(6.2, entries.damage_found(the_damage()), step="identify")
    record(
        6.3,
        entries.decision(
            what="recover to the instant before transaction 771",
            why="it changed 40 times as many rows as any other transaction of the last day",
            alternatives=("transaction 744", "transaction 780", "a moment that a person names"),
        ),
        step="identify",
    )
    record(
        6.4,
        entries.step_finished(
            found="transaction 771 updated 12480 rows of public.projects at 08:44:11 UTC",
            outputs={"target": {"kind": "xid", "value": "771"}},
            seconds=1.97,
        ),
        step="identify",
    )
    record(6.9, entries.step_started(attempt=1, does="Stop write operations"), step="stop-writes")
    record(7.6, entries.fenced(token=7, ended=14, seconds=0.41), step="stop-writes")
    record(
        7.7,
        entries.step_finished(
            found="writes stopped after 0.41 s, 14 sessions of nexus_app ended",
            outputs={"token": 7, "ended": 14},
            seconds=0.74,
        ),
        step="stop-writes",
    )


def restore_and_replay(record: Recorder) -> None:
    record(
        8.1,
        entries.step_started(attempt=1, does="Restore from latest clean backup"),
        step="restore",
    )
    broken = DigestMismatch("base.tar.zst: expected sha256 9b1d..., found 04fe...")
    record(
        10.7,
        entries.rejected_point(point="20261122T080004Z-incr", reason=broken.message),
        step="restore",
    )
    record(
        10.8,
        entries.chosen_point(
            point="20261122T020012Z-full",
            reason="the newest one before transaction 771 whose every digest agrees",
            taken_at=datetime(2026, 11, 22, 2, 0, 12, tzinfo=UTC),
            chain=["20261122T020012Z-full"],
        ),
        step="restore",
    )
    record(
        17.3,
        entries.step_finished(
            found="20261122T020012Z-full restored: 318 MiB in 6.4 s; a newer one was refused",
            outputs={"point": "20261122T020012Z-full"},
            seconds=9.2,
        ),
        step="restore",
    )
    record(17.8, entries.step_started(attempt=1, does="Apply transaction logs"), step="replay")
    record(
        25.2,
        entries.step_finished(
            found="81 WAL segments replayed up to 0/5A03F20, the last commit is of 08:44:11 UTC",
            outputs={"recovered_lsn": "0/5A03F20"},
            seconds=7.38,
        ),
        step="replay",
    )


def verify_and_switch(record: Recorder) -> None:
    record(25.7, entries.step_started(attempt=1, does="Verify data integrity"), step="verify")
    record(31.9, entries.proven(the_proof()), step="verify")
    record(
        32.0,
        entries.data_loss(
            last_commit_before_at=at(-48.62),
            last_commit_recovered_at=at(-48.62),
            rows_lost=0,
            how="commit records of the WAL before 771 against pg_last_committed_xact()",
        ),
        step="verify",
    )
    record(
        32.1,
        entries.step_finished(found="6 of 6 checks passed", outputs={}, seconds=6.31),
        step="verify",
    )
    record(32.5, entries.step_started(attempt=1, does="Resume operations"), step="resume")
    record(
        33.9,
        entries.set_aside(transactions=23, rows=61, object_key="set-aside.jsonl"),
        step="resume",
    )
    record(43.4, entries.unfenced(token=7, seconds=0.06), step="resume")
    record(44.02, entries.first_write(at=at(43.87)), step="resume")
    record(
        44.1,
        entries.step_finished(
            found="nexus_app writes to nexus_recovery_7",
            outputs={"database": "nexus_recovery_7"},
            seconds=11.6,
        ),
        step="resume",
    )


def recovered_run() -> InMemoryRecords:
    """Records of a run that recovered, with a retried step and a refused recovery point."""
    record = Recorder()
    open_incident(record)
    find_and_fence(record)
    restore_and_replay(record)
    verify_and_switch(record)
    record(44.6, entries.run_finished(outcome="recovered"))
    record(44.8, entries.incident_closed(why="recovered and proven"), run_id="")
    return record.records


def failed_run() -> InMemoryRecords:
    """Records of a run that stopped at a failed assertion: nothing was switched."""
    record = Recorder()
    open_incident(record)
    find_and_fence(record)
    restore_and_replay(record)
    record(25.7, entries.step_started(attempt=1, does="Verify data integrity"), step="verify")
    record(31.9, entries.proven(the_proof(failing=True)), step="verify")
    error = CheckFailed(
        "projects-have-owners: expected 0 projects without an owner, found 12480",
        hint="choose an earlier moment and start the scenario again",
    )
    record(32.1, entries.step_failed(error, attempt=1), step="verify")
    record(32.6, entries.run_finished(outcome="failed", why=error.message))
    return record.records
