"""Remove the noncurrent versions of a replica that nothing promises any longer.

Invariants (must): the current version of a key stays; so does each that an inventory names, and
each that was replaced or deleted within the promised window. Nothing is removed before the whole
replica was listed and every inventory was read. Safe to repeat, and to end anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from chalicelib.backup.bucket.key_spool import KeySpool
from chalicelib.backup.bucket.named_versions import NamedVersions
from chalicelib.backup.bucket.removed_versions import by_key
from chalicelib.errors import NotReady, PruneTooLarge
from chalicelib.plan.records import PointStanding, Record, format_time
from chalicelib.plan.units import format_share
from chalicelib.ports.buckets import Bucket, KeyFailure, VersionRow

Fate = Literal["current", "named", "young", "goes"]

# A sync in shards may write its inventory for so long; what it names must not go meanwhile.
LEAST_WINDOW = timedelta(days=2)
# Without an inventory of the last two nights nobody knows what the replica should hold.
FRESH = timedelta(days=2)
# S3 dates an upload in parts by its beginning; the replica's lifecycle rule ends one after a week.
UPLOADS_LAST = timedelta(days=7)
MAX_SHARE = 0.5
# Below this a share says nothing.
FEW_VERSIONS = 100
BATCH = 1000
SHOWN = 5


@dataclass(frozen=True)
class Tally(Record):
    """Versions and delete markers, which have no bytes."""

    versions: int = 0
    size_bytes: int = 0


@dataclass(frozen=True)
class ExpiryDecision(Record):
    """What becomes of every version of a replica. `replaced_before_at`: aware UTC; only what was
    replaced or deleted until then may go. `inventories`: objects that were read."""

    replica: str
    replaced_before_at: datetime
    inventories: int
    current: Tally
    named: Tally
    young: Tally
    goes: Tally

    @property
    def kept(self) -> tuple[Tally, ...]:
        return (self.current, self.named, self.young)


@dataclass(frozen=True)
class Expired:
    """What one run removed; `failed` counts what S3 refused, `failures` are the first of these."""

    decision: ExpiryDecision
    removed: Tally
    failed: int
    failures: tuple[KeyFailure, ...]


def cutoff_of(window: timedelta, *, now: datetime) -> datetime:
    return now - max(window, LEAST_WINDOW)


def decide_fates(
    rows: Sequence[VersionRow], named: NamedVersions, replaced_before: datetime
) -> list[Fate]:
    """What becomes of all versions and markers of one key, in the order of `rows`.

    A marker above nothing but markers tells nothing: it goes when it is old enough. Pure.

    Args:
        rows: newest first, as S3 lists them.
        replaced_before: aware UTC.
    """
    hides_nothing = all(row.is_marker for row in rows)
    fates: list[Fate] = []
    replaced_at: datetime | None = None
    for row in rows:
        is_current = row.is_latest and not hides_nothing
        since = None if is_current else replaced_at or row.modified_at
        fates.append(_fate(row, since, named, replaced_before))
        replaced_at = _there_at(row)
    return fates


def _fate(
    row: VersionRow, replaced_at: datetime | None, named: NamedVersions, before: datetime
) -> Fate:
    if replaced_at is None:
        return "current"
    if not row.is_marker and named.has(row.key, row.version_id):
        return "named"
    return "goes" if max(replaced_at, _there_at(row)) <= before else "young"


def _there_at(row: VersionRow) -> datetime:
    """The latest moment at which it can have become what readers get."""
    return row.modified_at + (UPLOADS_LAST if "-" in row.etag else timedelta(0))


async def decide_expiry(
    replica: Bucket,
    named: NamedVersions,
    spool: KeySpool,
    *,
    replaced_before: datetime,
    progress: Callable[[int], None] = lambda _: None,
) -> ExpiryDecision:
    """List the whole replica; what goes is put into `spool`. Changes nothing.

    Args:
        progress: told how many versions were listed.
    """
    counts: Counter[Fate] = Counter()
    sizes: Counter[Fate] = Counter()
    async with aclosing(by_key(replica.list_versions())) as keys:
        async for rows in keys:
            for row, fate in zip(rows, decide_fates(rows, named, replaced_before), strict=True):
                counts[fate] += 1
                sizes[fate] += row.size_bytes
                if fate == "goes":
                    # No version id has a space in it; a key may.
                    spool.add(f"{row.size_bytes} {row.version_id} {row.key}")
            progress(counts.total())
    fates: tuple[Fate, ...] = ("current", "named", "young", "goes")
    tallies = (Tally(counts[fate], sizes[fate]) for fate in fates)
    return ExpiryDecision(replica.name, replaced_before, named.inventories, *tallies)


def check_fresh(standings: Sequence[PointStanding], *, now: datetime) -> None:
    """Raises NotReady (code "inventory-too-old") without a sound inventory of the last nights."""
    taken = [
        it.point.taken_at for it in standings if it.point.kind == "objects" and not it.quarantined
    ]
    newest = max(taken, default=None)
    if newest is None or newest < now - FRESH:
        found = format_time(newest) if newest else "none"
        raise NotReady(
            f"expected an inventory of the last {FRESH.days} days, the newest is {found}",
            code="inventory-too-old",
            hint="look at the alarms of the sync; no version goes until one ends well",
        )


def check_expiry_share(decision: ExpiryDecision, *, max_share: float = MAX_SHARE) -> None:
    """Raises PruneTooLarge: more than that share of the replica's versions or bytes would go."""
    gone, kept = decision.goes, decision.kept
    versions = gone.versions + sum(it.versions for it in kept)
    size_bytes = gone.size_bytes + sum(it.size_bytes for it in kept)
    if versions <= FEW_VERSIONS:
        return
    if gone.versions > max_share * versions or gone.size_bytes > max_share * size_bytes:
        raise PruneTooLarge(
            f"expected at most {format_share(max_share)} of {decision.replica} to go in one run, "
            f"found {gone.versions} of {versions} versions and {gone.size_bytes} of {size_bytes} "
            "bytes",
            hint="look at `leeward prune --dry-run`; if it is what the plan means, --approve",
            versions=gone.versions,
            of_versions=versions,
            freed_bytes=gone.size_bytes,
            of_bytes=size_bytes,
        )


async def apply_expiry(
    decision: ExpiryDecision,
    replica: Bucket,
    spool: KeySpool,
    *,
    approved: bool = False,
    max_share: float = MAX_SHARE,
    may_go_on: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Expired:
    """Remove what was decided, by version id, a batch at a time.

    Args:
        may_go_on: is asked before each batch, and raises when nothing more may go.
        progress: told the versions of each batch.
    Raises:
        PruneTooLarge: without `approved`; nothing was removed.
    """
    if not approved:
        check_expiry_share(decision, max_share=max_share)
    versions = size_bytes = failed = 0
    failures: list[KeyFailure] = []
    for lines in spool.batches(BATCH):
        may_go_on()
        sizes = {(key, version): int(size) for size, version, key in map(_split, lines)}
        deleted = await replica.delete(list(sizes))
        versions += len(deleted.done)
        size_bytes += sum(sizes[pair] for pair in deleted.done)
        failed += len(deleted.failed)
        failures += deleted.failed[: SHOWN - len(failures)]
        progress(len(lines))
    removed = Tally(versions, size_bytes)
    return Expired(decision, removed, failed, tuple(failures))


def _split(line: str) -> list[str]:
    return line.split(" ", 2)
