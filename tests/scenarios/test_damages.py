"""Every damage that a drill can do, found and recovered by the deployed package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leeward.commands.drill import result_line
from leeward.local.damage import DAMAGES
from leeward.local.stages.database import DAMAGES_TO_BACKUPS
from tests.scenarios.drills import run_drill

# What the run must say it found, by damage.
FOUND = {
    "update-without-where": "mass-update",
    "delete-without-where": "mass-delete",
    "truncate": "truncate",
    "drop-table": "drop",
    "rename-table": "rename",
    "drop-database": "drop",
    "wrong-migration": "rewrite",
    "heap-bytes": "page",
    "relation-file": "relation-file",
    "index-mismatch": "index",
    "wal-segment": "mass-update",
    "backup-object": "mass-update",
}


def test_every_damage_is_tried() -> None:
    assert set(FOUND) == set(DAMAGES)


@pytest.mark.parametrize("damage", FOUND)
def test_it_is_found_and_recovered(damage: str, tmp_path: Path) -> None:
    result, heard = run_drill(tmp_path, damage)
    records = [told.record for told in heard if told.record]
    assert result.problems == [], [
        record.body for record in records if record.kind == "step-failed"
    ]
    assert result.reckoning is not None
    assert result.reckoning.committed > 50
    assert result.reckoning.lost == ()

    said = next(record.body for record in records if record.kind == "damage")
    assert said["kind"] == FOUND[damage]
    injected = result.injected[-1]
    if injected.xid is not None:
        assert said["xid"] == injected.xid

    refused = [record.body["point"] for record in records if record.kind == "rejected-point"]
    assert bool(refused) == (damage in DAMAGES_TO_BACKUPS)
    if damage == "wal-segment":
        assert any("GAP" in told.text for told in heard)

    line = json.loads(json.dumps(result_line(result)))
    assert line["outcome"] == "recovered"
    assert line["rows_lost"] == 0
    assert 0 < line["rto_seconds"] < line["rto_objective_seconds"]
    assert 0 <= line["rpo_seconds"] < line["rpo_objective_seconds"]
    assert all(step["outcome"] == "ok" and step["found"] for step in line["steps"])
    assert Path(line["report"]).stat().st_size > 10_000
