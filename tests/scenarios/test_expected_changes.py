"""What a plan expects of its jobs and what an ordinary migration does, before the damage: neither
raises an alarm, and the damage after them is found and recovered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from chalicelib.plan.model import Plan
from leeward.local.damage import DAMAGES, Injected, Victim
from leeward.local.drill import Drill, DrillResult, Told
from leeward.local.production import SUPERUSER
from leeward.local.stages.database import DatabaseDrill
from leeward.packaging.parts import rule_name
from tests.scenarios.drills import make_drill

PURGE = "DELETE FROM assets WHERE id <= 3000"
EXPECTED = [{"tables": ["assets"], "kinds": ["mass-delete"], "rows": 3000}]
MIGRATION = "ALTER TABLE projects ADD COLUMN note text"
DROPPED = "ALTER TABLE projects DROP COLUMN owner"
OWNERS = {"name": "owners", "sql": "SELECT count(owner) FROM projects", "expect": "> 0"}

REVOKED = "REVOKE TRUNCATE ON projects FROM nexus_app"
RIGHTS = {
    "name": "rights",
    "sql": "SELECT has_table_privilege('nexus_app', 'projects', 'TRUNCATE')::int",
    "expect": "== 1",
}


class Busy(DatabaseDrill):
    """Before the damage the plan's jobs do their work, under the eyes of the watch."""

    statement = ""
    seen: dict[str, Any]

    def harm(self) -> tuple[Injected, ...]:
        with psycopg.connect(self.production.dsn(SUPERUSER), autocommit=True) as database:
            database.execute(self.statement)
        self.cloud.fire(rule_name(self.plan, self.options.component, "wal"))
        self.seen = self.invoke("watch", {"component": self.options.component})
        self.cloud.wait_idle()
        assert self.open_incident() == ""
        return super().harm()


def run_busy(out: Path, damage: str, statement: str, plan: Plan) -> tuple[DrillResult, Busy, Any]:
    heard: list[Told] = []
    stage: Drill = make_drill(out, damage)
    drill = Busy(plan, stage.options, heard.append)
    drill.statement = statement
    result = drill.run()
    [said] = [told.record.body for told in heard if told.record and told.record.kind == "damage"]
    return result, drill, said


def changed(out: Path, name: str, **database: Any) -> Plan:
    data = make_drill(out, name).plan.to_json()
    for part, values in database.items():
        data["components"]["nexus-db"].setdefault(part, {}).update(values)
    return Plan.from_json(data)


def drop_column(victim: Victim) -> Injected:
    """Nobody asks for the column but the plan's own probe."""
    return injure(victim, "drop-column", "drop-column", DROPPED)


def take_right(victim: Victim) -> Injected:
    """The application does not use it."""
    return injure(victim, "take-right", "rights", REVOKED)


def injure(victim: Victim, name: str, kind: str, statement: str) -> Injected:
    with psycopg.connect(victim.dsn) as connection:
        connection.execute(statement)  # type: ignore[call-overload]
        [(xid, at)] = connection.execute("SELECT pg_current_xact_id()::text, now()").fetchall()
    return Injected(name, kind, statement, at, int(xid), table="projects")


def test_an_expected_purge_raises_no_alarm_and_hides_no_other_damage(tmp_path: Path) -> None:
    damage = "update-without-where"
    plan = changed(tmp_path, damage, damage={"expected": EXPECTED})
    result, drill, said = run_busy(tmp_path, damage, PURGE, plan)
    assert drill.seen["failed"] == []
    assert result.problems == []
    assert (said["kind"], said["xid"]) == ("mass-update", result.injected[0].xid)
    assert drill.reckoning is not None
    assert drill.reckoning.lost == ()


def test_a_purge_of_more_than_is_expected_raises_one(tmp_path: Path) -> None:
    damage = "update-without-where"
    plan = changed(tmp_path, damage, damage={"expected": EXPECTED})
    with pytest.raises(AssertionError, match="inc-"):
        run_busy(tmp_path, damage, PURGE.replace("3000", "3001"), plan)


def test_a_dropped_column_is_undone_and_the_migration_before_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DAMAGES, "drop-column", drop_column)
    checks = make_drill(tmp_path, "drop-column").plan.to_json()["components"]["nexus-db"]["checks"]
    plan = changed(tmp_path, "drop-column", checks={"assertions": [*checks["assertions"], OWNERS]})
    result, drill, said = run_busy(tmp_path, "drop-column", MIGRATION, plan)
    assert result.problems == []
    assert (said["kind"], said["tables"]) == ("drop-column", ["public.projects"])
    assert said["xid"] == result.injected[0].xid
    assert "dropped column public.projects.owner" in said["found"]
    assert drill.reckoning is not None
    assert drill.reckoning.lost == ()
    assert drill.reckoning.set_aside > 0


def test_a_right_that_was_revoked_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DAMAGES, "take-right", take_right)
    checks = make_drill(tmp_path, "take-right").plan.to_json()["components"]["nexus-db"]["checks"]
    plan = changed(tmp_path, "take-right", checks={"assertions": [*checks["assertions"], RIGHTS]})
    result, drill, said = run_busy(tmp_path, "take-right", MIGRATION, plan)
    assert result.problems == []
    assert (said["kind"], said["tables"]) == ("rights", ["public.projects"])
    assert said["xid"] == result.injected[0].xid
    assert "took TRUNCATE on table public.projects from nexus_app" in said["found"]
    assert drill.reckoning is not None
    assert drill.reckoning.lost == ()
