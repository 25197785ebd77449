"""WAL replayed on a restored folder up to the instant before the damage.

Segments are fetched a little ahead of the server that replays them, so that the disk holds a
window of the WAL and never all of it. Nothing counts that PostgreSQL did not say itself: that the
target was reached, up to where it replayed, and when the last transaction committed.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chalicelib.errors import CheckFailed, Damaged, LeewardError, NotReady
from chalicelib.plan.records import Record, RecoveryTarget, format_lsn
from chalicelib.plan.wal import WalInventory, WalObject, follow, history_key, segment_start
from chalicelib.ports import (
    Catalogue,
    Clock,
    DatabaseServer,
    ObjectStore,
    Recovery,
    ReplayPosition,
    ServerFactory,
)
from chalicelib.recover.database.restore import RECORD_NAME, Restored
from chalicelib.recover.database.segments import read_segment
from chalicelib.recover.database.wal_end import is_cut, next_record

REPLAYED_NAME = "leeward-replayed.json"
SEGMENTS_AHEAD = 32
FETCH_THREADS = 4
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Replayed(Record):
    """What a folder holds after replay: every commit up to `recovered_lsn`, on `timeline`.
    `last_commit_at` is the newest of those that were replayed, None when there was none."""

    target: RecoveryTarget
    recovered_lsn: int
    last_commit_at: datetime | None
    timeline: int
    seconds: float

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "target":
            return RecoveryTarget.from_json(value)
        return super()._revive(name, value)


def replay(
    store: ObjectStore,
    catalogue: Catalogue,
    restored: Restored,
    folder: Path,
    *,
    servers: ServerFactory,
    clock: Clock,
    timeout_seconds: float = 840,
) -> Replayed:
    """Replay up to the target of `restored`, open the database, and stop it in order.

    Raises:
        CheckFailed: code "target-not-reached" or "replay-ended-early"; "server-ended".
        Damaged: a stored segment cannot be read.
        Unavailable: the store or the server did not answer in time.
    """
    started_at = clock.now()
    (folder / RECORD_NAME).unlink(missing_ok=True)
    wal_dir = folder.with_name(f"{folder.name}.wal")
    plan = needed_segments(catalogue.inventory().wal, restored)
    server = servers(folder)
    try:
        with WalFeed(store, plan, wal_dir) as feed:
            recovery = Recovery(restored.target, wal_dir, restored.timeline)
            position = _run(server, recovery, feed, timeout_seconds)
    finally:
        server.stop()
        shutil.rmtree(wal_dir, ignore_errors=True)
    _require_end(store, plan, restored, position)
    replayed = Replayed(
        target=restored.target,
        recovered_lsn=position.lsn,
        last_commit_at=position.last_commit_at,
        timeline=position.timeline,
        seconds=(clock.now() - started_at).total_seconds(),
    )
    (folder / REPLAYED_NAME).write_text(json.dumps(replayed.to_json()))
    return replayed


def read_replayed(folder: Path) -> Replayed | None:
    """The record of a folder that was replayed to its target, else None."""
    try:
        return Replayed.from_json(json.loads((folder / REPLAYED_NAME).read_text()))
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class WalPlan:
    """What a replay reads, in order; `histories` are timelines."""

    segments: Sequence[WalObject]
    histories: Sequence[int]
    segment_bytes: int


def needed_segments(wal: WalInventory, restored: Restored) -> WalPlan:
    """The segments from the restored point's start to the end of its window.

    Raises Damaged (code "wal-gap") when one has vanished since the point was chosen.
    """
    size = wal.segment_bytes
    first = segment_start(restored.start_lsn, size)
    last = segment_start(restored.window_end_lsn - 1, size)
    segments = [item for item in follow(wal, restored.timeline) if first <= item.start_lsn <= last]
    found = {item.start_lsn for item in segments}
    missing = next((lsn for lsn in range(first, last + 1, size) if lsn not in found), None)
    if missing is not None:
        raise Damaged(
            f"expected the WAL segment at {format_lsn(missing)}, found none",
            code="wal-gap",
            hint="Copy the segment back from another location, or choose an earlier moment.",
        )
    return WalPlan(segments, sorted(wal.histories), size)


def _run(
    server: DatabaseServer, recovery: Recovery, feed: WalFeed, timeout_seconds: float
) -> ReplayPosition:
    server.start(recovery)
    try:
        server.wait_until("ready", timeout_seconds=timeout_seconds)
    except CheckFailed as ended:
        feed.raise_failure()
        if feed.exhausted and recovery.target.kind != "end":
            raise CheckFailed(
                f"expected {recovery.target.kind} {recovery.target.value} in the stored WAL, "
                "it ended before",
                code="target-not-reached",
                hint="Choose an earlier moment; the windows end with the last stored commit.",
                log=server.log_tail(),
            ) from ended
        raise
    return server.replay_position()


def _require_end(
    store: ObjectStore, plan: WalPlan, restored: Restored, position: ReplayPosition
) -> None:
    """ "end" means all there is: only a record that the last tick cut may be missing."""
    end_lsn = restored.window_end_lsn
    if restored.target.kind == "end" and not _ends_in_order(store, plan, position.lsn, end_lsn):
        raise CheckFailed(
            f"expected replay to {format_lsn(end_lsn)}, it ended at {format_lsn(position.lsn)}",
            code="replay-ended-early",
            hint="The WAL at that place is damaged; recover to a moment before it.",
        )


def _ends_in_order(store: ObjectStore, plan: WalPlan, lsn: int, end_lsn: int) -> bool:
    begins = next_record(lsn, plan.segment_bytes)
    if begins >= end_lsn:
        return True
    start = segment_start(begins, plan.segment_bytes)
    [holder] = [item for item in plan.segments if item.start_lsn == start]
    return end_lsn - lsn <= LARGEST_CUT_BYTES and is_cut(
        read_segment(store, holder, plan.segment_bytes), lsn, end_lsn
    )


# A record with images of all the pages it may touch: 33 pages (XLR_MAX_BLOCK_ID) and its head.
LARGEST_CUT_BYTES = 34 * 8192


class WalFeed:
    """Puts segments into a folder just ahead of the server that takes them."""

    def __init__(self, store: ObjectStore, plan: WalPlan, folder: Path) -> None:
        self._store, self._plan, self._folder = store, plan, folder
        self._failure: LeewardError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="wal-feed", daemon=True)

    @property
    def exhausted(self) -> bool:
        """Whether the server took the last segment there is."""
        last = self._plan.segments[-1].name
        return (self._folder / "used" / last).exists()

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)
        for name in ("coming", "used"):
            (self._folder / name).mkdir(parents=True)
        for timeline in self._plan.histories:
            content = self._store.get(history_key(timeline))
            (self._folder / f"{timeline:08X}.history").write_bytes(content)
        for item in self._plan.segments:
            (self._folder / "coming" / item.name).touch()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _feed(self) -> None:
        try:
            for item, content in self._fetched():
                self._wait_for_room()
                if self._stop.is_set():
                    return
                self._offer(item.name, content)
        except LeewardError as error:
            self._fail(error)
        except OSError as error:
            self._fail(_no_room(error))

    def _fetched(self) -> Iterator[tuple[WalObject, bytes]]:
        waiting: deque[tuple[WalObject, Future[bytes]]] = deque()
        with ThreadPoolExecutor(FETCH_THREADS) as threads:
            for item in self._plan.segments:
                waiting.append((item, threads.submit(self._read, item)))
                if len(waiting) == FETCH_THREADS:
                    first, content = waiting.popleft()
                    yield first, content.result()
            for first, content in waiting:
                yield first, content.result()

    def _read(self, item: WalObject) -> bytes:
        return read_segment(self._store, item, self._plan.segment_bytes)

    def _wait_for_room(self) -> None:
        """The newest two that the server took stay: it may read them again."""
        while not self._stop.is_set():
            offered = {path.name for path in self._folder.iterdir() if len(path.name) == 24}
            used = {path.name for path in (self._folder / "used").iterdir()}
            if len(offered - used) < SEGMENTS_AHEAD:
                for name in sorted(offered & used)[:-2]:
                    (self._folder / name).unlink()
                return
            self._stop.wait(POLL_SECONDS)

    def _offer(self, name: str, content: bytes) -> None:
        arriving = self._folder / "arriving"
        arriving.write_bytes(content)
        arriving.rename(self._folder / name)
        (self._folder / "coming" / name).unlink()

    def _fail(self, error: LeewardError) -> None:
        self._failure = error
        (self._folder / "failed").touch()


def _no_room(error: OSError) -> LeewardError:
    return NotReady(
        f"expected room for a WAL segment: {error.strerror}",
        code="no-disk-space",
        hint="Free space there, or use a worker with a larger disk.",
    )
