"""Rights, triggers, partitions and sequences on real servers of each version: whoever took them is
named, and it is taken for damage only when the plan's assertions prove it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from chalicelib.adapters.postgres.binaries import Binaries, find_binaries
from chalicelib.adapters.postgres.waldump import PgWaldump
from chalicelib.errors import CheckFailed
from chalicelib.plan.records import Damage, RecoveryTarget
from chalicelib.recover.database.changes import Activity, ChangeScan, Transaction
from chalicelib.recover.database.find import Search, find_damage
from chalicelib.recover.database.lost_traits import lost_traits
from chalicelib.recover.database.reshaped import Shapes, to_keep
from chalicelib.recover.database.sequences import sequences_set
from chalicelib.services.steps.database.relations import read_sequences, read_tables
from chalicelib.verify.schema import read_schema
from chalicelib.verify.traits import read_traits
from leeward.local.sample_app import create_schema
from tests.clusters import fresh_cluster, other_versions
from tests.contract.test_find_damage import HARMLESS, ROLES, Scene
from tests.servers import RealServer

VERSIONS = {str(it.major): it for it in (find_binaries(17), *other_versions())}
HERE: list[Binaries] = []

TAKEN = {
    "revoke": (
        "REVOKE INSERT, UPDATE ON projects FROM worker", "rights",
        "took INSERT, UPDATE on table public.projects from worker",
    ),
    "column": (
        "REVOKE UPDATE (name) ON projects FROM clerk", "rights",
        "took UPDATE on column public.projects.name from clerk",
    ),
    "schema": (
        "REVOKE USAGE ON SCHEMA attic FROM worker", "rights",
        "took USAGE on schema attic from worker",
    ),
    "function": (
        "REVOKE EXECUTE ON FUNCTION price(bigint) FROM PUBLIC", "rights",
        "took EXECUTE on function public.price(n bigint) from PUBLIC",
    ),
    "sequence-right": (
        "REVOKE USAGE ON SEQUENCE assets_id_seq FROM worker", "rights",
        "took USAGE on sequence public.assets_id_seq from worker",
    ),
    "owner": (
        "ALTER TABLE assets OWNER TO postgres", "rights",
        "gave table public.assets of nexus_app to postgres",
    ),
    "login": ("ALTER ROLE worker NOLOGIN", "rights", "took LOGIN from role worker"),
    "member": ("REVOKE clerk FROM worker", "rights", "took role worker out of clerk"),
    "setting": (
        "ALTER ROLE worker SET default_transaction_read_only = on", "rights",
        "changed the settings of role worker",
    ),
    "connect": (
        "REVOKE CONNECT ON DATABASE nexus FROM PUBLIC", "rights",
        "took CONNECT on database nexus from PUBLIC",
    ),
    "trigger": (
        "ALTER TABLE projects DISABLE TRIGGER stamp", "disabled",
        "disabled trigger public.projects.stamp",
    ),
    "foreign-key": (
        "ALTER TABLE assets DISABLE TRIGGER ALL", "disabled",
        "disabled constraint public.assets.assets_project_id_fkey",
    ),
    "rule": ("ALTER TABLE log DISABLE RULE keep", "disabled", "disabled rule public.log.keep"),
    "detach": (
        "ALTER TABLE events DETACH PARTITION events_1", "detached",
        "detached public.events_1 from public.events",
    ),
    "detach-concurrently": (
        "ALTER TABLE events DETACH PARTITION events_1 CONCURRENTLY", "detached",
        "detached public.events_1 from public.events",
    ),
    "unlogged": (
        "ALTER TABLE assets SET UNLOGGED", "unlogged", "made table public.assets unlogged",
    ),
}  # fmt: skip
PUT_BACK = {
    "setval": "SELECT setval('assets_id_seq', 7)",
    "setval-unused": "SELECT setval('assets_id_seq', 7, false)",
    "rolled-back": "BEGIN; SELECT setval('assets_id_seq', 7); ROLLBACK",
    "restart": "ALTER SEQUENCE assets_id_seq RESTART",
}
MIGRATION = (
    "CREATE TABLE notes (id bigserial PRIMARY KEY, text text)",
    "INSERT INTO notes (text) SELECT 'x' FROM generate_series(1, 200)",
    "GRANT ALL ON notes TO worker",
    "GRANT DELETE ON projects TO worker",
    "ALTER TABLE notes ADD COLUMN more text",
    "CREATE INDEX ON projects (owner)",
    "CREATE ROLE other LOGIN",
    "ALTER ROLE other SET statement_timeout = '5s'",
    "REVOKE SELECT ON notes FROM worker",
    "DROP ROLE other",
    "INSERT INTO assets (project_id, path, size_bytes)"
    " SELECT 1, 'x', 1 FROM generate_series(1, 400)",
    # What a load that gives its own numbers ends with.
    "SELECT setval('assets_id_seq', (SELECT max(id) FROM assets))",
    "CHECKPOINT",
    "SELECT nextval('assets_id_seq')",
)


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    binaries = VERSIONS[request.param]
    with fresh_cluster(binaries, autovacuum="off", wal_keep_size="1GB") as server:
        HERE[:] = [binaries]
        server.run(*(it.replace(" WITH ADMIN OPTION", "") for it in ROLES.strip().split("\n")))
        yield server


@pytest.fixture
def production(server: RealServer) -> Iterator[RealServer]:
    server.run("CREATE ROLE worker LOGIN", "CREATE ROLE clerk", "GRANT clerk TO worker")
    server.run("CREATE DATABASE nexus OWNER nexus_app")
    create_schema(server.dsn("nexus", "nexus_app", "app"), projects=100)
    server.run(
        "CREATE FUNCTION price(n bigint) RETURNS bigint LANGUAGE sql RETURN n * 2",
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER stamp BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION stamp()",
        "CREATE TABLE log (what text)",
        "CREATE RULE keep AS ON DELETE TO log DO INSTEAD NOTHING",
        "CREATE TABLE events (id bigint, what text) PARTITION BY RANGE (id)",
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (1000)",
        "CREATE SCHEMA attic",
        "GRANT USAGE ON SCHEMA attic TO worker",
        "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO worker",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO worker",
        "GRANT UPDATE (name) ON projects TO clerk",
        "ANALYZE",
        database="nexus",
    )
    yield server
    server.run("DROP DATABASE nexus WITH (FORCE)", "DROP ROLE worker, clerk")


class Allowed(Scene):
    """A scene whose schema and traits were recorded when it began, as a watch does."""

    def __init__(self, server: RealServer) -> None:
        super().__init__(server)
        with self.databases.session() as session:
            self.before, self.traits = read_schema(session).objects, read_traits(session)

    def _wal(self) -> PgWaldump:
        return PgWaldump(HERE[0], self.server.data / "pg_wal")

    def shaped(self, **more: object) -> Search:
        search = self.search(**more)
        with self.databases.session() as session:
            taken = lost_traits(self.traits, read_traits(session))
            shapes = Shapes(
                read_tables(session), self.before, read_schema(session).objects, taken
            )  # fmt: skip
            activity = self._scan(shaped=to_keep(search.relations, shapes))
            files = sequences_set(activity.notable)
            shapes = replace(shapes, sequences=read_sequences(session, files))
        return replace(search, activity=activity, shapes=shapes)

    def _scan(self, **how: object) -> Activity:
        wal = self._wal()
        scan = ChangeScan(sequence_value=partial(wal.sequence_value, 1), **how)  # type: ignore[arg-type]
        return scan.read(wal.dump(1, self.start, self._lsn()))

    def commits(self) -> list[Transaction]:
        wal = self._wal()
        scan = ChangeScan(sequence_value=partial(wal.sequence_value, 1))
        chunks = wal.dump(1, self.start, self._lsn())
        seen = (transaction for chunk in chunks for transaction in scan.feed(chunk))
        return [it for it in seen if it.rows or it.dropped or it.sequences]

    def work(self) -> None:
        self.server.run(
            *(f"UPDATE assets SET size_bytes = 1 WHERE id = {number}" for number in range(1, 12)),
            "INSERT INTO assets (project_id, path, size_bytes)"
            " SELECT 1, 'x', 1 FROM generate_series(1, 70)",
            database="nexus",
        )

    def named(self) -> list[dict[str, object]]:
        """By a search that can prove nothing."""
        with pytest.raises(CheckFailed) as raised:
            find_damage(self.shaped())
        assert raised.value.instance_code == "no-damage-found"
        return list(raised.value.context["alternatives"])

    def judged(self, wrong: Transaction) -> tuple[Damage, int]:
        """As if the plan's assertions failed from a transaction on; and how often it was asked."""
        asked: list[int] = []

        def is_sound(target: RecoveryTarget) -> bool:
            asked.append(target.lsn)
            return target.lsn <= (wrong.acts_at or wrong.commit_lsn)

        return find_damage(self.shaped(commits=self.commits, is_sound=is_sound)), len(asked)


