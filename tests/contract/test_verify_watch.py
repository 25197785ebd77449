"""The watch of a running source: each damage gives a sign within one look, and load gives none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.inspect import PostgresInspector
from chalicelib.adapters.postgres.waldump import PgWaldump
from chalicelib.errors import Unavailable
from chalicelib.plan.components import Assertion, DamageThresholds, DatabaseChecks
from chalicelib.plan.records import parse_lsn
from chalicelib.recover.database.relations import Relations, gather_relations, read_relations
from chalicelib.recover.database.watch_wal import (
    Look,
    WalMark,
    look_at_wal,
    remember_look,
    tell_look,
)
from chalicelib.verify.checks import Outcome
from chalicelib.verify.watch import probe_texts, watch_database
from leeward.local.damage import DAMAGES, Injected, Victim
from leeward.local.sample_app import create_schema
from tests.servers import RealServer, running_server

CHECKS = DatabaseChecks(
    assertions=(
        Assertion(name="exist", sql="SELECT count(updated_at) FROM projects", expect="> 0"),
    )
)
PROJECTS = 1500
GRANTED = "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO leeward"
GONE = {
    "table-renamed": "ALTER TABLE projects RENAME TO projects_old",
    "table-moved": "ALTER TABLE projects SET SCHEMA attic",
    "column-renamed": "ALTER TABLE projects RENAME updated_at TO changed_at",
    "column-dropped": "ALTER TABLE projects DROP COLUMN updated_at",
}


class Watch:
    """What one component's watch keeps between its looks."""

    def __init__(self, server: RealServer) -> None:
        self.server = server
        self.operator = server.dsn("nexus", "leeward", "operator")
        self.mark = WalMark(timeline=1, lsn=self._end(), seen=False, open={})
        self.relations = self._live()
        self.answered = list(probe_texts(CHECKS).values())
        self.looks: list[Look] = []

    def _end(self) -> int:
        with self.server.connect() as connection:
            row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert row
        return parse_lsn(row[0])

    def _live(self) -> Relations:
        with PostgresDatabases(self.operator).session() as session:
            return gather_relations("nexus", [], read_relations(session))

    def look(self) -> Look:
        with PostgresDatabases(self.operator).session() as session:
            self.relations.learn(read_relations(session)[1])
        wal = PgWaldump(find_binaries(), self.server.data / "pg_wal")
        thresholds = DamageThresholds(rows=1000, times_usual=20)
        look = look_at_wal(wal, self.mark, self._end(), self.relations, thresholds)
        self.mark = WalMark.from_json(look.mark.to_json())
        self.looks.append(look)
        return look

    def run(self) -> Outcome:
        databases = PostgresDatabases(self.operator)
        return watch_database(
            databases,
            PostgresInspector(self.operator, databases),
            CHECKS,
            since=None,
            clock=SystemClock(),
            answered=self.answered,
            more=[("transactions", self._tell)],
        )

    def _tell(self) -> str:
        try:
            return tell_look(self.look())
        except psycopg.OperationalError as error:
            raise Unavailable("the server is gone") from error

    def injure(self, name: str, table: str = "") -> Injected:
        return DAMAGES[name](Victim(self.server.dsn("nexus"), self.server.data, table=table))


@pytest.fixture
def watch() -> Iterator[Watch]:
    with running_server() as server:
        server.run(
            "CREATE ROLE leeward LOGIN REPLICATION PASSWORD 'operator'",
            "GRANT pg_read_all_data, pg_monitor TO leeward",
            "CREATE DATABASE nexus",
        )
        server.run("CREATE EXTENSION amcheck", GRANTED, database="nexus")
        create_schema(server.dsn("nexus"), projects=PROJECTS)
        server.run("VACUUM ANALYZE", database="nexus")
        yield Watch(server)


SIGNS = {
    "update-without-where": {"transactions"},
    "delete-without-where": {"transactions"},
    "truncate": {"transactions"},
    "drop-table": {"transactions"},
    "wrong-migration": {"transactions"},
    "heap-bytes": {"amcheck"},
    "relation-file": {"files", "amcheck"},
    "index-mismatch": {"amcheck"},
}


@pytest.mark.parametrize("name", SIGNS)
def test_each_damage_gives_a_sign(watch: Watch, name: str) -> None:
    sound = watch.run()
    assert sound.ok, sound
    injected = watch.injure(name)
    seen = watch.run()
    assert set(seen.signs) == SIGNS[name]
    assert seen.unable == ()
    words = " ".join(result.found for result in seen.results if not result.ok)
    assert str(injected.xid or "") in words


def test_a_page_that_failed_stays_a_sign_until_it_is_old(watch: Watch) -> None:
    watch.injure("heap-bytes")
    watch.run()
    deadline = SystemClock().now().timestamp() + 10
    while "page-checksums" not in watch.run().signs:
        assert SystemClock().now().timestamp() < deadline
        SystemClock().sleep(0.1)


