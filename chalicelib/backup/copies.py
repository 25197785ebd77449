"""Copies of a component's recovery points and WAL from one location to another, as decided.

What lies under a key never changes, so that a copy is made once; running it again after a crash
goes on where it was. A point's manifest is copied after all of its objects. Notes beside a manifest
(quarantine, hold, proof) do change and are brought along.

Source: docs/design.md, "Orders that must hold".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chalicelib.backup.copy_decision import CopyDecision, CopyItem
from chalicelib.backup.long_copies import PUT_DOWN, LongPlace, copy_on
from chalicelib.errors import DigestMismatch, LeewardError
from chalicelib.plan.manifest import SEALED, point_key, point_of_key
from chalicelib.plan.records import (
    Record,
    StoredObject,
    canonical_json,
    format_time,
)
from chalicelib.plan.wal import (
    COPIED,
)
from chalicelib.ports import (
    Clock,
    CopiesByItself,
    KeepsUploads,
    ObjectStore,
    ReadsOn,
)

THREADS = 4


@dataclass(frozen=True)
class CopyFailure(Record):
    key: str
    code: str
    found: str


@dataclass(frozen=True)
class CopyResult(Record):
    """What a run did. `remaining`: what it did not come to; `lag_seconds`: the longest that an
    object of this run was in the source and not in the target, those that still are included.
    `put_down`: long copies that the next run goes on with; they are among the remaining.
    `lost`: keys that the target has had and has no more: they were to be copied again."""

    copied: int
    copied_bytes: int
    remaining: int
    failures: tuple[CopyFailure, ...]
    differing: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    lag_seconds: float
    put_down: tuple[str, ...] = ()
    vouched: int = 0
    lost: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """The target holds all that the source can vouch for, be it nothing (`vouched`)."""
        return not (self.remaining or self.failures or self.differing)


def apply_copies(
    decision: CopyDecision,
    source: ObjectStore,
    target: ObjectStore,
    *,
    clock: Clock,
    until: datetime | None = None,
    tell: Callable[[CopyItem], None] = lambda item: None,
    long: LongPlace | None = None,
) -> CopyResult:
    """Copy in the decided order, a few objects at a time; each is read once, in constant memory.

    An object counts as copied when the target says that it holds the bytes that were read, and
    they are those of the manifest. A point of which an object failed gets no manifest. `until`:
    nothing is begun after it. `long`: how objects are put down that take longer than that.
    """
    run = _Run(source, target, clock, until, tell, long)
    if any(item.reason == "wal" for item in decision.first):
        # Before the WAL: what is copied and not in it yet claims too little, never too much.
        run.put(COPIED, _ends(decision))
    if not run.failures:
        run.copy_all(decision.first)
    for items in decision.points:
        *objects, manifest = items
        if run.copy_all(objects) and run.note_encryption(manifest.key):
            run.copy_all([manifest])
    for key in decision.obsolete:
        target.delete(key)
    remaining = [item for item in decision.items if item.key not in run.done]
    waiting = [(clock.now() - item.stored_at).total_seconds() for item in remaining]
    return CopyResult(
        copied=len(run.done),
        copied_bytes=sum(item.size_bytes for item in decision.items if item.key in run.done),
        remaining=len({item.key for item in remaining} - {it.key for it in run.failures}),
        failures=tuple(run.failures),
        differing=decision.differing,
        left=decision.left,
        lag_seconds=round(max((*run.lags, *waiting), default=0.0), 3),
        put_down=tuple(run.put_down),
        vouched=decision.vouched,
        lost=decision.lost,
    )


def _ends(decision: CopyDecision) -> bytes:
    rows = [[end.timeline, end.end_lsn, format_time(end.stored_at)] for end in decision.ends]
    return canonical_json({"ends": rows})


@dataclass
class _Run:
    source: ObjectStore
    target: ObjectStore
    clock: Clock
    until: datetime | None
    tell: Callable[[CopyItem], None]
    long: LongPlace | None = None
    done: set[str] = field(default_factory=set)
    failures: list[CopyFailure] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    put_down: list[str] = field(default_factory=list)

    def copy_all(self, items: Iterable[CopyItem]) -> bool:
        """True when every one of them is in the target now."""
        complete = True
        with ThreadPoolExecutor(THREADS) as threads:
            for item, copied in _in_flight(threads, items, self._copy, self._may_begin):
                complete &= self._note(item, copied)
        return complete

    def note_encryption(self, manifest_key: str) -> bool:
        """By which keys this location has its objects: the manifest tells that of the first."""
        key = point_key(point_of_key(manifest_key), SEALED)
        return self.put(key, canonical_json({"encryption": self.target.encryption}))

    def put(self, key: str, data: bytes) -> bool:
        try:
            self.target.put(key, data)
        except LeewardError as error:
            self.failures.append(CopyFailure(key, error.instance_code, error.message))
            return False
        return True

    def _may_begin(self) -> bool:
        return self.until is None or self.clock.now() < self.until

    def _note(self, item: CopyItem, copied: Future[None] | None) -> bool:
        if copied is None:
            return False
        try:
            copied.result()
        except LeewardError as error:
            if error.instance_code == PUT_DOWN:
                self.put_down.append(item.key)
            else:
                self.failures.append(CopyFailure(item.key, error.instance_code, error.message))
            return False
        self.done.add(item.key)
        self.lags.append((self.clock.now() - item.stored_at) / timedelta(seconds=1))
        self.tell(item)
        return True

    def _copy(self, item: CopyItem) -> None:
        if item.reason in ("note", "manifest"):
            self.target.put(item.key, self.source.get(item.key))
            return
        stored = self._copied_by_the_store(item)
        if stored is not None or self._copied_in_turns(item):
            return
        digest = hashlib.sha256()
        with self.target.open_writer(item.key) as writer:
            for chunk in self.source.read(item.key):
                digest.update(chunk)
                writer.write(chunk)
            _require_same(item.key, item.sha256 or digest.hexdigest(), digest.hexdigest())
            stored = writer.commit()
        if stored.sha256 != digest.hexdigest():
            # The next run would take what lies there for the copy.
            self.target.delete(item.key)
        _require_same(item.key, digest.hexdigest(), stored.sha256)

    def _copied_in_turns(self, item: CopyItem) -> bool:
        """A long one, by as many runs as it takes; False when it is none."""
        place, source, target = self.long, self.source, self.target
        if place is None or item.size_bytes < place.long_bytes:
            return False
        if not (isinstance(source, ReadsOn) and isinstance(target, KeepsUploads)):
            return False
        version = source.facts(item.key).version
        copy_on(
            place, source, target, item.key, item.size_bytes,
            version=version, expected=item.sha256,
        )  # fmt: skip
        return True

    def _copied_by_the_store(self, item: CopyItem) -> StoredObject | None:
        """Where both are S3 no byte comes here, and S3 tells the SHA-256 of what it has copied."""
        if not isinstance(self.target, CopiesByItself) or not item.sha256:
            return None
        stored = self.target.copy_from(
            self.source, item.key,
            vouched=item.sha256 if item.settled else "",
            over=lambda: self.long is not None and self.long.over,
        )  # fmt: skip
        if stored is not None and stored.sha256 != item.sha256:
            self.target.delete(item.key)
            _require_same(item.key, item.sha256, stored.sha256)
        return stored


def _in_flight(
    threads: ThreadPoolExecutor,
    items: Iterable[CopyItem],
    work: Callable[[CopyItem], None],
    may_begin: Callable[[], bool],
) -> Iterator[tuple[CopyItem, Future[None] | None]]:
    """Each item with its ended work, or with None when it was not begun; few are at work."""
    running: dict[Future[None], CopyItem] = {}
    for item in items:
        if not may_begin():
            yield item, None
            continue
        running[threads.submit(work, item)] = item
        if len(running) >= THREADS:
            yield from _ended(running)
    while running:
        yield from _ended(running)


def _ended(running: dict[Future[None], CopyItem]) -> Iterator[tuple[CopyItem, Future[None]]]:
    ended, _ = wait(running, return_when=FIRST_COMPLETED)
    for one in ended:
        yield running.pop(one), one


def _require_same(key: str, expected: str, found: str) -> None:
    if expected != found:
        raise DigestMismatch(
            f"expected {key} with sha-256 {expected}, found {found}",
            hint="Check the source with `leeward verify`; it is damaged or the way to the copy is.",
            key=key,
        )
