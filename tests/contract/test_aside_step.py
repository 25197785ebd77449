"""What was committed after the damage is kept whole, also where it began long before it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.plan.records import RecoveryTarget
from chalicelib.recover.database.set_aside import SetAside
from chalicelib.services import build
from chalicelib.services.steps.database import aside
from chalicelib.services.steps.sources import Source
from tests.contract.test_switch_circle import Circle, circle
from tests.fakes import InMemoryObjectStore

__all__ = ["circle"]
RUN: Any = SimpleNamespace(run_id="run-1", incident_id="inc-1", site="", drill=False)


@pytest.fixture
def kept(
    circle: Circle,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> InMemoryObjectStore:
    """The incident's store; the step reads the circle's."""
    store = InMemoryObjectStore()
    here = SimpleNamespace(work_dir=tmp_path / "work", postgres=None)
    (here.work_dir / RUN.run_id).mkdir(parents=True)
    for name, made in (
        ("environment", lambda: here),
        ("evidence_store", lambda: store),
        ("operator", lambda component, name="": PostgresDatabases(circle.operator_dsn)),
    ):
        monkeypatch.setattr(build, name, made)
    chosen = Source("primary", circle.store, circle.catalogue)
    monkeypatch.setattr(aside, "source_of", lambda run, component: chosen)
    monkeypatch.setattr(aside, "damaged_database", lambda run: "nexus")
    return store


def set_aside(target: RecoveryTarget) -> SetAside:
    damage: Any = SimpleNamespace(target=target, damaged_at=None)
    return aside._set_aside(RUN, "db", damage)[0]


def new_segment(server: Any) -> None:
    server.run("CREATE TABLE IF NOT EXISTS filler (n int)", "INSERT INTO filler VALUES (1)")
    server.run("SELECT pg_switch_wal()")


@pytest.mark.parametrize("segments", [1, 12])
def test_rows_from_before_the_damage_that_were_committed_after_it(
    circle: Circle,  # noqa: F811
    kept: InMemoryObjectStore,
    segments: int,
) -> None:
    """A recovery to before the damage has none of them."""
    circle.back_up()
    with psycopg.connect(circle.server.dsn("nexus", "nexus_app", "app")) as long:
        sql = "INSERT INTO assets (project_id, path, size_bytes) SELECT 2, 'long', g FROM "
        long.execute(f"{sql} generate_series(1, 300) g")
        for _ in range(segments):
            new_segment(circle.server)
        circle.fetch_wal()
        injured = circle.injure("update-without-where")
        long.commit()
    circle.fetch_wal()
    damage = circle.find()
    assert damage.xid == injured.xid
    found = set_aside(damage.target)
    assert (found.transactions, found.rows) == (1, 300)
    [line] = kept.get("inc-1/set-aside.jsonl").splitlines()
    assert len(json.loads(line)["rows"]) == 300
