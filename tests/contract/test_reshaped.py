"""What changed the schema on a real server: named with its table, and taken for damage only when
the plan's assertions prove it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalicelib.errors import CheckFailed
from chalicelib.plan.records import Damage, RecoveryTarget
from chalicelib.recover.database.changes import Activity, ChangeScan, Transaction
from chalicelib.recover.database.find import Search, find_damage
from chalicelib.recover.database.reshaped import Shapes, to_keep
from chalicelib.services.steps.database.relations import read_tables
from chalicelib.verify.schema import read_schema
from leeward.local.sample_app import create_schema
from tests.contract.test_find_damage import HARMLESS, ROLES, Scene
from tests.servers import RealServer, running_server

STATEMENTS = {
    "rename-table": (
        "ALTER TABLE projects RENAME TO projects_old",
        "rename", "public.projects", "renamed public.projects to public.projects_old",
    ),
    "move-table": (
        "ALTER TABLE events SET SCHEMA attic",
        "rename", "public.events", "renamed public.events to attic.events",
    ),
    "drop-column": (
        "ALTER TABLE assets DROP COLUMN path",
        "drop-column", "public.assets", "dropped column public.assets.path",
    ),
    "drop-column-of-partitioned": (
        "ALTER TABLE events DROP COLUMN what",
        "drop-column", "public.events", "dropped column public.events.what",
    ),
    "rename-column": (
        "ALTER TABLE projects RENAME owner TO boss",
        "rename", "public.projects", "renamed column public.projects.owner to boss",
    ),
    "drop-view": (
        "DROP VIEW overview",
        "drop", "public.overview", "dropped view public.overview",
    ),
    "drop-materialized-view": (
        "DROP MATERIALIZED VIEW totals",
        "drop", "public.totals", "dropped public.totals",
    ),
    "drop-function": (
        "DROP FUNCTION price(bigint)",
        "drop", "public.price(n bigint)", "dropped function public.price(n bigint)",
    ),
    "drop-constraint": (
        "ALTER TABLE projects DROP CONSTRAINT projects_budget_cents_check",
        "drop", "public.projects",
        "dropped constraint public.projects.projects_budget_cents_check",
    ),
    "row-security": (
        "ALTER TABLE assets ENABLE ROW LEVEL SECURITY",
        "schema", "public.assets", "changed table public.assets",
    ),
}  # fmt: skip
# Nothing in the WAL says beforehand which transaction it was.
WITHOUT_A_LOCK = ("drop-view", "drop-function")


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with running_server() as server:
        server.run(*ROLES.strip().split("\n"))
        yield server


@pytest.fixture
def production(server: RealServer) -> Iterator[RealServer]:
    server.run("CREATE DATABASE nexus OWNER nexus_app")
    server.run(
        "CREATE EXTENSION amcheck",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO leeward",
        database="nexus",
    )
    create_schema(server.dsn("nexus", "nexus_app", "app"), projects=200)
    server.run(
        "CREATE VIEW overview AS SELECT id, name FROM projects",
        "CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM assets",
        "CREATE FUNCTION price(n bigint) RETURNS bigint LANGUAGE sql RETURN n * 2",
        "CREATE TABLE events (id bigint, what text) PARTITION BY RANGE (id)",
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (1000)",
        "CREATE SCHEMA attic",
        "ANALYZE",
        database="nexus",
    )
    yield server
    server.run("DROP DATABASE nexus WITH (FORCE)")


class Shaped(Scene):
    """A scene whose schema was recorded when it began, as a watch does."""

    def __init__(self, server: RealServer) -> None:
        super().__init__(server)
        with self.databases.session() as session:
            self.before = read_schema(session).objects

    def shapes(self) -> Shapes:
        with self.databases.session() as session:
            return Shapes(read_tables(session), self.before, read_schema(session).objects)

    def kept(self, search: Search) -> Activity:
        scan = ChangeScan(shaped=to_keep(search.relations, search.shapes))
        return scan.read(self._wal().dump(1, self.start, self._lsn()))

    def shaped(self, **more: object) -> Search:
        search = self.search(shapes=self.shapes(), **more)
        return search.__class__(**(search.__dict__ | {"activity": self.kept(search)}))

    def commits(self) -> list[Transaction]:
        """Without those that wrote no rows, as the step bisects."""
        return [it for it in super().commits() if it.rows or it.dropped]

    def work(self) -> None:
        for number in range(1, 20):
            self.server.run(f"UPDATE assets SET size_bytes = 1 WHERE id = {number}",
                            database="nexus")  # fmt: skip

    def judged(self, wrong: Transaction) -> tuple[Damage, int]:
        """As if the plan's assertions failed from a transaction on; and how often it was asked."""
        asked: list[int] = []

        def is_sound(target: RecoveryTarget) -> bool:
            asked.append(target.lsn)
            return target.lsn <= wrong.commit_lsn

        return find_damage(self.shaped(commits=self.commits, is_sound=is_sound)), len(asked)


