"""What is noted with sealed objects: read by whoever has the data key, and by nobody else."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.sealing.key_ring import KeyRing
from chalicelib.adapters.sealing.notes import MOST_STRANGE, NoteReader, seal_note
from chalicelib.errors import LeewardError, Unavailable
from chalicelib.plan.copy_notes import NO_COPY, CopyNote, read_note, write_note
from tests.fakes import InMemoryObjectStore
from tests.fakes_keys import InMemoryKeeper

NOTE = write_note("objects/a", "etag", "0" * 64)


def ring(
    store: InMemoryObjectStore, keeper: InMemoryKeeper, location: str = "gcs/assets"
) -> KeyRing:
    clock = SystemClock()
    return KeyRing(store, location, clock=clock, recipients=[keeper], openers=[keeper])


def test_a_note_is_read_under_its_own_name_in_its_own_location() -> None:
    store, keeper = InMemoryObjectStore(), InMemoryKeeper("kms")
    keys = ring(store, keeper)
    sealed = seal_note(keys.sealing_key(), "a", NOTE)
    assert "etag" not in sealed
    assert "0" * 8 not in sealed
    reader = NoteReader(ring(store, keeper))
    assert reader.read("a", sealed) == NOTE
    assert reader.read("b", sealed) == ""
    other = ring(InMemoryObjectStore(), keeper, "azure/assets")
    moved = seal_note(other.sealing_key(), "a", NOTE)
    assert reader.read("a", moved) == "", "there is no such data key here"
    keeper.calls = 0
    assert [reader.read("a", sealed) for _ in range(3)] == [NOTE] * 3
    assert keeper.calls == 0, "the data key was asked for once"


@pytest.mark.parametrize(
    "forged",
    ["", NOTE, ".", "x.y", "{id}.", "{id}.!", "{id}." + urlsafe_b64encode(bytes(40)).decode()],
)
def test_what_nobody_with_a_data_key_has_noted_is_no_note(forged: str) -> None:
    store, keeper = InMemoryObjectStore(), InMemoryKeeper("kms")
    keys = ring(store, keeper)
    key_id = keys.sealing_key().id
    assert NoteReader(keys).read("a", forged.replace("{id}", key_id)) == ""


@pytest.mark.parametrize("refuses", [Unavailable("no answer", hint="Wait.")])
def test_a_note_whose_key_cannot_be_had_now_says_nothing(refuses: LeewardError) -> None:
    store, keeper = InMemoryObjectStore(), InMemoryKeeper("kms")
    sealed = seal_note(ring(store, keeper).sealing_key(), "a", NOTE)
    keeper.refuses = refuses
    reader = NoteReader(ring(store, keeper))
    asked = keeper.calls
    assert [reader.read("a", sealed) for _ in range(3)] == [None] * 3
    assert keeper.calls == asked + 1, "and is not asked for at each row"


def test_a_stranger_who_names_many_data_keys_costs_few_requests() -> None:
    store, keeper = CountingStore(), InMemoryKeeper("kms")
    keys = ring(store, keeper)
    old = seal_note(keys.sealing_key(), "a", NOTE)
    reader = NoteReader(ring(store, keeper))
    store.asked = 0
    for number in range(5000):
        assert reader.read("a", f"20261124T000000Z-{number:032x}.{'A' * 60}") == ""
    assert store.asked == MOST_STRANGE
    assert reader.read("a", old) == NOTE, "what is listed is asked for however late"


class CountingStore(InMemoryObjectStore):
    asked = 0

    def get(self, key: str) -> bytes:
        self.asked += 1
        return super().get(key)


def test_a_copys_note_is_of_its_own_key() -> None:
    assert read_note("objects/a", NOTE) == CopyNote("etag", "0" * 64)
    assert read_note("objects/b", NOTE) == NO_COPY
    assert read_note("objects/a", None) is None
    for other in ("", "etag", "etag 12 34", NOTE.replace("etag", "")):
        assert read_note("objects/a", other) == NO_COPY
