"""Versions of a user's bucket that are gone for good, found by what an inventory of it names.

A list of versions cannot tell that one was removed. Where the newest of a key is, the version below
it is the object again, with its older time and perhaps its size, so that no listing of current
objects tells it either, and what copies the bucket goes back without a word.

    named by the inventory       listed now                   what is said
    v2                           ... v2 ...                   nothing
    v2                           v1, older                    removed, and v1 is the object again
    v2                           v3 or a marker, newer        removed after it was replaced
    v2                           nothing                      removed

A lifecycle rule removes what was replaced some days ago; a rule that was seen for so long explains
it. It never removes what readers get, so that it explains no older version. An object of before
versioning is overwritten and deleted for good by everybody, which nothing tells from a removal.
What the plan says that the application erases explains no older version either: an erasure leaves
none, and an attack that brings one back would hide behind it.
Source: "Deleting object versions from a versioning-enabled bucket", S3 user guide.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from chalicelib.backup.bucket.in_parts import NOT_VERSIONED
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.errors import Refused
from chalicelib.ports.buckets import Bucket, VersionRow

if TYPE_CHECKING:  # every sync imports this room, and few find anything
    from chalicelib.plan.inventory import InventoryEntry, SourceVersion
    from chalicelib.plan.signs import After, RemovedVersion, SeenRule

READ_AT_ONCE = 1000
# Objects of an inventory, of 50,000 to 100,000 keys each, that are looked for at once.
PARTS_AT_ONCE = 8
NAMED = 100


@dataclass(frozen=True)
class SeenInventory:
    """`parts`: its objects in their order; the entries of each are read in another thread."""

    point_id: str
    taken_at: datetime
    parts: tuple[Callable[[], Iterator[InventoryEntry]], ...]


@dataclass(frozen=True)
class Removals:
    """`seen`: versions that were looked for. `named`: the first of those that are gone, with what
    went back before all others. `point_id`: the newest inventory that was asked.

    went_back: keys whose object is an older version now; held in memory. replaced_at: the earliest
    time of what replaced one before it was removed, None where nothing did. unread: inventories
    that are there and could not be asked. erased: gone too, and not among `removed`: the plan
    expects as many.
    """

    seen: int = 0
    removed: int = 0
    erased: int = 0
    named: tuple[RemovedVersion, ...] = ()
    went_back: frozenset[str] = field(default=frozenset(), repr=False)
    replaced_at: datetime | None = None
    unread: tuple[str, ...] = ()
    point_id: str = ""

    @property
    def counts(self) -> dict[str, Any]:
        """As a SyncResult has them."""
        return {
            "looked_for": self.seen,
            "removed": self.removed,
            "went_back": len(self.went_back),
            "erased": self.erased,
        }


NO_REMOVALS = Removals()


def judge_version(seen: SourceVersion, rows: Sequence[VersionRow]) -> After | None:
    """What the key of a version that is gone has now; None when nothing is known to be gone. Pure.

    Args:
        rows: all versions and markers of its key.
    """
    if any(row.version_id == seen.version for row in rows):
        return None
    if seen.version in NOT_VERSIONED and (
        not rows or any(row.version_id in NOT_VERSIONED for row in rows)
    ):
        return None
    if not rows:
        return "nothing"
    return "newer" if _replaced_at(seen, rows) else "older"


def is_explained(
    key: str, since: datetime, after: After, rules: Sequence[SeenRule]
) -> bool:  # fmt: skip
    """Whether a lifecycle rule was seen for so long after `since` that it removed it. Pure.

    Args:
        since: when the version was replaced, or else when it was last seen.
    """
    return after != "older" and any(
        key.startswith(rule.prefix) and rule.until_at - since >= timedelta(days=rule.days)
        for rule in rules
    )


def without_erasures(removals: Removals, share: float) -> Removals:
    """The same, when the plan expects as many as are gone; what went back stays told. Pure.

    Args:
        share: of the objects that the inventory names. More than that, and all of them are told.
    """
    back = len(removals.went_back)
    erased = removals.removed - back
    if erased == 0 or erased > share * removals.seen:
        return removals
    named = tuple(it for it in removals.named if it.after == "older")
    return replace(removals, removed=back, erased=erased, named=named, replaced_at=None)


def check_went_back(count: int, seen: int, policy: SyncPolicy) -> None:
    """Raises Refused (code "too-many-removed") when more objects are older ones again than the plan
    lets be deleted: what copies them would take the whole replica back."""
    if count <= policy.max_delete_share * seen:
        return
    raise Refused(
        f"expected at most {policy.max_delete_share:.1%} of {seen} objects to be older "
        f"versions again, found {count}: their newest ones were removed for good",
        code="too-many-removed",
        hint="Find out who removes versions; the replica has them. Then approve it.",
        went_back=count,
        seen=seen,
    )


async def find_removed(
    source: Bucket,
    inventory: SeenInventory,
    rules: Sequence[SeenRule] = (),
    *,
    parts_at_once: int = PARTS_AT_ONCE,
) -> Removals:
    """Look for each version that the inventory names; some pages and lines are in memory.

    Raises:
        Damaged, Tampered: the inventory cannot be read to its end.
        NotReady, Unavailable: the bucket's versions cannot be listed.
    """
    search, gate = _Search(source, inventory, rules), asyncio.Semaphore(parts_at_once)

    async def look_in_turn(part: Callable[[], Iterator[InventoryEntry]]) -> None:
        async with gate:
            await search.look(part())

    try:
        async with asyncio.TaskGroup() as looks:
            for part in inventory.parts:
                looks.create_task(look_in_turn(part))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return search.found()


class _Search:
    def __init__(
        self, source: Bucket, inventory: SeenInventory, rules: Sequence[SeenRule]
    ) -> None:  # fmt: skip
        self._source, self._inventory, self._rules = source, inventory, rules
        self._seen = self._removed = 0
        self._named: dict[bool, list[RemovedVersion]] = {True: [], False: []}
        self._went_back: set[str] = set()
        self._replaced: list[datetime] = []

    async def look(self, entries: Iterator[InventoryEntry]) -> None:
        """Both in byte order of the key; keys that the inventory does not name are passed over."""
        some = await asyncio.to_thread(_next_of, entries)
        if not some:
            return
        async with aclosing(_keys_from(self._source, some[0].key)) as keys:
            rows = await anext(keys, None)
            while some:
                for entry in some:
                    while rows and rows[0].key < entry.key:
                        rows = await anext(keys, None)
                    there = rows if rows and rows[0].key == entry.key else ()
                    if entry.source is not None:
                        self._judge(entry.key, entry.source, there)
                some = await asyncio.to_thread(_next_of, entries)

    def _judge(self, key: str, seen: SourceVersion, rows: Sequence[VersionRow]) -> None:
        self._seen += 1
        after = judge_version(seen, rows)
        if after is None:
            return
        point_id, seen_at = self._inventory.point_id, self._inventory.taken_at
        replaced_at = _replaced_at(seen, rows)
        if is_explained(key, replaced_at or seen_at, after, self._rules):
            return
        self._removed += 1
        if after == "older":
            self._went_back.add(key)
        if replaced_at is not None:
            self._replaced = [min([replaced_at, *self._replaced])]
        named = self._named[after == "older"]
        if len(named) < NAMED:
            from chalicelib.plan.signs import RemovedVersion

            named.append(
                RemovedVersion(key, seen.version, seen.modified_at, seen_at, point_id, after)
            )

    def found(self) -> Removals:
        back, others = (sorted(self._named[it], key=lambda one: one.key) for it in (True, False))
        return Removals(
            self._seen, self._removed, named=(*back, *others)[:NAMED],
            went_back=frozenset(self._went_back),
            replaced_at=min(self._replaced, default=None), point_id=self._inventory.point_id,
        )  # fmt: skip


def join_removals(found: Sequence[Removals]) -> Removals:
    """What several inventories name, the newest of them first. Pure.

    The same version may be gone by more than one, so that the largest of their counts is told.
    """
    named = {(it.key, it.version_id): it for one in found for it in one.named}
    return Removals(
        max(one.seen for one in found),
        max(one.removed for one in found),
        max(one.erased for one in found),
        tuple(named.values())[:NAMED],
        frozenset().union(*(one.went_back for one in found)),
        min((one.replaced_at for one in found if one.replaced_at), default=None),
        point_id=found[0].point_id,
    )


async def by_key(rows: AsyncGenerator[VersionRow, None]) -> AsyncGenerator[list[VersionRow], None]:
    """All versions and markers of one key at a time."""
    some: list[VersionRow] = []
    async with aclosing(rows):
        async for row in rows:
            if some and some[0].key != row.key:
                yield some
                some = []
            some.append(row)
    if some:
        yield some


async def _keys_from(source: Bucket, first: str) -> AsyncGenerator[list[VersionRow], None]:
    """A listing begins behind a key: the first one is asked for by itself."""
    for rows in (
        source.list_versions(first, through=first),
        source.list_versions(key_marker=first),
    ):
        async with aclosing(by_key(rows)) as keys:
            async for some in keys:
                yield some


def _replaced_at(seen: SourceVersion, rows: Sequence[VersionRow]) -> datetime | None:
    newer = [row.modified_at for row in rows if row.modified_at > seen.modified_at]
    return min(newer, default=None)


def _next_of(entries: Iterator[InventoryEntry]) -> list[InventoryEntry]:
    return list(islice(entries, READ_AT_ONCE))