@pytest.mark.parametrize("name", TAKEN)
def test_names_whoever_took_it(production: RealServer, name: str) -> None:
    statement, kind, why = TAKEN[name]
    scene = Allowed(production)
    scene.work()
    production.run(statement, database="nexus")
    xids = {it.xid for it in scene.commits()}
    scene.work()
    production.run("ALTER TABLE projects ADD COLUMN note text", database="nexus")
    last, *others = scene.named()[::-1]
    assert why in str(last["why"])
    assert (last["kind"], others) == (kind, []) or name == "detach-concurrently"
    assert last["xid"] in xids


def test_acts_on_it_once_the_assertions_prove_it(production: RealServer) -> None:
    scene = Allowed(production)
    scene.work()
    before = len(scene.commits())
    production.run(TAKEN["revoke"][0], database="nexus")
    wrong = scene.commits()[before]
    scene.work()
    damage, asked = scene.judged(wrong)
    assert (damage.kind, damage.xid, asked) == ("rights", wrong.xid, 2)
    assert damage.tables == ("public.projects",)
    assert damage.target == RecoveryTarget("xid", str(wrong.xid), wrong.commit_lsn, 1)


@pytest.mark.parametrize("name", PUT_BACK)
def test_names_whoever_put_a_sequence_back(production: RealServer, name: str) -> None:
    scene = Allowed(production)
    scene.work()
    before = len(scene.commits())
    production.run(PUT_BACK[name], database="nexus")
    wrong = scene.commits()[before]
    production.run("SELECT nextval('assets_id_seq')", database="nexus")
    damage, _ = scene.judged(wrong)
    assert (damage.kind, damage.xid) == ("sequence", wrong.xid)
    assert damage.tables == ("public.assets_id_seq",)
    assert "put sequence public.assets_id_seq back " in damage.found
    assert "though public.assets.id reaches 470" in damage.found
    assert damage.target.kind == ("xid" if name == "restart" else "lsn")
    [alone] = [it for it in scene.named() if it["kind"] == "sequence"]
    assert alone["xid"] == wrong.xid
    mend = damage.found.partition("(")[2].partition(" puts it right")[0]
    production.run(
        mend,
        "INSERT INTO assets (project_id, path, size_bytes) VALUES (1, 'x', 1)",
        database="nexus",
    )
    assert scene.named() == []


