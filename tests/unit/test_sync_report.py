"""What `leeward sync` says of a run in shards that has ended, and of one that would be refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chalicelib.backup.bucket.sync import SyncResult
from chalicelib.backup.bucket.sync_decision import decide_key
from chalicelib.plan.model import Plan
from chalicelib.ports.buckets import ObjectRow
from chalicelib.services import build
from chalicelib.services.jobs.buckets import Synced, policy_at
from chalicelib.services.locations import Locations
from leeward.commands.sync import print_refusals, tell_shards
from leeward.plan_file import load_plan

RAISED = json.dumps(
    {"errorMessage": "s3control did not answer", "errorType": "Unavailable", "stackTrace": ["File"]}
)


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (RAISED, "Unavailable: s3control did not answer"),
        ("the state timed out", "Unavailable: the state timed out"),
        ('"text"', 'Unavailable: "text"'),
        ("{}", "Unavailable: {}"),
    ],
)
def test_a_failure_is_told_by_its_message_without_a_traceback(cause: str, told: str) -> None:
    found = {"done": None, "failure": {"Error": "Unavailable", "Cause": cause}}
    assert tell_shards(found) == told


def test_versions_that_were_removed_for_good_are_told_of_a_run_in_shards() -> None:
    done = {"source_objects": 9, "copied": 2, "deleted": 0, "failed": 0, "removed": 0}
    assert "REMOVED" not in tell_shards({"done": done, "failure": None})
    told = tell_shards({"done": done | {"removed": 1200}, "failure": None})
    assert told.endswith("0 failed, 1,200 VERSIONS REMOVED FOR GOOD")


@pytest.mark.parametrize(
    ("looked_for", "went_back", "deleted", "told"),
    [
        (100, 6, 0, "at most 5.0% of 100 objects to be older versions again, found 6"),
        (100, 0, 6, "at most 5.0% of 100 objects to be deleted, found 6"),
        (100, 5, 5, ""),
    ],
)
def test_a_dry_run_says_what_would_be_refused(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    looked_for: int,
    went_back: int,
    deleted: int,
    told: str,
) -> None:
    policies = Path(__file__).parents[2] / "policies" / "plans"
    plan = load_plan(policies / "nexus-studio.yaml").plan
    monkeypatch.setattr(build, "plan", lambda: plan)
    now = datetime(2026, 11, 22, 8, tzinfo=UTC)
    result = SyncResult(
        "source", "replica", now, now, dry_run=True, source_objects=100, replica_objects=100,
        reasons={"delete not-in-source": deleted}, copied=0, copied_bytes=0, deleted=0, vanished=0,
        missed=0, missed_keys=(), failed=0, failures=(), looked_for=looked_for,
        went_back=went_back,
    )  # fmt: skip
    print_refusals("nexus-uploads", Synced(result))
    said = capsys.readouterr().out
    assert said.startswith("without --approve: expected ") if told else said == ""
    assert told in said


def test_only_where_events_bring_changes_a_sync_tells_what_they_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policies = Path(__file__).parents[2] / "policies" / "plans"
    data = load_plan(policies / "nexus-studio.yaml").plan.to_json()
    data["components"]["nexus-uploads"]["backups"] = [
        {"kind": "replication", "to": ["secondary"], "copied_within": "20m"},
        {"kind": "sync", "when": "daily", "takes": "1h", "to": ["tertiary"]},
    ]
    plan = Plan.from_json(data)
    monkeypatch.setattr(build, "plan", lambda: plan)
    monkeypatch.setattr(build, "locations", lambda: Locations(plan, lambda name: {}))
    found = {it: policy_at("nexus-uploads", it).missed_after for it in plan.locations}
    minutes = timedelta(minutes=20)
    assert found == {"primary": minutes, "secondary": minutes, "tertiary": None}


def test_a_copy_in_a_folder_is_not_believed_by_the_clock_of_its_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten minutes ahead, it dates copies after changes that are still to come."""
    policies = Path(__file__).parents[2] / "policies" / "plans"
    data = load_plan(policies / "nexus-studio.yaml").plan.to_json()
    data["locations"]["nas"] = {"provider": "own", "role": "local", "path": "/mnt/nas"}
    plan = Plan.from_json(data)
    monkeypatch.setattr(build, "plan", lambda: plan)
    monkeypatch.setattr(build, "locations", lambda: Locations(plan, lambda name: {}))
    at = datetime(2026, 11, 22, 8, tzinfo=UTC)
    changed = ObjectRow("k", 1, "a" * 32, at + timedelta(minutes=1))
    copied = ObjectRow("k", 1, "", at + timedelta(minutes=10))
    assert decide_key(changed, copied, policy_at("nexus-uploads", "nas")).action == "copy"
    later = copied._replace(modified_at=at + timedelta(minutes=17))
    assert decide_key(changed, later, policy_at("nexus-uploads", "nas")).action == "leave"
    assert decide_key(changed, copied, policy_at("nexus-uploads", "tertiary")).action == "leave"
