"""Rows taken back into a living database: those that were deleted, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from chalicelib.errors import CheckFailed, Refused
from chalicelib.plan.records import RecoveryTarget, format_time
from chalicelib.recover.row_sources import Wish
from chalicelib.recover.rows import take_rows_back, transaction_state
from tests.row_worlds import CLOCK, Kept, RowWorld, row_world

STUDIO = """
CREATE TABLE owners (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mail text UNIQUE);
CREATE TABLE projects (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner bigint NOT NULL REFERENCES owners ON DELETE CASCADE,
    parent bigint REFERENCES projects,
    name text NOT NULL COLLATE "C",
    cents bigint NOT NULL,
    euros numeric GENERATED ALWAYS AS (cents / 100.0) STORED
);
CREATE TABLE assets (
    project bigint REFERENCES projects ON DELETE CASCADE,
    path varchar(80), tags text[], meta jsonb, "Odd ""x" bytea, size double precision,
    PRIMARY KEY (project, path)
);
INSERT INTO owners (mail) SELECT 'a' || n || '@studio' FROM generate_series(1, 20) n;
INSERT INTO projects (owner, parent, name, cents)
  SELECT 1 + n % 20, CASE WHEN n % 3 = 0 THEN n - 1 END, 'p' || n, n * 7
    FROM generate_series(1, 300) n;
INSERT INTO assets SELECT 1 + n % 300, 'f' || n, ARRAY['x', n::text], jsonb_build_object('n', n),
       decode(md5(n::text), 'hex'), n / 7.0 FROM generate_series(1, 3000) n;
