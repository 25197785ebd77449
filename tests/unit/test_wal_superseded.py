"""A partial segment that is superseded while a recovery reads it is no loss."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from chalicelib.errors import Truncated
from chalicelib.plan.wal import WalObject, parse_wal_key, partial_key, segment_key
from chalicelib.recover.database.segments import read_segment, unpack_segment
from tests.fakes import InMemoryObjectStore

S = 1 << 20
START = 3 * S
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def content(filled: int) -> bytes:
    return b"w" * filled + b"\0" * (S - filled)


class Fetching(InMemoryObjectStore):
    """Where the next tick stores more WAL just when somebody asks for what is there."""

    def __init__(self, *ends: int) -> None:
        super().__init__()
        self.ends = list(ends)
        self.tick()

    def tick(self) -> str:
        end = self.ends.pop(0)
        whole = end == START + S
        key = segment_key(1, START, S) if whole else partial_key(1, end, S)
        self.objects = {key: zstandard.compress(content(end - START))}
        return key

    def get(self, key: str) -> bytes:
        if self.ends:
            self.tick()
        return super().get(key)


def unpacked(store: InMemoryObjectStore, folder: Path) -> bytes:
    unpack_segment(store, listed(store), S, folder / "segment")
    return (folder / "segment").read_bytes()


def listed(store: InMemoryObjectStore) -> WalObject:
    [key] = store.objects
    found = parse_wal_key(key, NOON, S)
    assert found
    return found


@pytest.mark.parametrize("ends", [(500, 900), (500, 900, 1000), (500, S), (500, 900, S)])
def test_what_took_its_place_is_read_instead(ends: tuple[int, ...], tmp_path: Path) -> None:
    store = Fetching(*(START + end for end in ends))
    assert read_segment(store, listed(store), S) == content(ends[-1])
    store = Fetching(*(START + end for end in ends))
    assert unpacked(store, tmp_path) == content(ends[-1])


def test_what_is_gone_without_a_successor_is_a_loss() -> None:
    store = InMemoryObjectStore()
    item = parse_wal_key(partial_key(1, START + 500, S), NOON, S)
    assert item
    with pytest.raises(Truncated):
        read_segment(store, item, S)
    # What reaches less far does not hold all of it.
    store.put(partial_key(1, START + 100, S), zstandard.compress(content(100)))
    with pytest.raises(Truncated):
        read_segment(store, item, S)
    store.objects.clear()
    whole = parse_wal_key(segment_key(1, START, S), NOON, S)
    assert whole
    store.put(partial_key(1, START + 900, S), zstandard.compress(content(900)))
    with pytest.raises(Truncated):
        read_segment(store, whole, S)


@pytest.mark.parametrize(
    "stored",
    [
        b"no zstd",
        zstandard.compress(bytes(S - 1)),
        zstandard.compress(bytes(S + 1)),
        zstandard.compress(bytes(8 * S)),
        zstandard.compress(b"")[:-1],
        zstandard.compress(content(900))[:-1],
    ],
)
def test_what_is_no_whole_segment_is_refused(stored: bytes, tmp_path: Path) -> None:
    store = InMemoryObjectStore()
    store.put(segment_key(1, START, S), stored)
    read: Callable[[], object]
    for read in (
        lambda: read_segment(store, listed(store), S),
        lambda: unpacked(store, tmp_path),
    ):
        with pytest.raises(Truncated) as caught:
            read()
        assert caught.value.instance_code == "wal-unreadable"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= S