def test_counts_a_transaction_that_is_longer_than_a_look(watch: Watch) -> None:
    with watch.server.connect("nexus") as slow:
        slow.execute("BEGIN")
        xid = slow.execute("DELETE FROM assets RETURNING pg_current_xact_id()::text").fetchone()
        watch.server.run("CHECKPOINT", "SELECT pg_logical_emit_message(true, '', '')")
        assert watch.look().suspects == ()
        watch.server.run("SELECT pg_switch_wal()", "SELECT pg_logical_emit_message(true, '', '')")
        assert watch.look().suspects == ()
        slow.execute("COMMIT")
    [suspect] = watch.look().suspects
    assert (str(suspect.xid), suspect.rows) == ((xid or ("",))[0], PROJECTS * 4)


def test_counts_each_transaction_once(watch: Watch) -> None:
    looked = 0
    for number in range(1, 41):
        watch.server.run(f"UPDATE projects SET owner = 'x' WHERE id = {number}", database="nexus")
        if number % 7 == 0:
            looked += watch.look().transactions
    looked += watch.look().transactions
    assert looked == 40
    assert watch.look().transactions == 0
    assert watch.mark.open == {}


def test_small_transactions_are_no_sign_however_many(watch: Watch) -> None:
    watch.server.run(
        "DO $$ BEGIN FOR n IN 1..1500 LOOP UPDATE projects SET owner = 'x' WHERE id = n;"
        " COMMIT; END LOOP; END $$",
        database="nexus",
    )
    look = watch.look()
    assert (look.transactions, look.suspects) == (PROJECTS, ())


def test_what_cannot_run_is_no_sign_of_damage(watch: Watch) -> None:
    watch.server.run("DROP EXTENSION amcheck", database="nexus")
    seen = watch.run()
    assert (seen.signs, seen.unable, seen.ok) == ((), ("amcheck",), False)
    watch.server.stop()
    gone = watch.run()
    assert gone.signs == ()
    assert set(gone.unable) == {
        "database", "files", "page-checksums", "assertion:exist", "amcheck", "transactions",
    }  # fmt: skip


def test_a_moment_counts_as_sound_when_every_check_ran(watch: Watch) -> None:
    """What nobody could ask about may be damaged: a recovery must look for it later."""
    update = "UPDATE projects SET owner = 'x' WHERE id = 1"
    kept: dict[str, Any] = {}
    sound: list[str] = []
    for asked in ("amcheck", "nothing", "amcheck"):
        watch.server.run(update, "DROP EXTENSION amcheck" if asked == "nothing" else
                         "CREATE EXTENSION IF NOT EXISTS amcheck", database="nexus")  # fmt: skip
        watch.server.run(GRANTED, database="nexus")
        seen = watch.run()
        assert seen.ok is (asked != "nothing"), seen
        kept = remember_look(kept, watch.looks[-1], sound=seen.ok)
        assert WalMark.from_json(kept["mark"]) == watch.mark
        sound.append(kept["commit_at"])
    assert sound[0] == sound[1] < sound[2] == kept["seen_at"]
    assert watch.run().ok
    assert remember_look(kept, watch.looks[-1], sound=True)["commit_at"] == sound[2]


def test_the_end_of_what_nobody_could_ask_about_is_sound_at_once() -> None:
    """Also when nothing was committed since."""
    mark = WalMark(timeline=1, lsn=9, seen=True, open={})
    at = datetime(2026, 11, 22, 12, tzinfo=UTC)
    kept = remember_look({"commit_at": ""}, Look(mark, (), 1, at), sound=False)
    assert kept["commit_at"] == ""
    kept = remember_look(kept, Look(mark, (), 0), sound=True)
    assert kept["commit_at"] == "2026-11-22T12:00:00.000000Z"


def test_a_failed_assertion_is_a_sign(watch: Watch) -> None:
    watch.server.run("TRUNCATE projects CASCADE", database="nexus")
    assert set(watch.run().signs) == {"assertion:exist", "transactions"}


def test_wal_that_is_gone_is_no_sign_of_damage(watch: Watch) -> None:
    watch.mark = replace(watch.mark, lsn=16 << 20)
    (watch.server.data / "pg_wal" / "000000010000000000000001").unlink()
    with pytest.raises(Unavailable) as raised:
        watch.look()
    assert raised.value.instance_code == "wal-unreadable"


@pytest.mark.parametrize("statement", GONE.values(), ids=GONE)
def test_what_a_probe_asked_and_is_gone_is_a_sign(watch: Watch, statement: str) -> None:
    watch.server.run("CREATE SCHEMA attic", statement, database="nexus")
    seen = watch.run()
    assert (seen.signs, seen.unable) == (("assertion:exist",), ())
    told = " ".join(result.found for result in seen.results if not result.ok)
    assert told.endswith("it was there before")


def test_a_probe_that_never_had_an_answer_is_no_sign(watch: Watch) -> None:
    """A plan that names a table wrongly wakes somebody, and starts no recovery."""
    watch.answered = []
    watch.server.run(GONE["table-renamed"], database="nexus")
    seen = watch.run()
    assert (seen.signs, seen.unable) == ((), ("assertion:exist",))


def test_a_right_that_was_taken_is_no_sign(watch: Watch) -> None:
    watch.server.run("REVOKE pg_read_all_data FROM leeward")
    seen = watch.run()
    assert seen.signs == ()
    assert "assertion:exist" in seen.unable
