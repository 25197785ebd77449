"""Copies the objects of a moment into another bucket, beside the one that they are from.

Nothing that the other bucket holds is overwritten or deleted: it may hold what an earlier run put
there, and nothing else below the prefix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from chalicelib.errors import LeewardError, Refused
from chalicelib.plan.records import Record
from chalicelib.ports.bucket_rules import BucketControl
from chalicelib.ports.buckets import Bucket, ObjectRow, VersionRow
from chalicelib.recover.bucket.cost import Cost, CostMeter
from chalicelib.recover.bucket.flight import IN_FLIGHT, Flight
from chalicelib.recover.bucket.history import KeyHistory, read_histories
from chalicelib.recover.bucket.outcome import Copies, OutcomeMeter, UndoOutcome
from chalicelib.recover.bucket.proof import beside
from chalicelib.recover.bucket.same_content import Place, heads_of, read_and_compare, same_bytes
from chalicelib.recover.bucket.survey import SAMPLES, StateMeter, StateSum, Tell
from chalicelib.recover.bucket.undo import UndoRules, is_archived

FOREIGN = "the target holds something else under this key"


@dataclass(frozen=True)
class CopyPlan(Record):
    """What to copy. `there`: objects that are in the target already, as far as a listing tells.

    `foreign`: a few keys of the target that are not of the moment, or have another size.
    """

    bucket: str
    target: str
    keys: int
    copies: int
    copied_bytes: int
    there: int
    unknown: int
    archived: int
    foreign_count: int
    foreign: tuple[str, ...]
    state: StateSum
    cost: Cost


async def survey_copy(
    bucket: Bucket, target: Bucket, rules: UndoRules, *, prefix: str = "", tell: Tell | None = None
) -> CopyPlan:
    """Compare what stood in `bucket` with what is in `target`; nothing is touched."""
    counts: Counter[str] = Counter()
    state, meter = StateMeter(), CostMeter()
    copied_bytes = entries = 0
    foreign: list[str] = []
    async for key, history, row in _pairs(bucket, target, rules, prefix):
        what = judge_copy(history, row, rules)
        counts[what] += 1
        if history is not None:
            state.add(history)
            entries += history.entries
        if what == "copy":
            wanted = wanted_of(history)
            copied_bytes += wanted.size_bytes
            counts["archived"] += is_archived(wanted)
            (meter.thaw if is_archived(wanted) else meter.copy)(
                wanted.size_bytes, wanted.storage_class
            )
        if what == "foreign" and len(foreign) < SAMPLES:
            foreign.append(key)
        if tell is not None:
            tell(counts.total() - counts["archived"])
    meter.stream(entries)
    return CopyPlan(
        bucket.name, target.name, counts.total() - counts["archived"], counts["copy"],
        copied_bytes, counts["there"], counts["unknown"], counts["archived"], counts["foreign"],
        tuple(foreign), state.sum(), meter.cost(),
    )  # fmt: skip


def require_target(plan: CopyPlan) -> None:
    """Raises Refused, code "target-not-empty", before anything is copied."""
    if plan.foreign_count:
        raise Refused(
            f"expected {plan.target} to hold nothing but objects of that moment, found"
            f" {plan.foreign_count} others, such as {plan.foreign[0]!r}",
            code="target-not-empty",
            hint="Name an empty bucket; nothing in it would be overwritten.",
        )


async def apply_copy(
    bucket: Bucket,
    target: Bucket,
    rules: UndoRules,
    *,
    prefix: str = "",
    thaw: BucketControl | None = None,
    in_flight: int = IN_FLIGHT,
    tell: Tell | None = None,
) -> UndoOutcome:
    """Copy what is not there. Safe to repeat: what a killed run left to do is done.

    Raises:
        NotReady, Unavailable: a bucket cannot be listed, or no request can succeed.
    """
    meter = OutcomeMeter(tell)
    async with Flight(in_flight) as flight:
        copies = Copies(bucket.name, target, meter, thaw)
        async for key, history, row in _pairs(bucket, target, rules, prefix):
            what = judge_copy(history, row, rules)
            if what == "copy":
                await flight.start(copies.copy(wanted_of(history)))
            elif what == "there":
                await flight.start(_compare(bucket, target, wanted_of(history), row, meter))
            elif what == "foreign":
                meter.fail(key, "target-not-empty", FOREIGN)
            else:
                meter.done(what)
        await flight.land()
        await copies.flush()
    return meter.outcome()


def judge_copy(history: KeyHistory | None, row: ObjectRow | None, rules: UndoRules) -> str:
    """copy, there, foreign or unknown. Pure."""
    key = history.key if history is not None else row.key if row is not None else ""
    if key in rules.aside:
        return "left"
    if history is not None and history.gaps and not rules.accept_gaps:
        return "unknown"
    wanted = history.wanted if history is not None else None
    if wanted is None:
        return "foreign" if row is not None else "left"
    if row is None:
        return "copy"
    return "there" if row.size_bytes == wanted.size_bytes else "foreign"


def wanted_of(history: KeyHistory | None) -> VersionRow:
    assert history is not None
    assert history.wanted is not None
    return history.wanted


def _pairs(
    bucket: Bucket, target: Bucket, rules: UndoRules, prefix: str
) -> AsyncIterator[tuple[str, KeyHistory | None, ObjectRow | None]]:
    return beside(read_histories(bucket, prefix, rules.to_at), target.list(prefix))


async def _compare(
    bucket: Bucket, target: Bucket, wanted: VersionRow, row: ObjectRow | None, meter: OutcomeMeter
) -> None:
    """What is there is left when it is the same, and never overwritten."""
    if row is not None and row.etag and row.etag == wanted.etag:
        meter.done("same")
        return
    then, there = Place(bucket, wanted.key, wanted.version_id), Place(target, wanted.key)
    try:
        same = same_bytes(*await heads_of(then, there))
        if same is None:
            same = await read_and_compare(then, there)
    except LeewardError as error:
        meter.failed(wanted.key, error)
        return
    if same:
        meter.done("same")
    else:
        meter.fail(wanted.key, "target-not-empty", FOREIGN)
