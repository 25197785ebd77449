"""A sync into a store whose notes come a moment after the bytes they are of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

from chalicelib.backup.bucket.replicas import StoreReplica
from chalicelib.backup.bucket.sync import SyncResult
from chalicelib.plan.copy_notes import write_note
from chalicelib.plan.object_names import key_of_name, name_of_key
from chalicelib.ports import Listed, ObjectStore, StoredFacts
from tests.fakes import InMemoryObjectStore
from tests.sync_world import World


class LateNotes(InMemoryObjectStore):
    """Listed before what is on its way had its note. `notes`: those that are there by now."""

    keeps_notes = True

    def __init__(self) -> None:
        super().__init__()
        self.notes: dict[str, str] = {}
        self.looked: list[str] = []

    def noting(self, note: Callable[[], str]) -> ObjectStore:
        return self

    def list_noted(self, prefix: str = "") -> Iterator[Listed]:
        return (replace(row, note="") for row in self.list(prefix))

    def facts(self, key: str) -> StoredFacts:
        self.looked.append(key_of_name(key))
        return replace(super().facts(key), note=self.notes.get(key, ""))


def test_what_is_being_brought_is_not_taken_for_written_over() -> None:
    world, store = World(), LateNotes()
    world.put(world.source, brought="1", strange="2", replaced="3")
    world.clock.at += timedelta(hours=1)
    rows = {key: asyncio.run(world.source.head(key)).etag for key in ("brought", "replaced")}
    for key in ("brought", "strange", "replaced"):
        store.put(name_of_key(key), b"x")
    store.notes[name_of_key("brought")] = write_note("brought", rows["brought"], "0" * 64)
    store.notes[name_of_key("replaced")] = write_note("replaced", "older", "0" * 64)
    done: SyncResult = world.sync(StoreReplica(store, "elsewhere"))
    assert done.reasons == {"copy etag": 1, "copy overwritten": 1, "leave same-etag": 1}
    assert sorted(store.looked) == ["brought", "replaced", "strange"]
    assert store.objects[name_of_key("strange")] == b"2"
    assert store.objects[name_of_key("brought")] == b"x", "its note tells that it is whole"
