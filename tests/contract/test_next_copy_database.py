"""A database's steps read on from another location where points or WAL of one turn out damaged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.errors import Damaged
from chalicelib.evidence.records import StoredRecords
from chalicelib.incidents.run import Run
from chalicelib.plan.model import Plan
from chalicelib.services import build
from chalicelib.services.locations import Locations
from chalicelib.services.steps.database import rebuild
from chalicelib.services.steps.database.rebuild import data_folder
from leeward.plan_file import load_plan
from tests.commands import NEXUS
from tests.fakes import InMemoryObjectStore
from tests.fakes_state import InMemoryState
from tests.restores import END, World
from tests.restores import history as history

CLOCK = SystemClock()
# The primary one, and its copy.
HERE, THERE = "primary", "secondary"


class Places(Locations):
    """Two folders; the others of the plan hold nothing."""

    folders: Path

    def of(self, component: str) -> tuple[str, ...]:
        return (HERE, THERE)

    def catalogue(self, location: str, component: str, **rest: Any) -> StoredCatalogue:
        told = rest.get("quarantined")
        return StoredCatalogue(self.store(location, component), "db", quarantined=told)

    def _open(self, name: str, component: str) -> FolderObjectStore:
        return FolderObjectStore(self.folders / name)


@pytest.fixture
def copies(history: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:  # noqa: F811
    for name in (HERE, THERE):
        shutil.copytree(history.root / "store", tmp_path / name)
    plan, state = load_plan(NEXUS).plan, InMemoryState()
    places = Places(plan, lambda name: {})
    places.folders = tmp_path
    here = SimpleNamespace(work_dir=tmp_path / "work", postgres=None, region="us-east-1")
    records = StoredRecords(InMemoryObjectStore(), CLOCK)
    made: dict[str, Any] = {
        "plan": plan, "state": state, "locations": places, "environment": here, "records": records,
    }  # fmt: skip
    for name, value in made.items():
        monkeypatch.setattr(build, name, lambda value=value: value)
    yield tmp_path
    shutil.rmtree(tmp_path / "work", ignore_errors=True)


def run_of(step: str) -> Run:
    """At another site, as nobody can be asked for the last WAL here."""
    at = datetime(2026, 11, 22, tzinfo=UTC)
    plan: Plan = build.plan()
    name = next(it for it, found in plan.scenarios.items() if not found.loses)
    return Run("run-1", step, "inc-1", name, "nexus-db", at, None, site="elsewhere")


def restore() -> dict[str, Any]:
    return rebuild.restore_step(
        run_of("restore"), {"component": "nexus-db", "target": END.to_json()}
    )


def replay() -> dict[str, Any]:
    return rebuild.replay_step(run_of("replay"), {"component": "nexus-db", "target": END.to_json()})


def told(kind: str) -> list[dict[str, Any]]:
    return [it.body for it in build.records().read("inc-1") if it.kind == kind]


def spoil(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)


def newest_of(folder: Path) -> str:
    return max(it.name for it in (folder / "points").iterdir())


def test_an_older_point_of_the_same_wal_loses_nothing_and_is_taken(copies: Path) -> None:
    newest = newest_of(copies / HERE)
    spoil(copies / HERE, f"points/{newest}/base.tar.zst")
    done = restore()
    assert done["point"] != newest
    assert "from primary" in done["found"]
    assert "0 committed transactions lost" in replay()["found"]


def test_where_no_point_is_whole_another_location_is_restored_from(copies: Path) -> None:
    spoil(copies / HERE, "points/*/base.tar.zst")
    done = restore()
    assert done["point"] == newest_of(copies / THERE)
    assert "from secondary" in done["found"]
    assert any(it["what"] == "read backups from secondary" for it in told("decision"))
    assert "may lack what was written last" in done["found"] or "not asked" in done["found"]
    replay()
    assert told("chosen-point")[-1]["point"] == done["point"]


def test_what_leads_less_far_than_it_seemed_is_left_for_a_copy_that_leads_there(
    copies: Path,
) -> None:
    """The WAL has a gap before the newest full backup: an older point ends at the gap."""
    segments = StoredCatalogue(FolderObjectStore(copies / HERE), "db").inventory()
    newest = segments.points[-1]
    gap = [it for it in segments.wal.segments if it.end_lsn <= newest.start_lsn][-1]
    for name in (HERE, THERE):
        (copies / name / gap.key).unlink()
    spoil(copies / HERE, f"points/{newest.id}/base.tar.zst")
    done = restore()
    assert (done["point"], "from secondary" in done["found"]) == (newest.id, True)


def test_damaged_wal_is_read_from_another_location(copies: Path) -> None:
    done = restore()
    assert "from primary" in done["found"]
    spoil(copies / HERE, "wal/*/*")
    replayed = replay()
    assert replayed["recovered_lsn"] > 0
    assert any("wal" in it["why"] for it in told("decision"))
    assert "at least 0" in replayed["found"], "what the copy lacks nobody knows"


def test_an_attempt_that_dies_while_it_changes_over_is_repeated(
    copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore()
    spoil(copies / HERE, "wal/*/*")
    whole = rebuild.restore

    def dying(*words: Any, **named: Any) -> Any:
        whole(*words, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(rebuild, "restore", dying)
    with pytest.raises(KeyboardInterrupt):
        replay()
    monkeypatch.setattr(rebuild, "restore", whole)
    assert replay()["recovered_lsn"] > 0


def test_with_no_other_location_the_damage_itself_is_told(copies: Path) -> None:
    restore()
    for name in (HERE, THERE):
        spoil(copies / name, "wal/*/*")
    with pytest.raises(Damaged) as caught:
        replay()
    assert caught.value.instance_code in ("wal-gap", "wal-unreadable")
    assert not (data_folder(run_of("replay")) / "leeward-replayed.json").exists()
