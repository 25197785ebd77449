"""Extend the locks of what belongs to recovery points: their objects, their WAL, new WAL.

A point's manifest is locked last, so that its lock tells the least that all of the point has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.backup.retention.locks import LockChange, LockDecision
from chalicelib.errors import Truncated
from chalicelib.plan.components import Retention
from chalicelib.plan.manifest import MANIFEST, point_key, point_of_key
from chalicelib.plan.records import DatabasePoint, Record, RecoveryPoint
from chalicelib.plan.wal import WalObject, segment_start
from chalicelib.ports.locks import ObjectLocks

THREADS = 8
# New WAL is looked at for this long: the extender runs daily, and may miss a day. What is older is
# looked at, newest first, for as long as locks are missing: it may have missed more.
NEW_WAL = timedelta(days=2)
OLD_WAL_AT_ONCE = 64
# Some stores keep no fractions of the second in which a lock ends.
WHOLE_SECONDS = timedelta(seconds=1)


@dataclass(frozen=True)
class LockResult(Record):
    """`points`: (id, rule, until as text) in the order extended. `gone`: keys that were expected
    and are not there any longer. `refused`: manifests whose lock the store took and does not have:
    asked again, it says that it ends earlier."""

    extended: int
    points: tuple[tuple[str, str, str], ...]
    gone: tuple[str, ...]
    refused: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """All that makes up a point is locked. WAL that went meanwhile was pruned or superseded."""
        return not self.refused and not any(point_of_key(key) for key in self.gone)


def apply_locks(
    decision: LockDecision,
    locks: ObjectLocks,
    wal: Sequence[WalObject],
    policy: Retention,
    *,
    now: datetime,
) -> LockResult:
    """Extend every lock that was decided, and lock new WAL for as long as `logs` promise it.

    Safe to repeat: a lock is never shortened, and what was extended is passed over.

    Args:
        wal: what is stored, from the same listing as the points.
    Raises:
        NotReady: code "no-object-lock".
        Unavailable, Throttled: some locks may be extended already; run it again.
    """
    run = _Run(locks)
    for change in decision.extend:
        point = change.standing.point
        run.extend((item.key for item in point.objects), change.until)
        run.extend(wal_of(point, wal), change.until)
        run.extend([point_key(point.id, MANIFEST)], change.until)
        run.ask_again(point_key(point.id, MANIFEST), change.until)
    _lock_wal(run, wal, policy, now)
    told = tuple(map(_told, decision.extend))
    return LockResult(run.extended, told, tuple(run.gone), tuple(run.refused))


def wal_of(point: RecoveryPoint, wal: Iterable[WalObject]) -> Iterator[str]:
    """Keys of the WAL without which a base backup is not consistent."""
    if isinstance(point, DatabasePoint):
        start = segment_start(point.start_lsn, point.segment_bytes)
        for one in wal:
            if one.start_lsn < point.end_lsn and one.end_lsn > start:
                yield one.key


def _lock_wal(run: _Run, wal: Iterable[WalObject], policy: Retention, now: datetime) -> None:
    """Complete segments: a partial one is superseded within minutes."""
    if not policy.logs:
        return
    whole = (one for one in wal if not one.partial and one.stored_at + policy.logs > now)
    newest_first = sorted(whole, key=lambda one: one.stored_at, reverse=True)
    new = [one for one in newest_first if one.stored_at > now - NEW_WAL]
    run.extend_wal(new, policy.logs)
    for start in range(len(new), len(newest_first), OLD_WAL_AT_ONCE):
        if not run.extend_wal(newest_first[start : start + OLD_WAL_AT_ONCE], policy.logs):
            break


def _told(change: LockChange) -> tuple[str, str, str]:
    return change.standing.point.id, change.rule, change.until.isoformat()


class _Run:
    def __init__(self, locks: ObjectLocks) -> None:
        self._locks = locks
        self.extended = 0
        self.gone: list[str] = []
        self.refused: list[str] = []

    def ask_again(self, key: str, until: datetime) -> None:
        """A store that answers well and does nothing would look locked for ever."""
        if key in self.gone:
            return
        found = self._locks.locked_until(key)
        if found is None or found < until - WHOLE_SECONDS:
            self.refused.append(key)

    def extend(self, keys: Iterable[str], until: datetime) -> None:
        self._extend_all((key, until) for key in keys)

    def extend_wal(self, wal: Iterable[WalObject], logs: timedelta) -> int:
        """Returns how many were not locked for so long."""
        return self._extend_all((one.key, one.stored_at + logs) for one in wal)

    def _extend_all(self, wanted: Iterable[tuple[str, datetime]]) -> int:
        with ThreadPoolExecutor(THREADS) as threads:
            done = sum(threads.map(self._extend_one, list(wanted)))
        self.extended += done
        return done

    def _extend_one(self, wanted: tuple[str, datetime]) -> bool:
        try:
            return self._locks.extend(*wanted)
        except Truncated:
            self.gone.append(wanted[0])
            return False