"""
PARTS = """
CREATE TABLE events (id bigint, day date, what text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO events SELECT n, '2026-01-01'::date + n % 58, 'e' || n FROM generate_series(1, 500) n;
"""
KEYLESS = "CREATE TABLE notes (n int); INSERT INTO notes SELECT generate_series(1, 30);"
TRIGGERS = """
CREATE TABLE log (at timestamptz DEFAULT now(), what text);
CREATE TABLE t (id int PRIMARY KEY, stamp text);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN NEW.stamp := 'touched'; INSERT INTO public.log (what) VALUES ('touched'); RETURN NEW; END$$;
INSERT INTO t SELECT n, 'as it was' FROM generate_series(1, 50) n;
CREATE TRIGGER touch BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER off BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE t DISABLE TRIGGER off;
ALTER TABLE t ENABLE ALWAYS TRIGGER touch;
"""
CIRCLE = """
CREATE TABLE a (id int PRIMARY KEY, b int NOT NULL);
CREATE TABLE b (id int PRIMARY KEY, a int NOT NULL REFERENCES a);
INSERT INTO a SELECT n, n FROM generate_series(1, 20) n;
INSERT INTO b SELECT n, n FROM generate_series(1, 20) n;
ALTER TABLE a ADD CONSTRAINT a_b FOREIGN KEY (b) REFERENCES b;
"""
DROPS = (
    STUDIO
    + """
CREATE VIEW rich AS SELECT * FROM projects WHERE cents > 1000;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM projects;
GRANT SELECT ON projects TO PUBLIC;
"""
)
DATABASES = {
    "studio": STUDIO, "again": STUDIO, "exact": STUDIO, "parents": STUDIO, "moment": STUDIO,
    "parts": PARTS, "keyless": KEYLESS, "triggers": TRIGGERS, "circle": CIRCLE, "drops": DROPS,
    "emptied": STUDIO, "tries": STUDIO,
}  # fmt: skip
OWNERS = "DELETE FROM owners WHERE id <= 5"
ALL = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RowWorld]:
    with row_world(tmp_path_factory.mktemp("rows"), DATABASES) as made:
        yield made


def contents(world: RowWorld, database: str, *tables: str) -> list[str]:
    return [world.run(database, ALL.format(table))[0][0] for table in tables]


def test_a_cascade_over_three_tables_comes_back_and_what_was_written_since_stays(
    world: RowWorld,
) -> None:
    tables = ("owners", "projects", "assets")
    # No child of another owner's project is left without its parent.
    world.run("studio", "UPDATE projects SET parent = NULL WHERE owner > 5")
    before = contents(world, "studio", *tables)
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
              "INSERT INTO assets SELECT 5, 'f' || n, ARRAY['x', n::text], jsonb_build_object('n', n),"
              " decode(md5(n::text), 'hex'), n / 7.0 FROM generate_series(1, 3000) n"
              " WHERE 1 + n % 300 = 5")  # fmt: skip
    assert contents(world, "studio", *tables) == before
    assert transaction_state(world.live("studio"), kept.xids[0]) == "committed"


def test_a_second_attempt_finds_the_rows_there(world: RowWorld) -> None:
    xid = world.damage("again", "DELETE FROM assets WHERE project < 50")
    first, _ = world.take_back(xid, "again")
    second, kept = world.take_back(xid, "again")
    assert (first.restored, second.restored) == (first.gone, 0)
    assert second.there == first.gone and kept.aside == []


def test_what_others_deleted_stays_deleted(world: RowWorld) -> None:
    """A comparison of keys would bring these back too."""
    xid = world.damage("exact", "UPDATE assets SET size = 0 WHERE project = 3",
                       "DELETE FROM assets WHERE project IN (3, 4)",
                       "INSERT INTO assets VALUES (9, 'own')",
                       "DELETE FROM assets WHERE path = 'own'")  # fmt: skip
    world.run("exact", "DELETE FROM assets WHERE project = 100")
    back, _ = world.take_back(xid, "exact")
    assert [(it.table, it.restored) for it in back.tables] == [("public.assets", 20)]
    assert "nobody saw" in back.notes[0]
    assert world.run("exact", "SELECT count(*) FROM assets WHERE project = 100") == [(0,)]
    # As they were before the transaction, and not as it left them.
    [(zeroes,)] = world.run("exact", "SELECT count(*) FROM assets WHERE project = 3 AND size = 0")
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
    assert sum(projects.aside.values()) == 16 and projects.restored == 29
    assert projects.aside["re-created"] == 1
    assert sum(assets.aside.values()) == 150 and assets.restored == 300
    assert world.run("parents", "SELECT mail FROM owners WHERE id = 1") == [("other@studio",)]
    assert world.run("parents", "SELECT name FROM projects WHERE id = 2") == [("mine",)]
    assert len(kept.aside) == back.aside == 168
    [row] = [json.loads(row) for table, why, row in kept.aside
             if table == "public.owners" and why == "re-created"]  # fmt: skip
    assert row == {"id": 1, "mail": "a1@studio"}


def test_a_dry_run_says_the_same_and_changes_nothing(world: RowWorld) -> None:
    xid = world.damage("tries", "DELETE FROM assets WHERE project < 10")
    before = contents(world, "tries", "assets")
    kept = Kept()
    with world.before_transaction(xid, "tries") as then:
        live = world.live("tries")
        dry = take_rows_back(then, live, world.wish(xid), keep=kept, dry_run=True)
        assert contents(world, "tries", "assets") == before and kept.back == []
        real = take_rows_back(then, live, world.wish(xid), keep=kept)
    assert dry == real and real.restored == 90


def test_a_moment_and_a_table_are_compared_by_key(world: RowWorld) -> None:
    moment = CLOCK.now()
    world.run("moment", "DELETE FROM assets WHERE project = 7",
              "DELETE FROM assets WHERE project = 8",
              "INSERT INTO assets VALUES (9, 'since')")  # fmt: skip
    kept = Kept()
    with world.before(RecoveryTarget("time", format_time(moment)), "moment") as then:
        wish = Wish(tables=("assets",))
        back = take_rows_back(then, world.live("moment"), wish, keep=kept)
        assert (back.restored, back.aside) == (20, 0)
        with pytest.raises(CheckFailed) as nothing:
            take_rows_back(then, world.live("moment"), wish, keep=kept)
    assert nothing.value.instance_code == "no-rows-gone"
    assert world.run("moment", "SELECT count(*) FROM assets WHERE path = 'since'") == [(1,)]


def test_partitions_get_back_their_own(world: RowWorld) -> None:
    before = contents(world, "parts", "events")
    xid = world.damage("parts", "DELETE FROM events WHERE id % 2 = 0")
    back, _ = world.take_back(xid, "parts")
    assert [(it.table, it.restored) for it in back.tables] == [("public.events", 250)]
    assert contents(world, "parts", "events") == before
    # One of them dropped: made again, hung in again and filled.
    xid = world.damage("parts", "DROP TABLE events_2")
    back, _ = world.take_back(xid, "parts")
    assert back.made == ("public.events_2",)
    assert contents(world, "parts", "events") == before
    assert world.run("parts", "SELECT count(*) > 0 FROM events_2") == [(True,)]


def test_rows_without_a_key_are_refused(world: RowWorld) -> None:
    xid = world.damage("keyless", "DELETE FROM notes WHERE n < 10")
    with pytest.raises(Refused) as refused:
        world.take_back(xid, "keyless")
    assert refused.value.instance_code == "table-without-key"
    assert world.run("keyless", "SELECT count(*) FROM notes") == [(21,)]


def test_triggers_do_not_fire_and_are_left_as_they_were(world: RowWorld) -> None:
    states = (
        "SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = 't'::regclass ORDER BY 1"
    )
    before = world.run("triggers", states)
    xid = world.damage("triggers", "DELETE FROM t WHERE id > 10")
    back, _ = world.take_back(xid, "triggers")
    assert back.notes == ("triggers did not fire for these rows: touch of public.t",)
    assert world.run("triggers", "SELECT DISTINCT stamp FROM t") == [("as it was",)]
    assert world.run("triggers", "SELECT count(*) FROM log") == [(0,)]
    assert world.run("triggers", states) == before == [("off", "D"), ("touch", "A")]


def test_tables_that_refer_to_each_other_in_a_circle(world: RowWorld) -> None:
    world.run("circle", "ALTER TABLE a ALTER CONSTRAINT a_b DEFERRABLE")
    xid = world.damage("circle", "SET CONSTRAINTS ALL DEFERRED",
                       "DELETE FROM b WHERE id <= 10", "DELETE FROM a WHERE id <= 10")  # fmt: skip
    world.run("circle", "ALTER TABLE a ALTER CONSTRAINT a_b NOT DEFERRABLE")
    back, _ = world.take_back(xid, "circle")
    assert back.restored == 20
    assert world.run("circle", "SELECT bool_or(condeferrable) FROM pg_constraint"
                               " WHERE contype = 'f'") == [(False,)]  # fmt: skip


def test_a_dropped_table_comes_back_with_all_that_hung_on_it(world: RowWorld) -> None:
    schema = """
        SELECT c.relname, c.relkind::text, pg_get_userbyid(c.relowner), c.relacl::text FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1"""
    constraints = """
        SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
         WHERE connamespace = 'public'::regnamespace ORDER BY 1"""
    before = [*contents(world, "drops", "projects", "assets", "rich", "counted"),
              world.run("drops", schema), world.run("drops", constraints)]  # fmt: skip
    xid = world.damage("drops", "DROP TABLE projects CASCADE")
    world.run("drops", "INSERT INTO owners (mail) VALUES ('since@studio')")
    back, _ = world.take_back(xid, "drops")
    assert set(back.made) == {"public.projects", "public.rich", "public.counted"}
    assert back.restored == 300
    after = [*contents(world, "drops", "projects", "assets", "rich", "counted"),
             world.run("drops", schema), world.run("drops", constraints)]  # fmt: skip
    assert after == before
    [(number,)] = world.run(
        "drops", "INSERT INTO projects (owner, name, cents) VALUES (1, 'x', 1) RETURNING id"
    )
    assert number == 301


def test_a_truncated_table_is_filled_beside_what_was_written_since(world: RowWorld) -> None:
    xid = world.damage("emptied", "TRUNCATE projects RESTART IDENTITY CASCADE")
    world.run("emptied", "INSERT INTO projects (owner, name, cents) VALUES (1, 'one', 1)")
    back, kept = world.take_back(xid, "emptied")
    projects = next(it for it in back.tables if it.table == "public.projects")
    assert projects.restored == 299 and projects.aside == {"re-created": 1}
    assert world.run("emptied", "SELECT name FROM projects WHERE id = 1") == [("one",)]
    assert any("projects_id_seq" in note for note in back.notes)
    [(number,)] = world.run(
        "emptied", "INSERT INTO projects (owner, name, cents) VALUES (1, 'x', 1) RETURNING id"
    )
    assert number == 301


def test_a_table_that_was_written_anew_is_refused(world: RowWorld) -> None:
    xid = world.damage("again", "ALTER TABLE owners ALTER mail TYPE varchar(90) USING 'x' || id")
    with pytest.raises(Refused) as refused:
        world.take_back(xid, "again")
    assert refused.value.instance_code == "table-rewritten"
