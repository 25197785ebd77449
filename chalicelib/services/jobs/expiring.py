"""The job that removes the versions of a bucket's replica that the plan no longer keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from chalicelib.backup.bucket.expire_versions import (
    Expired,
    ExpiryDecision,
    apply_expiry,
    check_fresh,
    cutoff_of,
    decide_expiry,
)
from chalicelib.backup.bucket.key_spool import KeySpool
from chalicelib.backup.bucket.named_versions import read_named
from chalicelib.errors import CheckFailed, NotReady, Refused, Unavailable
from chalicelib.evidence.text import counted
from chalicelib.plan.components import Bucket as PlanBucket
from chalicelib.plan.units import format_size
from chalicelib.ports.buckets import Bucket
from chalicelib.ports.catalogue import Holdings
from chalicelib.services import build, environment
from chalicelib.services.jobs.buckets import bucket_at, bucket_component, replica_of
from chalicelib.services.jobs.pruning import require_no_incident, retention_of

# Lambda ends an invocation after 15 minutes.
EXPIRE_SECONDS = 13 * 60.0
T = TypeVar("T")
_Then = Callable[[Bucket, ExpiryDecision, KeySpool], Awaitable[T]]

AT_REST_CODES = ("incident-open", "infected")


@dataclass(frozen=True)
class Watching:
    """Who is told how far a run is: inventories read, versions listed, versions removed."""

    read: Callable[[int], None] = lambda _: None
    listed: Callable[[int], None] = lambda _: None
    removed: Callable[[int], None] = lambda _: None


def expire_versions(component: str, seconds: float = EXPIRE_SECONDS) -> dict[str, Any]:
    """Remove what neither an inventory names nor the plan's `versions` promises.

    Publishes `VersionsExpired` when everything that was to go went. During an incident, or while a
    bucket of the plan is judged infected, nothing goes.

    Raises:
        Unavailable: code "expiry-unfinished"; CheckFailed: code "versions-not-removed".
    """
    try:
        done = expire_now(component, seconds=seconds)
    except Refused as error:
        if error.instance_code not in AT_REST_CODES:
            raise
        return {"found": f"nothing removed: {error.message}"}
    if done.failed:
        raise _not_removed(done)
    build.metrics().put(component, {"VersionsExpired": 1.0})
    return {"found": tell_expired(done)}


def expire_now(
    component: str,
    *,
    approved: bool = False,
    seconds: float | None = None,
    watching: Watching = Watching(),
) -> Expired:
    """One run; see `expire_versions`.

    Raises:
        Refused: code "incident-open" or "infected".
        NotReady: code "no-retention", "no-replica", "inventory-too-old".
        PruneTooLarge: without `approved`.
        CheckFailed, Damaged, Tampered: as read_named; nothing was removed.
    """

    async def run(replica: Bucket, decision: ExpiryDecision, spool: KeySpool) -> Expired:
        return await apply_expiry(
            decision, replica, spool, approved=approved,
            may_go_on=lambda: check_at_rest(component), progress=watching.removed,
        )  # fmt: skip

    check_at_rest(component)
    return _within(seconds, component, _looked(component, watching, run))


def look_at_versions(component: str, *, watching: Watching = Watching()) -> ExpiryDecision:
    """What a run would remove now; raises as `expire_now`, but for incidents and its size."""

    async def look(_: Bucket, decision: ExpiryDecision, __: KeySpool) -> ExpiryDecision:
        return decision

    return asyncio.run(_looked(component, watching, look))


def check_at_rest(component: str) -> None:
    """Raises Refused: "incident-open" in any incident, "infected" for any bucket of the plan."""
    require_no_incident()
    from chalicelib.verify.ransomware import last_judgement

    for name in _buckets_of_plan(component):
        judgement = last_judgement(bucket_component(name).bucket, state=build.state())
        if judgement is not None and judgement.infected:
            raise Refused(
                f"{name} is judged infected",
                hint=f"look at `leeward signs show {name}`; a person clears it",
                code="infected",
            )


def _buckets_of_plan(first: str) -> list[str]:
    others = [name for name, it in build.plan().components.items() if isinstance(it, PlanBucket)]
    return [first, *(name for name in others if name != first)]


async def _looked(component: str, watching: Watching, then: _Then[T]) -> T:
    """Read every inventory, list the replica, and hand over what was decided."""
    window, now = _window_of(component), build.clock().now()
    holdings = build.catalogue(component).holdings()
    _check_readable(holdings)
    check_fresh(holdings.standings, now=now)
    async with build.buckets() as buckets:
        backups = bucket_at(buckets, environment.environment().backup_bucket)
        named = await read_named(
            backups, component, holdings.standings, progress=watching.read
        )  # fmt: skip
        replica = replica_of(buckets, component)
        with KeySpool() as spool:
            decision = await decide_expiry(
                replica, named, spool, replaced_before=cutoff_of(window, now=now),
                progress=watching.listed,
            )  # fmt: skip
            return await then(replica, decision, spool)


def _window_of(component: str) -> timedelta:
    found = retention_of(component).versions
    if found is None:
        raise NotReady(
            f"expected `versions` in the retention of {component}, found none",
            hint="say in the plan how long replaced and deleted versions stay in its replica",
            code="no-retention",
        )
    return found


def _check_readable(holdings: Holdings) -> None:
    """What a point names that cannot be read, nobody knows."""
    for bad in holdings.rejected:
        raise CheckFailed(
            f"expected every point to be readable, found {bad.point_id}: {bad.reason}",
            hint="verify the copies: `leeward verify` repairs it from another location",
            code="inventory-unreadable",
        )


def _within(seconds: float | None, component: str, work: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        return await asyncio.wait_for(work, seconds)

    try:
        return asyncio.run(limited())
    except TimeoutError as error:
        raise Unavailable(
            f"expected the versions of {component} to be looked at within {seconds:.0f} s, they "
            "were not",
            hint="what went is gone and all else is whole; `leeward prune` has no such limit",
            code="expiry-unfinished",
        ) from error


def tell_expired(done: Expired) -> str:
    """One line for a person."""
    decision, kept = done.decision, sum(it.versions for it in done.decision.kept)
    return (
        f"{counted(done.removed.versions, 'version')} removed "
        f"({format_size(done.removed.size_bytes)}), {kept:,} stay, "
        f"{decision.named.versions:,} of them only because inventories name them"
    )


def _not_removed(done: Expired) -> CheckFailed:
    named = "; ".join(f"{it.key!r} {it.version_id}: {it.code}" for it in done.failures)
    return CheckFailed(
        f"expected {counted(done.decision.goes.versions, 'version')} to be removed, S3 refused "
        f"{done.failed}: {named}",
        hint="look at Object Lock of the replica, at its policy and at this role's rights",
        code="versions-not-removed",
    )