def test_the_first_value_that_the_wal_has_may_be_the_one(production: RealServer) -> None:
    """Nobody had asked a sequence for a number since the WAL begins."""
    production.run("CHECKPOINT")
    scene = Allowed(production)
    production.run("SELECT setval('assets_id_seq', 7)", database="nexus")
    wrong = scene.commits()[-1]
    [alone] = scene.named()
    assert (alone["kind"], alone["xid"]) == ("sequence", wrong.xid)
    assert "back to 7, though public.assets.id reaches 400" in str(alone["why"])


def test_what_is_before_a_put_back_is_before_its_record(production: RealServer) -> None:
    """A replay up to the commit has set the sequence already."""
    scene = Allowed(production)
    scene.work()
    production.run(PUT_BACK["setval"], database="nexus")
    wrong = scene.commits()[-1]
    assert wrong.rows == {}
    assert wrong.acts_at < wrong.commit_lsn
    [put] = wrong.sequences
    assert put.now == 7
    assert put.was is not None
    assert 470 <= put.was <= 470 + 32


def test_an_ordinary_migration_is_named_nowhere(production: RealServer) -> None:
    scene = Allowed(production)
    scene.work()
    for statements in HARMLESS.values():
        production.run(*statements, database="nexus")
    production.run(*MIGRATION, database="nexus")
    assert scene.named() == []
