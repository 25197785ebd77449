"""A database that an attacker renamed, replaced or dropped: seen in its WAL, and brought back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.errors import NotReady
from chalicelib.plan.components import DamageThresholds
from chalicelib.plan.records import RecoveryTarget, format_time
from chalicelib.plan.signs import Judgement
from chalicelib.recover.attack.infection import (
    DatabaseSign,
    Facts,
    Infection,
    decide_infection,
)
from chalicelib.recover.database.digests import TableDigest, compare_digests
from chalicelib.services import build
from chalicelib.services.steps.attack import database_signs as signs_step
from chalicelib.services.steps.database.relations import relations_since
from chalicelib.services.steps.sources import Source
from leeward.local.attack import scramble
from leeward.local.sample_app import create_schema
from tests.contract.test_switch_circle import CLOCK, Circle, circle

__all__ = ["circle"]
COMPONENT, LOCKED = "db", "nexus_locked"
RUN: Any = SimpleNamespace(run_id="run-1", site="", drill=False)


class Attacked:
    """A circle with the steps' own way to its parts."""

    def __init__(self, made: Circle) -> None:
        self.circle, self.server = made, made.server
        made.back_up()
        made.fetch_wal()
        with made.writing():
            CLOCK.sleep(0.1)
        self.before: dict[str, TableDigest] = made.contents()
        self.schema = made.schema()
        self.since = datetime.now(UTC)

    def quiet(self) -> None:
        """Times of an infection are whole seconds, and a moment before it is a second earlier."""
        end = datetime.now(UTC) + timedelta(seconds=2.2)
        while datetime.now(UTC) < end:
            CLOCK.sleep(0.1)

    def scramble(self) -> None:
        scramble(self.server.dsn("nexus", "nexus_app", "app"))

    def rename(self) -> None:
        self.server.run(f"ALTER DATABASE nexus RENAME TO {LOCKED}")

    def signs(self) -> list[DatabaseSign]:
        return signs_step.database_signs(RUN, COMPONENT, self.since)

    def infection(self) -> Infection:
        """By the database alone, beside a watch that says that it began a while later."""
        judged = Judgement(True, 0.99, datetime.now(UTC), "writes that belie themselves")
        return decide_infection(Facts("bucket", judged, database=self.signs()))

    def recover(self, infection: Infection) -> list[str]:
        """What differs from before the attack, or which check failed."""
        target = RecoveryTarget("time", format_time(infection.last_clean), infection.drop_lsn)
        self.circle.rebuild(target)
        damage: Any = SimpleNamespace(kind="suspected", tables=())
        failed = self.circle.verify_and_load(damage, self.schema, "nexus_recovery")
        return failed or [
            str(it) for it in compare_digests(self.before, self.circle.contents("nexus_recovery"))
        ]


@pytest.fixture
def attacked(
    circle: Circle,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Attacked:
    def operator(component: str, name: str = "") -> PostgresDatabases:
        dsn = circle.server.dsn(name or "nexus", "leeward", "operator")
        return PostgresDatabases(dsn)

    def source(component: str) -> PostgresSource:
        return PostgresSource(circle.operator_dsn, any_database=True)

    here = SimpleNamespace(work_dir=tmp_path / "work", postgres=None)
    chosen = Source("primary", circle.store, circle.catalogue)
    for name, made in (
        ("operator", operator),
        ("source", source),
        ("backups", lambda component: circle.store),
        ("catalogue", lambda component: circle.catalogue),
        ("clock", lambda: CLOCK),
        ("environment", lambda: here),
        ("database", lambda component: SimpleNamespace(damage=DamageThresholds())),
    ):
        monkeypatch.setattr(build, name, made)
    monkeypatch.setattr(signs_step, "choose_source", lambda run, component, target: chosen)
    return Attacked(circle)


def test_what_was_done_before_it_was_renamed_is_seen_and_undone(attacked: Attacked) -> None:
    """And another was made in its place, so that somebody connects."""
    attacked.quiet()
    attacked.scramble()
    attacked.rename()
    attacked.server.run("CREATE DATABASE nexus OWNER nexus_app")
    create_schema(attacked.server.dsn("nexus", "nexus_app", "app"), projects=10)
    scrambled, renamed = attacked.signs()
    assert scrambled.rows == 1500
    assert "changed" in scrambled.why or "updated" in scrambled.why
    assert LOCKED in renamed.why
    assert scrambled.committed_at < renamed.committed_at
    found = attacked.infection()
    assert found.counts["rows"] == 1500
    assert found.started_at == scrambled.committed_at
    assert attacked.recover(found) == []
    relations, called = relations_since(
        attacked.circle.store, attacked.circle.operator, attacked.since
    )
    assert called == LOCKED, "there lie the rows that may be set aside"
    assert relations.rows_of("public.projects") == 1500


def test_one_that_was_only_renamed_is_brought_back_by_its_name(attacked: Attacked) -> None:
    attacked.quiet()
    attacked.rename()
    [renamed] = attacked.signs()
    assert LOCKED in renamed.why
    assert attacked.recover(attacked.infection()) == []


def test_one_that_was_renamed_before_is_a_persons_to_mend(attacked: Attacked) -> None:
    attacked.rename()
    attacked.circle.fetch_wal()
    attacked.since = datetime.now(UTC)
    with pytest.raises(NotReady) as raised:
        attacked.signs()
    assert raised.value.instance_code == "database-renamed"


@pytest.mark.parametrize("again", [False, True])
def test_one_that_was_dropped_while_nobody_wrote_is_brought_back(
    attacked: Attacked, again: bool
) -> None:
    """A replay to a moment ends at the first commit after it. That is the drop's, and by then its
    files are gone."""
    attacked.quiet()
    attacked.server.run("DROP DATABASE nexus WITH (FORCE)")
    if again:
        attacked.server.run("CREATE DATABASE nexus OWNER nexus_app")
    [dropped] = attacked.signs()
    assert "dropped the whole database" in dropped.why
    found = attacked.infection()
    assert found.drop_lsn == dropped.drop_lsn > 0
    assert attacked.recover(found) == []


def test_a_drop_among_other_commits_needs_no_place_in_the_wal(attacked: Attacked) -> None:
    attacked.quiet()
    attacked.scramble()
    attacked.server.run("DROP DATABASE nexus WITH (FORCE)")
    found = attacked.infection()
    assert (found.drop_lsn, found.counts["rows"] >= 1500) == (0, True)
    assert attacked.recover(found) == []
