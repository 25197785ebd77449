"""Rows taken back into a living database: those that were deleted, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.postgres.binaries import Binaries
from chalicelib.errors import CheckFailed, Refused
from chalicelib.plan.records import RecoveryTarget, format_time
from chalicelib.recover.choose_copy import Candidate
from chalicelib.recover.rows.access import (
    could_delete,
    grant_rights,
    read_rights,
    revoke_rights,
)
from chalicelib.recover.rows.sources import Wish
from chalicelib.recover.rows.take_back import remove_rows, take_rows_back, transaction_state
from leeward.row_restoring import RowRestorer
from tests.clusters import other_versions
from tests.row_worlds import CLOCK, PASSWORD, STUDIO, Kept, RowWorld, row_world

DATABASES = {"studio": STUDIO, "again": STUDIO, "parents": STUDIO, "busy": STUDIO}
OWNERS = "DELETE FROM owners WHERE id <= 5"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RowWorld]:
    with row_world(tmp_path_factory.mktemp("rows"), DATABASES) as made:
        yield made


def test_a_cascade_over_three_tables_comes_back_and_what_was_written_since_stays(
    world: RowWorld,
) -> None:
    tables = ("owners", "projects", "assets")
    # No child of another owner's project is left without its parent.
    world.run("studio", "UPDATE projects SET parent = NULL WHERE owner > 5")
    before = world.contents("studio", *tables)
    xid = world.damage("studio", "SAVEPOINT a", OWNERS, "RELEASE SAVEPOINT a")
    world.run(
        "studio",
        "INSERT INTO owners (mail) VALUES ('new@studio')",
        "UPDATE projects SET cents = cents + 1 WHERE id = 5",
        "DELETE FROM assets WHERE project = 5",
    )
    since = world.run("studio", "SELECT count(*) FROM assets")[0][0]
    back, kept = world.take_back(xid, "studio")
    gone = {it.table: it.gone for it in back.tables}
    assert gone == {"public.owners": 5, "public.projects": 75, "public.assets": 750}
    assert (back.restored, back.there, back.aside, kept.aside) == (830, 0, 0, [])
    assert world.run("studio", "SELECT count(*) FROM assets")[0][0] == since + 750
    # The only differences are what others did since.
    world.run("studio", "DELETE FROM owners WHERE mail = 'new@studio'",
              "UPDATE projects SET cents = cents - 1 WHERE id = 5",
              "INSERT INTO assets"
              " SELECT 5, 'f' || n, ARRAY['x', n::text], jsonb_build_object('n', n),"
              " decode(md5(n::text), 'hex'), n / 7.0 FROM generate_series(1, 3000) n"
              " WHERE 1 + n % 300 = 5")  # fmt: skip
    assert world.contents("studio", *tables) == before
    assert transaction_state(world.live("studio"), kept.xids[0]) == "committed"


def test_a_second_attempt_finds_the_rows_there(world: RowWorld) -> None:
    xid = world.damage("again", "DELETE FROM assets WHERE project < 50")
    first, _ = world.take_back(xid, "again")
    second, kept = world.take_back(xid, "again")
    assert (first.restored, second.restored) == (first.gone, 0)
    assert second.there == first.gone
    assert kept.aside == []


def test_what_others_deleted_stays_deleted(world: RowWorld) -> None:
    """A comparison of keys would bring these back too."""
    xid = world.damage("busy", "UPDATE assets SET size = 0 WHERE project = 3",
                       "DELETE FROM assets WHERE project IN (3, 4)",
                       "INSERT INTO assets VALUES (9, 'own')",
                       "DELETE FROM assets WHERE path = 'own'")  # fmt: skip
    world.run("busy", "DELETE FROM assets WHERE project = 100")
    back, _ = world.take_back(xid, "busy")
    assert [(it.table, it.restored) for it in back.tables] == [("public.assets", 20)]
    assert "nobody saw" in back.notes[0]
    assert len(back.notes) == 1
    assert world.run("busy", "SELECT count(*) FROM assets WHERE project = 100") == [(0,)]
    # As they were before the transaction, and not as it left them.
    [(zeroes,)] = world.run("busy", "SELECT count(*) FROM assets WHERE project = 3 AND size = 0")
    assert zeroes == 0


def test_a_row_made_again_stays_and_the_old_one_is_set_aside(world: RowWorld) -> None:
    world.run("parents", "UPDATE projects SET parent = NULL")
    xid = world.damage("parents", "DELETE FROM owners WHERE id IN (1, 2, 3)")
    world.run(
        "parents",
        "INSERT INTO owners (id, mail) OVERRIDING SYSTEM VALUE VALUES (1, 'other@studio')",
        "INSERT INTO owners (mail) VALUES ('a2@studio')",
        "INSERT INTO projects (id, owner, name, cents) OVERRIDING SYSTEM VALUE"
        " VALUES (2, 9, 'mine', 1)",
    )
    back, kept = world.take_back(xid, "parents")
    owners, projects, assets = sorted(back.tables, key=lambda it: it.gone)
    assert owners.aside == {"re-created": 1, "taken: public.owners_mail_key": 1}
    # Owner 2 does not come back under its id, and so neither do its projects and their assets.
    assert sum(projects.aside.values()) == 16
    assert projects.restored == 29
    assert projects.aside["re-created"] == 1
    assert sum(assets.aside.values()) == 150
    assert assets.restored == 300
    assert world.run("parents", "SELECT mail FROM owners WHERE id = 1") == [("other@studio",)]
    assert world.run("parents", "SELECT name FROM projects WHERE id = 2") == [("mine",)]
    assert len(kept.aside) == back.aside == 168
    [row] = [json.loads(row) for table, why, row in kept.aside
             if table == "public.owners" and why == "re-created"]  # fmt: skip
    assert row == {"id": 1, "mail": "a1@studio"}


def test_a_dry_run_says_the_same_and_changes_nothing(world: RowWorld) -> None:
    xid = world.damage("again", "DELETE FROM assets WHERE project < 10")
    before = world.contents("again", "assets")
    kept = Kept()
    with world.before_transaction(xid, "again") as then:
        live = world.live("again")
        dry = take_rows_back(then, live, world.wish(xid), keep=kept, dry_run=True)
        assert world.contents("again", "assets") == before
        assert kept.back == []
        real = take_rows_back(then, live, world.wish(xid), keep=kept)
    assert dry == real
    assert real.restored == 90


def test_a_moment_and_a_table_are_compared_by_key(world: RowWorld) -> None:
    moment = CLOCK.now()
    world.run("again", "DELETE FROM assets WHERE project = 7",
              "DELETE FROM assets WHERE project = 8",
              "INSERT INTO assets VALUES (9, 'since')")  # fmt: skip
    kept = Kept()
    with world.before(RecoveryTarget("time", format_time(moment)), "again") as then:
        wish = Wish(tables=("assets",))
        back = take_rows_back(then, world.live("again"), wish, keep=kept)
        assert (back.restored, back.aside) == (20, 0)
        with pytest.raises(CheckFailed) as nothing:
            take_rows_back(then, world.live("again"), wish, keep=kept)
    assert nothing.value.instance_code == "no-rows-gone"
    assert world.run("again", "SELECT count(*) FROM assets WHERE path = 'since'") == [(1,)]


def test_what_is_written_meanwhile_stays(world: RowWorld) -> None:
    """The application inserts, changes and deletes all the time, in the same tables."""
    xid = world.damage("busy", "DELETE FROM assets WHERE project BETWEEN 20 AND 60")
    expected: dict[str, int] = {}
    stop = threading.Event()

    def write() -> None:
        with world.app("busy") as connection:
            number = 0
            while not stop.is_set():
                number += 1
                path = f"w{number}"
                connection.execute(
                    "INSERT INTO assets (project, path, size) VALUES (%s, %s, 1)",
                    (20 + number % 40, path),
                )
                connection.execute("UPDATE assets SET size = 2 WHERE path = %s", (path,))
                expected[path] = 2
                if number % 3 == 0:
                    connection.execute("DELETE FROM assets WHERE path = %s", (f"w{number - 1}",))
                    expected.pop(f"w{number - 1}")

    writer = threading.Thread(target=write)
    writer.start()
    back, kept = world.take_back(xid, "busy")
    stop.set()
    writer.join()
    assert (back.restored, back.aside, kept.aside) == (410, 0, [])
    rows = world.run("busy", "SELECT path, size FROM assets WHERE path LIKE 'w%%'")
    assert dict(rows) == expected


def test_a_row_that_appears_in_between_stays(world: RowWorld) -> None:
    """It is not there when the rows are looked at, and committed before they go in."""
    xid = world.damage("busy", "DELETE FROM assets WHERE project = 90")
    with world.app("busy") as other:
        other.execute("BEGIN")
        other.execute("INSERT INTO assets (project, path, size) VALUES (90, 'f89', -1)")
        done = threading.Timer(6, lambda: other.execute("COMMIT"))
        done.start()
        back, kept = world.take_back(xid, "busy")
        done.join()
    assert (back.restored, back.aside) == (9, 1)
    assert [(table, why) for table, why, _ in kept.aside] == [
        ("public.assets", "taken: a unique value")
    ]
    assert world.run("busy", "SELECT size FROM assets WHERE path = 'f89'") == [(-1.0,)]


KILLED = """
import sys, time
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.recover.rows.sources import Wish
from chalicelib.recover.rows.take_back import take_rows_back

