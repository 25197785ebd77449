"""Two backups of one component in the same second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.adapters.unwritten import UnwrittenStore
from chalicelib.backup.point_objects import PointObjects, free_point_id
from chalicelib.errors import Refused
from chalicelib.ports import ObjectStore
from tests.fakes import InMemoryObjectStore


class Ticking:
    """Time passes only while somebody waits."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 24, 2, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def break_off(store: ObjectStore, point_id: str) -> None:
    with PointObjects(store, point_id) as objects:
        objects.put_json("list", ["broken off"])
        raise ZeroDivisionError


def keys(store: ObjectStore) -> list[str]:
    return [row.key for row in store.list()]


def test_the_second_of_two_neither_writes_over_nor_removes_what_the_first_stored() -> None:
    store, ids = InMemoryObjectStore(), []
    for _ in range(3):
        ids.append(free_point_id(store, Ticking(), "archive"))
    assert len(set(ids)) == 3
    with PointObjects(store, ids[0]) as first:
        first.put_json("list", ["first"])
    with pytest.raises(ZeroDivisionError):
        break_off(store, ids[1])
    assert keys(store) == [f"points/{ids[0]}/list", f"points/{ids[2]}/begun.json"]


class Undeletable(InMemoryObjectStore):
    def delete(self, key: str) -> None:
        raise Refused("no", code="access-denied", hint="ask")


def test_why_a_backup_failed_is_told_by_who_may_not_clean_up() -> None:
    with pytest.raises(ZeroDivisionError):
        break_off(Undeletable(), "id")


def test_a_dry_run_takes_no_id() -> None:
    store = InMemoryObjectStore()
    free_point_id(UnwrittenStore(store), Ticking(), "archive")
    assert keys(store) == []
