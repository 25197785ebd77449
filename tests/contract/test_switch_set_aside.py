"""What was committed after the damage is kept: each transaction, with the rows that are left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.waldump import PgWaldump
from chalicelib.plan.records import RecoveryTarget, parse_lsn
from chalicelib.recover.database.changes import ChangeScan, Transaction
from chalicelib.recover.database.relations import gather_relations, read_relations
from chalicelib.recover.database.set_aside import SetAside, set_aside
from leeward.local.damage import DAMAGES, Injected, Victim
from leeward.local.sample_app import create_schema
from tests.servers import RealServer, running_server


@dataclass
class Scene:
    server: RealServer
    start: int
    spool: Path

    def injure(self, name: str, table: str = "") -> Injected:
        return DAMAGES[name](Victim(self.server.dsn("nexus"), self.server.data, table=table))

    def run(self, *statements: str) -> None:
        self.server.run(*statements, database="nexus")

    def transactions(self) -> Iterator[Transaction]:
        self.server.run("SELECT pg_logical_emit_message(true, 'leeward', 'tick')")
        end = parse_lsn(self.server.run("SELECT pg_current_wal_flush_lsn()::text")[0][0])
        scan, wal = ChangeScan(), PgWaldump(find_binaries(), self.server.data / "pg_wal")
        for chunk in wal.dump(1, self.start, end):
            yield from scan.feed(chunk)

    def before(self, xid: int | None) -> RecoveryTarget:
        [found] = [it for it in self.transactions() if it.xid == xid]
        return RecoveryTarget("xid", str(xid), found.commit_lsn)

    def set_aside(self, target: RecoveryTarget) -> tuple[SetAside, list[dict[str, Any]]]:
        databases = PostgresDatabases(self.server.dsn("nexus"))
        with databases.session() as session:
            relations = gather_relations("nexus", [], read_relations(session))
        pieces: list[bytes] = []
        result = set_aside(
            self.transactions(),
            relations,
            databases,
            target=target,
            spool=self.spool,
            write=pieces.append,
        )
        assert not self.spool.exists()
        return result, [json.loads(line) for line in b"".join(pieces).splitlines()]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with running_server() as server:
        server.run("CREATE DATABASE nexus")
        create_schema(server.dsn("nexus"), projects=200)
        start = parse_lsn(server.run("SELECT pg_current_wal_insert_lsn()::text")[0][0])
        yield Scene(server, start, tmp_path / "spool")


def test_keeps_what_came_after_and_not_the_damage(scene: Scene) -> None:
    scene.run("UPDATE projects SET owner = 'before' WHERE id = 1")
    injected = scene.injure("update-without-where", "assets")
    scene.run(
        "INSERT INTO projects (name, owner, budget_cents) VALUES ('after', 'me', 1), ('2', '', 2)",
        "UPDATE projects SET owner = 'twice' WHERE id = 2",
        "UPDATE projects SET owner = 'thrice' WHERE id = 2",
        "DELETE FROM assets WHERE id = 3",
    )
    result, lines = scene.set_aside(scene.before(injected.xid))
    assert result == SetAside(transactions=4, rows=3, unreadable=())
    assert [line["tables"] for line in lines] == [
        {"public.projects": {"inserted": 2, "updated": 0, "deleted": 0}},
        {"public.projects": {"inserted": 0, "updated": 1, "deleted": 0}},
        {"public.projects": {"inserted": 0, "updated": 1, "deleted": 0}},
        {"public.assets": {"inserted": 0, "updated": 0, "deleted": 1}},
    ]
    assert [[row["row"]["owner"] for row in line["rows"]] for line in lines] == [
        ["me", ""], [], ["thrice"], [],
    ]  # fmt: skip
    assert {row["table"] for line in lines for row in line["rows"]} == {"public.projects"}
    assert lines == sorted(lines, key=lambda line: line["committed_at"])


def test_finds_the_rows_of_savepoints_and_of_what_began_before(scene: Scene) -> None:
    with scene.server.connect("nexus") as early:
        early.execute("BEGIN")
        early.execute("UPDATE projects SET owner = 'top' WHERE id = 1")
        early.execute("SAVEPOINT a")
        early.execute("UPDATE projects SET owner = 'child' WHERE id = 2")
        injected = scene.injure("delete-without-where", "assets")
        early.execute("COMMIT")
    result, [line] = scene.set_aside(scene.before(injected.xid))
    assert result.rows == 2
    assert {row["row"]["owner"] for row in line["rows"]} == {"top", "child"}


def test_keeps_the_schema_changes_of_this_database_alone(scene: Scene) -> None:
    injected = scene.injure("truncate", "assets")
    scene.server.run("CREATE DATABASE neighbour")
    scene.server.run("CREATE TABLE notes (n int)", database="neighbour")
    scene.run("CREATE TABLE notes (n int)")
    result, [line] = scene.set_aside(scene.before(injected.xid))
    assert line["schema"]
    assert result.transactions == 1


def test_keeps_large_objects(scene: Scene) -> None:
    injected = scene.injure("truncate", "assets")
    scene.run("SELECT lo_from_bytea(4242, 'a picture')", "SELECT lo_unlink(4242)",
              "SELECT lo_from_bytea(4243, 'another')")  # fmt: skip
    result, lines = scene.set_aside(scene.before(injected.xid))
    kinds = [line["tables"]["pg_catalog.pg_largeobject"] for line in lines]
    assert [(kind["inserted"], kind["deleted"]) for kind in kinds] == [(1, 0), (0, 1), (1, 0)]
    assert result == SetAside(transactions=3, rows=1, unreadable=())
    [kept] = lines[-1]["rows"]
    assert kept["row"]["loid"] == "4243"
    assert bytes.fromhex(kept["row"]["data"].removeprefix("\\x")) == b"another"


def test_says_what_it_could_not_read(scene: Scene) -> None:
    scene.run("CREATE TABLE notes (n int)", "INSERT INTO notes VALUES (1)")
    injected = scene.injure("truncate", "assets")
    scene.run("INSERT INTO notes VALUES (2)", "INSERT INTO assets (project_id, path, size_bytes) "
              "VALUES (1, 'new', 1)", "DROP TABLE notes")  # fmt: skip
    result, lines = scene.set_aside(scene.before(injected.xid))
    assert [bool(line["unread"]) for line in lines] == [True, False, False]
    assert [line["schema"] for line in lines] == [False, False, True]
    assert len(result.unreadable) == 1
    assert lines[0]["unread"][0]["why"] == "no relation map names this file"
    assert lines[1]["rows"][0]["row"]["path"] == "new"


def test_a_moment_in_time_and_an_lsn_divide_the_same_way(scene: Scene) -> None:
    for number in range(1, 6):
        scene.run(f"UPDATE projects SET owner = 'o' WHERE id = {number}")
    third = list(scene.transactions())[2]
    at = third.committed_at.isoformat()
    by_time, _ = scene.set_aside(RecoveryTarget("time", at))
    by_lsn, _ = scene.set_aside(RecoveryTarget("lsn", "", lsn=third.commit_lsn))
    assert by_time == by_lsn == SetAside(3, 3, ())
    assert scene.set_aside(RecoveryTarget("end", ""))[0] == SetAside(0, 0, ())