def keep(back, xid, aside):
    print(xid, flush=True)
    time.sleep(60)

then, live = map(PostgresDatabases, sys.argv[1:])
take_rows_back(then, live, Wish(tables=("assets",)), keep=keep)
"""


def test_a_worker_that_dies_before_the_commit_leaves_nothing(world: RowWorld) -> None:
    xid = world.damage("busy", "DELETE FROM assets WHERE project = 91")
    before = world.contents("busy", "assets", "pg_class")
    live = world.live("busy")
    with world.before_transaction(xid, "busy") as then:
        dsns = [_dsn(then), world.server.dsn("busy", user="leeward", password=PASSWORD)]
        worker = subprocess.Popen(
            [sys.executable, "-c", KILLED, *dsns], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout
        committing = worker.stdout.readline().strip()
        assert transaction_state(live, committing) == "in progress"
        worker.kill()
        worker.wait()
        deadline = time.monotonic() + 10
        while transaction_state(live, committing) != "aborted":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert world.contents("busy", "assets", "pg_class") == before
        back = take_rows_back(then, live, world.wish(xid), keep=Kept())
    assert (back.restored, back.there, back.aside) == (10, 0, 0)


def _dsn(then: Any) -> str:
    return " ".join(f"{name}='{value}'" for name, value in then._parameters.items())


def test_rows_are_taken_out_again_but_for_those_written_since(world: RowWorld) -> None:
    xid = world.damage("again", "DELETE FROM assets WHERE project IN (201, 202)")
    after = world.contents("again", "assets")
    back, kept = world.take_back(xid, "again")
    assert remove_rows(world.live("again"), back, kept.xids[0]) == 20
    assert world.contents("again", "assets") == after
    back, kept = world.take_back(xid, "again")
    world.run("again", "UPDATE assets SET size = 7 WHERE project = 201")
    assert remove_rows(world.live("again"), back, kept.xids[0]) == 10
    assert remove_rows(world.live("again"), back, kept.xids[0]) == 0
    world.run("again", "DELETE FROM assets WHERE project = 201")


class Places:
    """One location: the store of the world."""

    def __init__(self, world: RowWorld) -> None:
        self.world = world

    def ask(self, location: str, component: str) -> Candidate:
        catalogue = self.catalogue(location, component)
        return Candidate(location, 0, catalogue.holdings(), catalogue.inventory())

    def candidates(self, component: str) -> tuple[Candidate, ...]:
        return (self.ask("here", component),)

    def store(self, location: str, component: str) -> Any:
        return self.world.store

    def catalogue(
        self, location: str, component: str, *, quarantined: Mapping[str, str] | None = None
    ) -> StoredCatalogue:
        return self.world.catalogue


@pytest.mark.parametrize("by", ["transaction", "moment"])
def test_by_hand(world: RowWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    moment = format_time(CLOCK.now())
    project = 150 if by == "transaction" else 151
    there = f"SELECT count(*) FROM assets WHERE project = {project}"
    xid = world.damage("studio", f"DELETE FROM assets WHERE project = {project}")
    world.run("studio", f"INSERT INTO assets (project, path) VALUES ({project}, 'f{project - 1}')")
    world.back_up()
    tables, named = ((), str(xid)) if by == "transaction" else (("assets",), moment)

    def restorer(aside: Path | None = None) -> RowRestorer:
        live = world.live("studio")
        places: Any = Places(world)
        return RowRestorer(places, "db", named, tables, live, lambda *_: None, aside=aside)

    dry = restorer().run(dry_run=True)
    assert world.run("studio", there) == [(1,)]
    if by == "transaction":
        assert (dry.restored, dry.aside) == (9, 1)
        with pytest.raises(Refused) as refused:
            restorer().run(dry_run=False)
        assert refused.value.instance_code == "rows-left-out"
        assert world.run("studio", there) == [(1,)]
    file, sync, synced = tmp_path / "aside.jsonl", os.fsync, set[tuple[int, int]]()

    def watched_sync(handle: int) -> None:
        sync(handle)
        facts = os.fstat(handle)
        synced.add((facts.st_ino, facts.st_size))

    monkeypatch.setattr(os, "fsync", watched_sync)
    back = restorer(file).run(dry_run=False)
    assert world.run("studio", there) == [(10,)]
    assert back.restored == 9
    if by == "transaction":
        [line] = [json.loads(line) for line in file.read_text().splitlines()]
        assert (line["why"], line["row"]["path"], line["row"]["tags"]) == (
            "re-created", "f149", ["x", "149"],
        )  # fmt: skip
        assert (file.stat().st_ino, file.stat().st_size) in synced


@pytest.mark.parametrize("binaries", other_versions(), ids=lambda it: str(it.major))
def test_a_dropped_table_comes_back_by_hand_whatever_the_version(
    binaries: Binaries, tmp_path: Path
) -> None:
    """What its own pg_dump writes: another's words may be none of its server's."""
    with row_world(tmp_path, {"studio": STUDIO}, binaries) as world:
        before = world.contents("studio", "projects", "assets")
        xid = world.damage("studio", "DROP TABLE assets", "DELETE FROM projects WHERE id = 300")
        world.back_up()
        places: Any = Places(world)
        live = world.live("studio")
        restorer = RowRestorer(places, "db", str(xid), (), live, lambda *_: None)
        back = restorer.run(dry_run=False)
        assert (back.restored, back.aside) == (3001, 0)
        assert world.contents("studio", "projects", "assets") == before


def test_the_right_to_delete_is_taken_and_given_back(world: RowWorld) -> None:
    live, tables = world.live("studio"), ("public.owners", "public.assets", "public.nothing")
    world.server.run("CREATE ROLE intern LOGIN", "GRANT DELETE ON owners, assets TO intern "
                     "WITH GRANT OPTION", database="studio")  # fmt: skip
    acls = "SELECT relacl::text FROM pg_class WHERE relname IN ('owners', 'assets') ORDER BY 1"
    before = world.run("studio", acls)
    assert could_delete(live, tables) == ("app", "intern")
    rights = read_rights(live, "intern", tables)
    assert [(it.table, it.right) for it in rights] == [
        ("public.assets", "DELETE"), ("public.owners", "DELETE"),
    ]  # fmt: skip
    revoke_rights(live, "intern", rights)
    revoke_rights(live, "intern", rights)
    assert could_delete(live, tables) == ("app",)
    grant_rights(live, "intern", rights)
    assert world.run("studio", acls) == before
    # The owner has its rights without having been given them.
    own = read_rights(live, "app", tables)
    revoke_rights(live, "app", own)
    with pytest.raises(Exception, match="permission denied"):
        world.run("studio", "DELETE FROM owners WHERE id = -1")
    with pytest.raises(Exception, match="permission denied"):
        world.run("studio", "TRUNCATE assets")
    world.run("studio", "UPDATE owners SET mail = mail WHERE id = 10")
    grant_rights(live, "app", own)
    world.run("studio", "DELETE FROM owners WHERE id = -1")
    # What everybody may, no single role can lose.
    world.server.run("GRANT DELETE ON owners TO PUBLIC", database="studio")
    with pytest.raises(CheckFailed) as error:
        revoke_rights(live, "intern", rights)
    assert error.value.instance_code == "still-may-delete"
