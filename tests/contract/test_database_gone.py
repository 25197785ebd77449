"""A database that does not open: what its WAL is still known by, and what a person is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.errors import NotReady
from chalicelib.recover.database.relations import Relations
from chalicelib.services.steps.database.relations import relations_of
from tests.servers import RealServer, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with running_server() as server:
        yield server


class Scene:
    """A database `nexus` that the stored relation maps know, and its oid."""

    def __init__(self, server: RealServer, folder: Path) -> None:
        server.run("DROP DATABASE IF EXISTS nexus", "CREATE DATABASE nexus")
        [(self.oid,)] = server.run("SELECT oid FROM pg_database WHERE datname = 'nexus'")
        self.server = server
        self.store = FolderObjectStore(folder)
        self.store_map("1")

    def store_map(self, name: str) -> None:
        """As a WAL tick does, whichever databases there are."""
        with PostgresSource(self.server.dsn("nexus"), any_database=True) as source:
            self.store.put(f"relations/{name}.json", json.dumps(source.relations()).encode())

    def relations(self) -> Relations:
        return relations_of(self.store, PostgresDatabases(self.server.dsn("nexus")))


@pytest.fixture
def scene(server: RealServer, tmp_path: Path) -> Scene:
    return Scene(server, tmp_path)


def test_it_is_known_by_its_oid_once_it_is_dropped(scene: Scene) -> None:
    scene.server.run("DROP DATABASE nexus")
    scene.store_map("2")
    assert scene.relations().oids == {scene.oid}


def test_it_is_known_by_both_oids_once_it_is_made_again(scene: Scene) -> None:
    scene.server.run("DROP DATABASE nexus", "CREATE DATABASE nexus")
    scene.store_map("2")
    [(now,)] = scene.server.run("SELECT oid FROM pg_database WHERE datname = 'nexus'")
    assert scene.relations().oids == {scene.oid, now}


def test_nobody_takes_a_renamed_one_for_a_lost_one(scene: Scene) -> None:
    scene.server.run('ALTER DATABASE nexus RENAME TO "Old Nexus"')
    scene.store_map("2")
    with pytest.raises(NotReady) as raised:
        scene.relations()
    assert raised.value.instance_code == "database-renamed"
    [mend] = [it for it in (raised.value.hint or "").split("? ") if it.startswith("ALTER")]
    scene.server.run(mend.removesuffix("."))
    scene.store_map("3")
    assert scene.relations().oids == {scene.oid}


def test_one_that_no_map_knows_is_gone(scene: Scene) -> None:
    scene.store.delete("relations/1.json")
    scene.server.run("DROP DATABASE nexus")
    with pytest.raises(NotReady) as raised:
        scene.relations()
    assert raised.value.instance_code == "database-gone"