@pytest.mark.parametrize("name", STATEMENTS)
def test_names_the_statement_that_the_assertions_prove(production: RealServer, name: str) -> None:
    statement, kind, table, why = STATEMENTS[name]
    scene = Shaped(production)
    scene.work()
    before = len(scene.commits())
    production.run(statement, database="nexus")
    wrong = scene.commits()[before]
    scene.work()
    damage, asked = scene.judged(wrong)
    assert (damage.kind, damage.xid) == (kind, wrong.xid)
    assert damage.tables[0] == table
    assert why in damage.found
    assert damage.target == RecoveryTarget("xid", str(wrong.xid), wrong.commit_lsn, 1)
    assert (asked == 2) is (name not in WITHOUT_A_LOCK)


@pytest.mark.parametrize("name", [it for it in STATEMENTS if it not in WITHOUT_A_LOCK])
def test_without_a_proof_it_is_for_a_person_to_name(production: RealServer, name: str) -> None:
    statement, _, _, why = STATEMENTS[name]
    scene = Shaped(production)
    production.run(statement, database="nexus")
    [wrong] = scene.commits()[-1:]
    with pytest.raises(CheckFailed) as raised:
        find_damage(scene.shaped())
    assert raised.value.instance_code == "no-damage-found"
    assert f"it may have been: transaction {wrong.xid}" in raised.value.message
    assert why in raised.value.message
    [other] = raised.value.context["alternatives"]
    assert other["xid"] == wrong.xid


def test_upkeep_and_what_is_new_are_named_nowhere(production: RealServer) -> None:
    production.run("DROP MATERIALIZED VIEW totals", database="nexus")
    scene = Shaped(production)
    for statements in HARMLESS.values():
        production.run(*statements, database="nexus")
    production.run(
        "ALTER TABLE assets ADD COLUMN note text",
        "ALTER TABLE assets ALTER COLUMN note SET STATISTICS 500",
        "CREATE INDEX ON projects (name)",
        "BEGIN; CREATE TEMP TABLE t (a text) ON COMMIT DROP; LOCK TABLE projects; COMMIT",
        database="nexus",
    )
    with pytest.raises(CheckFailed) as raised:
        find_damage(scene.shaped())
    assert raised.value.context["alternatives"] == []


def test_the_right_one_of_several_migrations(production: RealServer) -> None:
    scene = Shaped(production)
    scene.work()
    production.run("ALTER TABLE projects DROP COLUMN updated_at", database="nexus")
    wrong = scene.commits()[-1]
    scene.work()
    production.run("ALTER TABLE assets DROP COLUMN path", database="nexus")
    scene.work()
    damage, asked = scene.judged(wrong)
    assert (damage.kind, damage.xid, damage.tables) == (
        "drop-column", wrong.xid, ("public.projects",),
    )  # fmt: skip
    assert asked <= 3
    [other] = damage.alternatives
    assert other["tables"] == ["public.assets"]
