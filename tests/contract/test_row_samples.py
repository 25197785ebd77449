"""Rows of a restored database beside the living one's: what happened since is no difference, and
everything else is one. Real servers, restored from a real backup and its WAL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.adapters.postgres.waldump import PgWaldump
from chalicelib.backup.wal_fetch import fetch_wal
from chalicelib.errors import CheckFailed
from chalicelib.plan.records import RecoveryTarget, parse_lsn
from chalicelib.plan.wal import segment_start
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.replay import replay
from chalicelib.recover.database.restore import restore
from chalicelib.recover.rows.gone import left_places
from chalicelib.verify.rows.samples import GoneRow, SamplePolicy, compare_rows
from tests.row_worlds import CLOCK, STUDIO, RowWorld, row_world

SHAPES = (
    STUDIO
    + """
CREATE TYPE kind AS ENUM ('a', 'b');
CREATE TABLE coded (code text PRIMARY KEY, price money, kind kind, doc json, at timestamptz);
INSERT INTO coded SELECT 'code-' || n, n * 1.25, 'b', '{"n":  1}', now()
  FROM generate_series(1, 200) n;
CREATE TABLE listed (id int PRIMARY KEY, list aclitem);
INSERT INTO listed SELECT n, makeaclitem(10, 10, 'SELECT', false) FROM generate_series(1, 50) n;
CREATE TABLE events (what text, at timestamptz);
INSERT INTO events SELECT 'event ' || n, now() FROM generate_series(1, 400) n;
CREATE TABLE measured (day int, value float8, PRIMARY KEY (day)) PARTITION BY RANGE (day);
CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM (0) TO (100);
CREATE TABLE measured_2 PARTITION OF measured FOR VALUES FROM (100) TO (200);
INSERT INTO measured SELECT n, n / 3.0 FROM generate_series(1, 150) n;
CREATE TABLE "odd %s {name}" ("the %d" int PRIMARY KEY, "v{}" text);
INSERT INTO "odd %s {name}" SELECT n, n::text FROM generate_series(1, 50) n;
CREATE TABLE cleared (id int PRIMARY KEY);
INSERT INTO cleared SELECT generate_series(1, 50);
CREATE TABLE packed (id int PRIMARY KEY, pad text);
INSERT INTO packed SELECT n, repeat('x', 500) FROM generate_series(1, 100) n;
CREATE TABLE loose (pad text);
INSERT INTO loose SELECT repeat('y', 500) FROM generate_series(1, 100) n;
CREATE TABLE dropped (id int PRIMARY KEY);
INSERT INTO dropped VALUES (1);
CREATE TABLE settled (id int PRIMARY KEY, secret text);
INSERT INTO settled SELECT n, 'value ' || n FROM generate_series(1, 100) n;
CREATE TABLE flying (id int PRIMARY KEY);
INSERT INTO flying SELECT generate_series(1, 20);
"""
)
SMALL = """
CREATE TABLE settled (id int PRIMARY KEY, secret text);
INSERT INTO settled SELECT n, 'value ' || n FROM generate_series(1, 100) n;
CREATE TABLE mailed (mail text PRIMARY KEY);
INSERT INTO mailed SELECT 'person' || n || '@example.org' FROM generate_series(1, 50) n;
CREATE TABLE events (what text);
INSERT INTO events SELECT 'event ' || n FROM generate_series(1, 100) n;
CREATE TABLE empty (id int PRIMARY KEY);
"""
DAMAGED = (
    "changed",
    "replaced",
    "lost",
    "kept",
    "left_out",
    "no_table",
    "reused",
    "forgotten",
    "rolled",
    "later",
)
EVERYTHING = SamplePolicy(tables=100, rows=10_000, pages=10_000)


@dataclass
class Restored:
    """A world, and a server that was restored from it; `start`: WAL since then begins there."""

    world: RowWorld
    server: ThrowawayServer
    start: int

    def then(self, database: str) -> PostgresDatabases:
        return PostgresDatabases(self.server.dsn(database), find_binaries(17))

    def left_since(self, rows: frozenset[GoneRow]) -> tuple[frozenset[GoneRow] | None, str]:
        run = self.world.server.run
        run("SELECT pg_logical_emit_message(true, 'leeward', 'tick')")
        end = parse_lsn(run("SELECT pg_current_wal_flush_lsn()::text")[0][0])
        wal = PgWaldump(find_binaries(), self.world.server.data / "pg_wal")
        left = {
            GoneRow(*place.relfile, place.page, place.line)
            for place in left_places(wal.dump(1, self.start, end))
        }
        return rows & left, ""

    def compare(self, database: str, *, seed: int = 7, policy: SamplePolicy = EVERYTHING) -> str:
        return compare_rows(
            self.then(database),
            self.world.live(database),
            self.left_since,
            seed=seed,
            clock=CLOCK,
            until=CLOCK.now() + timedelta(minutes=5),
            policy=policy,
        )

    def spoil(self, database: str, *statements: str) -> None:
        """As no restore should: the restored server is changed."""
        with self.then(database).session() as session:
            for statement in statements:
                session.execute(statement)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restored]:
    root = tmp_path_factory.mktemp("samples")
    scripts = {"since": SHAPES} | dict.fromkeys(DAMAGED, SMALL)
    with row_world(root, scripts) as world, world.app("since") as flying:
        # In flight at the moment that is recovered to; committed afterwards.
        flying.autocommit = False
        flying.execute("UPDATE settled SET secret = 'flown' WHERE id = 9")
        flying.execute("INSERT INTO flying VALUES (100)")
        flying.execute("DELETE FROM flying WHERE id <= 5")
        # A page whose checksum is not looked at may hold anything.
        [(path,)] = world.server.run("SELECT pg_relation_filepath('settled')", database="changed")
        # Frozen rows are seen whatever is known of their transaction.
        world.run("forgotten", "UPDATE settled SET secret = secret", "VACUUM (FREEZE) settled")
        [(forgotten,)] = world.run("forgotten", "SELECT DISTINCT xmin::text::int FROM settled")
        with PostgresSource(world.server.dsn()) as source:
            fetch_wal(source, world.store, world.catalogue, component="db", clock=CLOCK)
        folder = root / "restored" / "data"
        means = Means(world.store, world.catalogue, ThrowawayServer, CLOCK)
        restored = restore(means, RecoveryTarget("end", ""), folder)
        replayed = replay(means, restored, folder)
        _overwrite(folder / path, b"value 42", b"value 24")
        _forget_commit(folder / "pg_xact/0000", forgotten)
        flying.commit()
        # What is changed in the restored server below must not happen to have the same ids.
        world.server.run(*["SELECT pg_current_xact_id()"] * 100)
        server = ThrowawayServer(folder, settings={"ignore_checksum_failure": "on"})
        with server:
            server.start()
            server.wait_until("ready", timeout_seconds=60)
            size = world.catalogue.inventory().wal.segment_bytes
            yield Restored(world, server, segment_start(replayed.recovered_lsn, size))


def _overwrite(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def _forget_commit(path: Path, xid: int) -> None:
    """Two bits a transaction (clog.c): 1 committed, 2 aborted."""
    content, shift = bytearray(path.read_bytes()), xid % 4 * 2
    assert content[xid // 4] >> shift & 3 == 1
    content[xid // 4] ^= 3 << shift
    path.write_bytes(content)


def test_what_was_in_flight_at_the_moment_is_explained_without_wal(here: Restored) -> None:
    told = compare_rows(
        here.then("since"), here.world.live("since"), lambda rows: (frozenset(), ""),
        seed=7, clock=CLOCK, until=CLOCK.now() + timedelta(minutes=5), policy=EVERYTHING,
    )  # fmt: skip
    assert verdicts_of(told)["changed"] == verdicts_of(told)["inserted"] == 1
    assert verdicts_of(told)["gone"] == 5


def verdicts_of(told: str) -> dict[str, int]:
    counts = (part.split() for part in told.split("seed 7: ")[1].split(";")[0].split(", "))
    return {verdict: int(count) for count, verdict in counts}


def test_whatever_was_done_since_is_explained(here: Restored) -> None:
    here.world.run(
        "since",
        "UPDATE projects SET cents = 0 WHERE id % 7 = 0",
        "DELETE FROM assets WHERE project % 5 = 0",
        "INSERT INTO owners (mail) SELECT 'new' || n FROM generate_series(1, 20) n",
        "UPDATE coded SET code = 'other-' || code WHERE kind = 'b' AND price < '$20'::text::money",
        "UPDATE events SET what = what || '!' WHERE what LIKE '%7'",
        "DELETE FROM events WHERE what LIKE '%5'",
        "UPDATE measured SET day = day + 170 WHERE day < 3",
        'UPDATE "odd %s {name}" SET "v{}" = \'x\' WHERE "the %d" = 3',
        "TRUNCATE cleared",
        "DELETE FROM packed WHERE id < 10",
        "DELETE FROM loose WHERE ctid < '(1,1)'",
        "DROP TABLE dropped",
        "ALTER TABLE settled ADD COLUMN more int DEFAULT 5",
        "ALTER TABLE listed RENAME TO renamed",
        "CREATE TABLE made (id int PRIMARY KEY)",
        "INSERT INTO made VALUES (1)",
    )
    for maintenance in ("VACUUM FULL packed, loose", "VACUUM (FREEZE) settled, projects, assets"):
        here.world.run("since", maintenance)
    told = here.compare("since")
    assert "1 tables dropped since" in told
    assert "loose was written anew since and cannot be compared" in told
    assert verdicts_of(told).keys() == {"equal", "changed", "inserted", "gone"}


def test_a_few_by_lot_are_the_same_with_the_same_seed(here: Restored) -> None:
    few = SamplePolicy(tables=2, rows=5, pages=1)
    first, again, other = (here.compare("later", seed=it, policy=few) for it in (1, 1, 2))
    assert first == again != other
    assert "2 of 3 tables by lot, seed 1" in first


@pytest.mark.parametrize(
    ("database", "spoiled", "found"),
    [
        ("changed", [], "public.settled (id 42): differs"),
        (
            "replaced",
            ["UPDATE settled SET secret = 'another' WHERE id = 17"],
            "public.settled (id 17): other-version",
        ),
        ("lost", ["DELETE FROM settled WHERE id = 3"], "public.settled (id 3): missing"),
        ("kept", ["INSERT INTO settled VALUES (1000, 'x')"], "public.settled (id 1000): gone"),
        (
            "left_out",
            ["DELETE FROM events WHERE what = 'event 5'"],
            "public.events at (0,5): missing",
        ),
        ("no_table", ["DROP TABLE empty"], "table public.empty: missing"),
        ("forgotten", [], "): by an uncommitted transaction"),
        # Another row lies at its place by now.
        (
            "reused",
            ["INSERT INTO events VALUES ('made up')"],
            "public.events at (0,101): gone",
        ),
    ],
)
def test_what_nothing_since_explains_is_named(
    here: Restored, database: str, spoiled: list[str], found: str
) -> None:
    here.spoil(database, *spoiled)
    # What others do meanwhile explains other rows, and not this one.
    here.world.run(
        database,
        "UPDATE settled SET secret = 'later' WHERE id > 90",
        "INSERT INTO events VALUES ('later')",
    )
    with pytest.raises(CheckFailed) as failed:
        here.compare(database)
    assert failed.value.instance_code == "rows-differ"
    assert found in failed.value.message
    assert failed.value.message.count(": missing") <= 1


def test_a_key_that_may_be_somebodys_is_not_told(here: Restored) -> None:
    here.spoil("rolled", "DELETE FROM mailed WHERE mail = 'person7@example.org'")
    with pytest.raises(CheckFailed) as failed:
        here.compare("rolled")
    assert "person7" not in failed.value.message
    [(digest,)] = here.world.run(
        "rolled", "SELECT left(encode(sha256('person7@example.org'), 'hex'), 12)"
    )
    assert f"public.mailed (mail sha256:{digest}): missing" in failed.value.message


def test_rows_that_all_changed_prove_nothing(here: Restored) -> None:
    here.world.run("later", "UPDATE settled SET secret = ''", "TRUNCATE mailed, events")
    with pytest.raises(CheckFailed) as failed:
        here.compare("later")
    assert failed.value.instance_code == "no-rows-compared"


def test_a_database_that_was_loaded_anew_is_another(here: Restored) -> None:
    with pytest.raises(CheckFailed) as failed:
        compare_rows(
            here.then("later"), here.world.live("lost"), here.left_since,
            seed=1, clock=CLOCK, until=CLOCK.now(),
        )  # fmt: skip
    assert failed.value.instance_code == "another-database"
