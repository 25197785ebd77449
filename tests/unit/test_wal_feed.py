"""WAL on its way to a server: in order, whole, and never more on disk than was said."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from chalicelib.errors import Truncated
from chalicelib.plan.wal import WalObject, history_key, parse_wal_key, segment_key
from chalicelib.recover.database.wal_feed import WalFeed, WalPlan
from tests.fakes import InMemoryObjectStore

S = 1 << 20
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def content(number: int) -> bytes:
    return bytes([number]) * S


def stored(count: int) -> tuple[InMemoryObjectStore, WalPlan]:
    store = InMemoryObjectStore()
    segments: list[WalObject] = []
    for number in range(count):
        key = segment_key(1, number * S, S)
        store.put(key, zstandard.compress(content(number)))
        item = parse_wal_key(key, NOON, S)
        assert item
        segments.append(item)
    store.put(history_key(2), b"1\t0/300000\tno recovery target\n")
    return store, WalPlan(segments, [2], S)


def poll(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def on_disk(folder: Path) -> int:
    """Bytes of segments, whole or not, that nobody has taken."""
    names = {path.name for path in (folder / "used").iterdir()}
    total = 0
    for path in folder.glob("0*"):
        if path.name not in names and path.suffix != ".history":
            with suppress(FileNotFoundError):  # it got its name just now
                total += path.stat().st_size
    return total


def take(feed: WalFeed, name: str, *, give: bool) -> bytes:
    """As a server's restore_command does, which is given the file or copies it."""
    poll((feed.folder / name).exists)
    found = (feed.folder / name).read_bytes()
    if give:
        (feed.folder / name).rename(feed.folder.with_name("taken"))
    (feed.folder / "used" / name).touch()
    return found


@pytest.mark.parametrize("give", [True, False])
@pytest.mark.parametrize(("ahead", "most"), [(0, 2), (3 * S, 3), (64 * S, 12)])
def test_segments_come_in_order_and_few_wait(
    tmp_path: Path, give: bool, ahead: int, most: int
) -> None:
    store, plan = stored(12)
    with WalFeed(store, plan, tmp_path / "wal", ahead_bytes=ahead) as feed:
        assert (feed.folder / "00000002.history").read_bytes().startswith(b"1\t")
        for number, item in enumerate(plan.segments):
            assert not feed.exhausted
            assert on_disk(feed.folder) <= most * S
            assert take(feed, item.name, give=give) == content(number)
        assert feed.exhausted
    assert not feed.folder.exists()


def test_what_is_looked_at_does_not_grow_with_what_was_replayed(tmp_path: Path) -> None:
    store, plan = stored(30)
    with WalFeed(store, plan, tmp_path / "wal", ahead_bytes=0) as feed:
        for item in plan.segments[:20]:
            take(feed, item.name, give=True)
            poll(lambda: len(list((feed.folder / "used").iterdir())) <= 2)
        assert list(feed.folder.glob("*.history"))


def test_the_server_is_told_to_end_when_a_segment_cannot_be_read(tmp_path: Path) -> None:
    store, plan = stored(6)
    store.objects[plan.segments[4].key] = b"no zstd"
    with WalFeed(store, plan, tmp_path / "wal") as feed:
        poll((feed.folder / "failed").exists)
        with pytest.raises(Truncated) as caught:
            feed.raise_failure()
    assert caught.value.context["key"] == plan.segments[4].key
