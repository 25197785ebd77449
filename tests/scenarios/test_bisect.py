"""Damage that no detector sees: one row, changed quietly. The plan's assertion knows better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from chalicelib.plan.model import Plan
from chalicelib.plan.records import EvidenceRecord, parse_time
from leeward.local.damage import DAMAGES, Injected, Victim
from leeward.local.drill import Told
from tests.scenarios.drills import make_drill

RENAMED = "UPDATE projects SET name = '' WHERE id = 17"
ASSERTION = {
    "name": "projects-have-names",
    "sql": "SELECT count(*) FROM projects WHERE name = ''",
    "expect": "== 0",
}


def change_one_row(victim: Victim) -> Injected:
    """In a transaction that looks like any of the application's."""
    with psycopg.connect(victim.dsn) as connection:
        connection.execute(RENAMED)
        [(xid, at)] = connection.execute("SELECT pg_current_xact_id()::text, now()").fetchall()
    return Injected("one-row", "suspected", RENAMED, at, int(xid), table="projects", rows=1)


def with_assertion(plan: Plan) -> Plan:
    data = plan.to_json()
    data["components"]["nexus-db"]["checks"]["assertions"].append(ASSERTION)
    return Plan.from_json(data)


def bodies(heard: list[Told], kind: str) -> list[dict[str, object]]:
    records = [told.record for told in heard if told.record]
    return [it.body for it in records if isinstance(it, EvidenceRecord) and it.kind == kind]


def test_exactly_the_transaction_that_broke_the_assertion_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DAMAGES, "one-row", change_one_row)
    heard: list[Told] = []
    stage = make_drill(tmp_path, "one-row")
    drill = type(stage)(
        with_assertion(stage.plan), replace(stage.options, rate=20), lambda it: hear(it)
    )

    def hear(told: Told) -> None:
        heard.append(told)
        if (
            told.kind == "record"
            and told.text == "decision"
            and len(bodies(heard, "decision")) == 3
        ):
            drill.cloud.kill_worker("find_damage")

    result = drill.run()
    assert result.problems == [], bodies(heard, "step-failed")
    [damage] = bodies(heard, "damage")
    assert damage["kind"] == "suspected"
    assert damage["xid"] == result.injected[0].xid
    assert damage["tables"] == ["public.projects"]
    assert "bisection of" in str(damage["how"])
    assert result.reckoning is not None
    assert result.reckoning.lost == ()
    assert result.reckoning.set_aside > 0

    probes = [str(body["what"]) for body in bodies(heard, "decision")]
    assert probes[0] == "the state at the end of the WAL is not sound"
    assert f"the state before xid {result.injected[0].xid} is sound" in probes
    assert len(probes) == len(set(probes)) <= 14, "the second attempt goes on where the first died"
    assert result.score.steps[0].attempts == 2
    assert parse_time(str(damage["damaged_at"])) >= result.injected[0].at
