"""Rows taken back into tables of every shape: partitions, triggers, circles, dropped ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalicelib.errors import Refused
from tests.row_worlds import STUDIO, RowWorld, row_world

PARTS = """
CREATE TABLE events (id bigint, day date, what text, PRIMARY KEY (id, day))
  PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO events SELECT n, '2026-01-01'::date + n % 58, 'e' || n FROM generate_series(1, 500) n;
"""
KEYLESS = "CREATE TABLE notes (n int); INSERT INTO notes SELECT generate_series(1, 30);"
TRIGGERS = """
CREATE TABLE log (at timestamptz DEFAULT now(), what text);
CREATE TABLE t (id int PRIMARY KEY, stamp text);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN NEW.stamp := 'touched'; INSERT INTO public.log (what) VALUES ('touched'); RETURN NEW;
    END$$;
INSERT INTO t SELECT n, 'as it was' FROM generate_series(1, 50) n;
CREATE TRIGGER touch BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER off BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE t DISABLE TRIGGER off;
ALTER TABLE t ENABLE ALWAYS TRIGGER touch;
"""
EMPTIED = """
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL);
INSERT INTO p SELECT generate_series(1, 9);
INSERT INTO c SELECT n, n FROM generate_series(1, 9) n;
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
    "parts": PARTS, "keyless": KEYLESS, "triggers": TRIGGERS, "circle": CIRCLE, "drops": DROPS,
    "emptied": STUDIO, "references_": EMPTIED,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RowWorld]:
    with row_world(tmp_path_factory.mktemp("rows"), DATABASES) as made:
        yield made


def test_partitions_get_back_their_own(world: RowWorld) -> None:
    before = world.contents("parts", "events")
    xid = world.damage("parts", "DELETE FROM events WHERE id % 2 = 0")
    back, _ = world.take_back(xid, "parts")
    assert [(it.table, it.restored) for it in back.tables] == [("public.events", 250)]
    assert world.contents("parts", "events") == before
    # One of them dropped: made again, hung in again and filled.
    xid = world.damage("parts", "DROP TABLE events_2")
    back, _ = world.take_back(xid, "parts")
    assert back.made == ("public.events_2",)
    assert world.contents("parts", "events") == before
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
        SELECT c.relname, c.relkind::text, pg_get_userbyid(c.relowner), c.relacl::text
          FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1"""
    constraints = """
        SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
         WHERE connamespace = 'public'::regnamespace ORDER BY 1"""
    before = [*world.contents("drops", "projects", "assets", "rich", "counted"),
              world.run("drops", schema), world.run("drops", constraints)]  # fmt: skip
    xid = world.damage("drops", "DROP TABLE projects CASCADE")
    world.run("drops", "INSERT INTO owners (mail) VALUES ('since@studio')")
    back, _ = world.take_back(xid, "drops")
    assert set(back.made) == {"public.projects", "public.rich", "public.counted"}
    assert back.restored == 300
    after = [*world.contents("drops", "projects", "assets", "rich", "counted"),
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
    assert projects.restored == 299
    assert projects.aside == {"re-created": 1}
    assert world.run("emptied", "SELECT name FROM projects WHERE id = 1") == [("one",)]
    assert any("projects_id_seq" in note for note in back.notes)
    [(number,)] = world.run(
        "emptied", "INSERT INTO projects (owner, name, cents) VALUES (1, 'x', 1) RETURNING id"
    )
    assert number == 301


def test_a_table_that_was_written_anew_is_refused(world: RowWorld) -> None:
    xid = world.damage("emptied", "ALTER TABLE owners ALTER mail TYPE varchar(90) USING 'x' || id")
    with pytest.raises(Refused) as refused:
        world.take_back(xid, "emptied")
    assert refused.value.instance_code == "table-rewritten"


def test_references_that_were_emptied_are_said(world: RowWorld) -> None:
    xid = world.damage("references_", "DELETE FROM p WHERE id < 4")
    back, _ = world.take_back(xid, "references_")
    assert back.restored == 3
    assert back.notes[0].startswith("3 rows that it changed stay as it left them")
    assert world.run("references_", "SELECT count(*) FROM c WHERE p IS NULL") == [(3,)]
