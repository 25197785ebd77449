"""A key-value store brought back from its newest whole dump, and every key looked for afterwards.

The whole dump is read and compared with its digests before the server is touched. Writing is not
one instant: a crash leaves some keys written, and doing it again writes all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Literal

from chalicelib.errors import CheckFailed, Damaged, Refused
from chalicelib.plan.dumps import DumpFacts, can_read
from chalicelib.plan.records import CheckResult, Record, RecoveryPoint
from chalicelib.ports import Catalogue, Clock, ObjectStore
from chalicelib.ports.sources import KeyValueServers, KeyValueSource, KeyValueTarget, StoredKey
from chalicelib.recover.dump_stream import Functions, read_dump, read_facts
from chalicelib.recover.points import use_newest

BATCH_KEYS = 500
BATCH_BYTES = 4 << 20
# Servers before 7.0 tell the time that is left, and the moment of asking is added to it.
EXPIRY_SLACK_MS = 2_000
# Longer than a proof takes.
PROOF_MS = 6 * 3_600_000
NAMED = 5
Existing = Literal["refuse", "clear", "keep"]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class RestoredKeys(Record):
    """keys: that were looked for and are there; expired: whose time had passed. before: keys that
    the server had. damaged: newer points that were found damaged and left aside."""

    point_id: str
    taken_at: datetime
    server: str
    keys: int
    expired: int
    before: int
    functions: bool
    damaged: tuple[str, ...]
    seconds: float


def restore_redis(
    store: ObjectStore,
    catalogue: Catalogue,
    target: KeyValueTarget,
    *,
    clock: Clock,
    existing: Existing = "refuse",
    point_id: str = "",
    before: datetime | None = None,
    progress: Progress = lambda _: None,
) -> RestoredKeys:
    """Bring the named point back, or the newest whole one (of `before` or older).

    Expiries are moments: a key whose time has passed since is not brought back.

    Args:
        existing: a server that has keys is refused; or all of them are removed first; or they
            are kept, and those of a name that the dump has are written over.
        progress: told the number of keys as they are written.
    Raises:
        Refused: code "target-not-empty", "target-is-replica", "payload-too-new",
            "too-few-databases"; nothing was changed.
        CheckFailed: code "keys-missing", when a key is not there afterwards.
        Damaged, OutsideWindow, Quarantined, BadInput: as `use_newest`.
    """
    _require_target(target, existing)

    def use(point: RecoveryPoint) -> RestoredKeys:
        return restore_dump(store, point, target, clock=clock, existing=existing, progress=progress)

    made, damaged = use_newest(
        catalogue, "dump", use, clock=clock, point_id=point_id, before=before
    )
    return replace(made, damaged=damaged)


def restore_dump(
    store: ObjectStore,
    point: RecoveryPoint,
    target: KeyValueTarget,
    *,
    clock: Clock,
    existing: Existing = "refuse",
    progress: Progress = lambda _: None,
) -> RestoredKeys:
    """As `restore_redis`, of one point, of which nothing is noted. Raises Damaged, and as that."""
    started_at = clock.now()
    counted = _require_target(target, existing)
    facts = read_facts(store, point)
    for _ in read_dump(store, point, facts):
        pass
    _require_fit(target, facts)
    if existing == "clear":
        target.clear()
    functions = _write(target, read_dump(store, point, facts), progress)
    keys, expired = _look(target, read_dump(store, point, facts))
    return RestoredKeys(
        point.id, point.taken_at, target.name, keys, expired, counted, functions, (),
        (clock.now() - started_at).total_seconds(),
    )  # fmt: skip


@dataclass(frozen=True)
class CopiedKeys(Record):
    """keys: that are there; expired: whose time passed meanwhile."""

    keys: int
    expired: int


def copy_redis(source: KeyValueSource, target: KeyValueTarget) -> CopiedKeys:
    """Every key of one server written into another, whose own are removed, and looked for there.

    Nobody may write to the source meanwhile. Expiries are moments, as in a dump; the server itself
    compares each value with the checksum in its payload.

    Raises:
        Refused: code "target-is-replica", "too-few-databases".
        CheckFailed: code "keys-missing", "keys-too-many".
    """
    _require_target(target, "clear")
    target.clear()
    numbers = sorted(source.facts().keys)
    if lacking := [it for it in numbers if not target.databases(it)]:
        raise _too_few(target, lacking[-1])
    if payload := source.functions():
        target.restore_functions(payload)
    _write(target, _all_keys(source, numbers), lambda _: None)
    keys, expired = _look(target, _all_keys(source, numbers))
    there = sum(target.facts().keys.values())
    if there > keys + expired:
        raise CheckFailed(
            f"expected {keys} keys in {target.name}, as in {source.name}, found {there}",
            code="keys-too-many",
            hint="Does anything write to either of them? Stop it, and start again.",
        )
    return CopiedKeys(keys, expired)


def _all_keys(source: KeyValueSource, numbers: list[int]) -> Iterator[StoredKey]:
    return (key for number in numbers for key in source.dump(number) if key is not None)


def verify_redis(
    store: ObjectStore, point: RecoveryPoint, servers: KeyValueServers, *, clock: Clock
) -> tuple[CheckResult, ...]:
    """Read all of a dump, restore it into a throw-away server and look for every key there.

    Keys that have expired since, or would soon, are restored as if they had no expiry, so that
    their values are proven.

    Raises NotReady (code "no-redis-server") when no server for it is found, Unavailable when the
    store does not answer: neither says anything about the point.
    """
    started_at = clock.now()
    try:
        facts = read_facts(store, point)
        for _ in read_dump(store, point, facts):
            pass
    except Damaged as error:
        return (CheckResult("dump-whole", False, error.message, _since(started_at, clock)),)
    found = f"{sum(facts.keys.values())} keys, {facts.bytes} bytes"
    whole = CheckResult("dump-whole", True, found, _since(started_at, clock))
    with servers(payload_version=facts.payload_version) as server:
        return whole, _prove(store, point, facts, server, clock)


def _prove(
    store: ObjectStore, point: RecoveryPoint, facts: DumpFacts, server: KeyValueTarget, clock: Clock
) -> CheckResult:
    started_at = clock.now()
    try:
        expected = partial(_lasting, until_ms=server.now_ms() + PROOF_MS)
        _write(server, expected(read_dump(store, point, facts)), lambda _: None)
        keys, _ = _look(server, expected(read_dump(store, point, facts)))
        counted = sum(server.facts().keys.values())
    except (Damaged, CheckFailed) as error:
        return CheckResult("dump-restores", False, error.message, _since(started_at, clock))
    found = f"{server.facts().server} holds {counted} keys, each of {keys} was found"
    # A key that was seen twice while the server moved its tables is in the dump twice.
    return CheckResult("dump-restores", counted <= keys, found, _since(started_at, clock))


def _require_target(target: KeyValueTarget, existing: Existing) -> int:
    """Returns the number of keys it has."""
    facts = target.facts()
    if facts.is_replica:
        raise Refused(
            f"expected a server that takes writes, found {target.name} to be a replica",
            code="target-is-replica",
            hint="Restore into its primary.",
        )
    counted = sum(facts.keys.values())
    if counted and existing == "refuse":
        raise Refused(
            f"expected {target.name} to be empty, found {counted} keys",
            code="target-not-empty",
            hint="Say whether its keys are to be removed or kept, or name another server.",
        )
    return counted


def _require_fit(target: KeyValueTarget, facts: DumpFacts) -> None:
    own = target.payload_version()
    if not can_read(own, facts.payload_version):
        raise Refused(
            f"expected a server that reads payloads of version {facts.payload_version} "
            f"({facts.server}), {target.name} writes version {own}",
            code="payload-too-new",
            hint="Restore into a server of the source's version or a later one of its family.",
        )
    missing = [number for number in facts.keys if not target.databases(int(number))]
    if missing:
        raise _too_few(target, int(missing[-1]))


def _too_few(target: KeyValueTarget, number: int) -> Refused:
    return Refused(
        f"expected {target.name} to have database {number}, it has fewer",
        code="too-few-databases",
        hint="Raise `databases` in the server's configuration.",
    )


def _write(
    target: KeyValueTarget, items: Iterable[StoredKey | Functions], progress: Progress
) -> bool:
    """Returns whether there were functions."""
    functions = False
    for batch in _batches(items):
        if isinstance(batch, Functions):
            target.restore_functions(batch.payload)
            functions = True
        else:
            target.restore(batch)
            progress(len(batch))
    return functions


def _look(target: KeyValueTarget, items: Iterable[StoredKey | Functions]) -> tuple[int, int]:
    """(keys that are there, keys whose time has passed). Raises CheckFailed ("keys-missing")."""
    found = expired = 0
    for batch in _batches(items):
        if isinstance(batch, Functions):
            continue
        missing = []
        standing = target.expiries(batch[0].database, [key.name for key in batch])
        now = target.now_ms()
        for key, (there, expires_at_ms) in zip(batch, standing, strict=True):
            if there and _agree(key.expires_at_ms, expires_at_ms):
                found += 1
            elif key.expires_at_ms and key.expires_at_ms <= now + EXPIRY_SLACK_MS:
                expired += 1
            else:
                missing.append(key)
        if missing:
            raise _missing(target, missing)
    return found, expired


def _agree(expected: int | None, found: int | None) -> bool:
    if expected is None or found is None:
        return expected is found
    return abs(expected - found) <= EXPIRY_SLACK_MS


def _missing(target: KeyValueTarget, keys: list[StoredKey]) -> CheckFailed:
    names = ", ".join(repr(key.name[:80]) for key in keys[:NAMED])
    return CheckFailed(
        f"expected every key of the dump in {target.name}, found missing or with another expiry: "
        f"{names}",
        code="keys-missing",
        hint="Look whether the server evicts keys at its memory limit, or somebody else writes.",
    )


def _lasting(
    items: Iterator[StoredKey | Functions], *, until_ms: int
) -> Iterator[StoredKey | Functions]:
    """The same keys, without an expiry that would pass before the proof ends."""
    for item in items:
        if isinstance(item, StoredKey) and (item.expires_at_ms or until_ms) < until_ms:
            yield replace(item, expires_at_ms=None)
        else:
            yield item


def _batches(
    items: Iterable[StoredKey | Functions],
) -> Iterator[list[StoredKey] | Functions]:
    """Keys of one database, of bounded number and size."""
    batch: list[StoredKey] = []
    size = 0
    for item in items:
        if isinstance(item, Functions):
            yield item
            continue
        full = len(batch) == BATCH_KEYS or size >= BATCH_BYTES
        if batch and (full or batch[0].database != item.database):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item.payload)
    if batch:
        yield batch


def _since(started_at: datetime, clock: Clock) -> float:
    return (clock.now() - started_at).total_seconds()
