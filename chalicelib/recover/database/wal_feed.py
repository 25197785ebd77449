"""Stored WAL on its way to a throw-away server: fetched a little ahead of what is replayed.

The disk holds a window of the WAL and never all of it.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from chalicelib.errors import Damaged, LeewardError, NotReady
from chalicelib.plan.records import format_lsn
from chalicelib.plan.wal import WalInventory, WalObject, follow, history_key, segment_start
from chalicelib.ports import ObjectStore
from chalicelib.recover.database.restore import Restored
from chalicelib.recover.database.segments import unpack_segment

# What waits on disk for the server, within what restore.SPARE_BYTES leaves free.
BYTES_AHEAD = 256 << 20
FETCH_THREADS = 4
POLL_SECONDS = 0.01
SEGMENT_NAME_LENGTH = 24


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


class WalFeed:
    """Puts segments into a folder just ahead of the server that takes them."""

    def __init__(
        self, store: ObjectStore, plan: WalPlan, folder: Path, *, ahead_bytes: int = BYTES_AHEAD
    ) -> None:
        """`ahead_bytes`: what may wait on disk, two segments at least."""
        self.plan, self.folder = plan, folder
        self._store = store
        self._ahead = max(2, ahead_bytes // plan.segment_bytes)
        self._failure: LeewardError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="wal-feed", daemon=True)

    @property
    def exhausted(self) -> bool:
        """Whether the server took the last segment there is."""
        last = self.plan.segments[-1].name
        return (self.folder / "used" / last).exists()

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("coming", "used"):
            (self.folder / name).mkdir(parents=True)
        for timeline in self.plan.histories:
            content = self._store.get(history_key(timeline))
            (self.folder / f"{timeline:08X}.history").write_bytes(content)
        for item in self.plan.segments:
            (self.folder / "coming" / item.name).touch()
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
        shutil.rmtree(self.folder, ignore_errors=True)

    def _feed(self) -> None:
        try:
            self._fetch_and_offer()
        except LeewardError as error:
            self._fail(error)
        except OSError as error:
            self._fail(_no_room(error))

    def _fetch_and_offer(self) -> None:
        """Nothing is fetched before there is room for it on the disk."""
        left, fetched = deque(self.plan.segments), deque[tuple[str, Future[Path]]]()
        with ThreadPoolExecutor(FETCH_THREADS) as threads:
            while (left or fetched) and not self._stop.is_set():
                room = self._ahead - self._waiting()
                while left and len(fetched) < min(room, FETCH_THREADS):
                    item = left.popleft()
                    fetched.append((item.name, threads.submit(self._fetch, item)))
                if fetched:
                    name, arrived = fetched.popleft()
                    self._offer(name, arrived.result())
                else:
                    self._stop.wait(POLL_SECONDS)

    def _fetch(self, item: WalObject) -> Path:
        arriving = self.folder / f"{item.name}.arriving"
        unpack_segment(self._store, item, self.plan.segment_bytes, arriving)
        return arriving

    def _waiting(self) -> int:
        """Segments that the server has not taken. The newest two that it took stay, where it copied
        them: it may read them again. Of those before them nothing is kept, not even the mark."""
        offered, used = _segments(self.folder), _segments(self.folder / "used")
        for name in sorted(used)[:-2]:
            (self.folder / name).unlink(missing_ok=True)
            (self.folder / "used" / name).unlink()
        return len(offered - used)

    def _offer(self, name: str, arrived: Path) -> None:
        _give_like(self.folder, arrived)
        arrived.rename(self.folder / name)
        # Whoever gives the folder away just now saw it under neither name.
        _give_like(self.folder, self.folder / name)
        (self.folder / "coming" / name).unlink()

    def _fail(self, error: LeewardError) -> None:
        self._failure = error
        (self.folder / "failed").touch()


def _segments(folder: Path) -> set[str]:
    return {name for name in os.listdir(folder) if len(name) == SEGMENT_NAME_LENGTH}


def _give_like(folder: Path, file: Path) -> None:
    """As root: to the server's account, which `folder` was given to, and which may keep it then."""
    if os.geteuid() == 0:
        owner = folder.stat()
        with suppress(FileNotFoundError):  # the server took it
            os.chown(file, owner.st_uid, owner.st_gid)


def _no_room(error: OSError) -> LeewardError:
    return NotReady(
        f"expected room for a WAL segment: {error.strerror}",
        code="no-disk-space",
        hint="Free space there, or use a worker with a larger disk.",
    )
