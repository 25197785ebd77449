"""What taking a bucket back would do, counted and priced before anything is touched."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import BadInput, OutsideWindow, Refused
from chalicelib.plan.records import Record, format_time
from chalicelib.ports.bucket_rules import BucketRules, Expiry
from chalicelib.ports.buckets import Bucket
from chalicelib.recover.bucket.cost import Cost, CostMeter
from chalicelib.recover.bucket.history import CutMeter, KeyHistory, for_each_shard
from chalicelib.recover.bucket.undo import ACTIONS, KeyUndo, UndoRules, decide_key, is_archived

SAMPLES = 5
MOST_HELD = 20_000
"""Changes that are kept from the survey to the undo, some 30 MB; of more, none are."""
Tell = Callable[[int], None]
"""Told how many keys are done, now and then."""


@dataclass(frozen=True)
class StateSum(Record):
    """The objects that readers got at a moment: two are equal only when key, version, size and
    etag of each are. Independent of the order in which they are added."""

    keys: int
    size_bytes: int
    digest: str


class StateMeter:
    def __init__(self) -> None:
        self._keys = self._bytes = self._sum = 0

    def add(self, history: KeyHistory) -> None:
        row = history.wanted
        if row is None:
            return
        self._keys += 1
        self._bytes += row.size_bytes
        said = f"{len(row.key)} {row.key} {row.version_id} {row.size_bytes} {row.etag}"
        self._sum += int.from_bytes(hashlib.sha256(said.encode()).digest())

    def sum(self) -> StateSum:
        return StateSum(self._keys, self._bytes, f"{self._sum % (1 << 256):064x}")


@dataclass(frozen=True)
class UndoPlan(Record):
    """Numbers of keys (and bytes of their objects) by action and by reason, with a few of each.

    `state`: what stood at `to_at`. `newest_at`: the last change before the survey, so the moment
    that undoes the undo. `living`: objects that readers get now. `cuts`: keys between which the
    proof lists side by side. `held`: every key that is not left alone, None when they are too many.
    """

    bucket: str
    prefix: str
    to_at: datetime
    keys: int
    entries: int
    living: int
    counts: dict[str, int]
    bytes: dict[str, int]
    whys: dict[str, int]
    notes: dict[str, int]
    markers: int
    state: StateSum
    cost: Cost
    samples: dict[str, tuple[KeyUndo, ...]] = field(default_factory=dict)
    noted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    newest_at: datetime | None = None
    oldest_at: datetime | None = None
    # asyncio.run makes a repr of what its task returns, however large, when it puts SIGINT back.
    cuts: tuple[str, ...] = field(default=(), repr=False)
    held: tuple[KeyUndo, ...] | None = field(default=None, repr=False)

    @property
    def changes(self) -> int:
        """Keys that are not left alone."""
        return self.keys - self.counts["leave"] - self.counts["unknown"]

    def to_json(self) -> dict[str, Any]:
        told = replace(self, samples={}, cuts=(), held=None)
        said = super(UndoPlan, told).to_json()
        del said["cuts"], said["held"]
        said["changes"] = self.changes
        said["samples"] = {
            action: [{"key": one.key, "why": one.why} for one in undos]
            for action, undos in self.samples.items()
        }
        return said


async def survey_undo(
    bucket: Bucket,
    rules: UndoRules,
    *,
    prefix: str = "",
    most_held: int = MOST_HELD,
    tell: Tell | None = None,
) -> UndoPlan:
    """Decide on every key below the prefix; keep what can be counted, a few samples, and the
    changes themselves unless they are more than `most_held`."""
    survey = _Survey(bucket.name, prefix, rules, most_held)

    async def add(histories: AsyncIterator[KeyHistory]) -> None:
        entries = 0
        async for history in histories:
            entries += history.entries
            survey.add(decide_key(history, rules))
            if tell is not None:
                tell(survey.keys)
        survey.stream(entries)

    await for_each_shard(bucket, prefix, rules.to_at, add)
    return survey.plan()


class _Survey:
    def __init__(self, bucket: str, prefix: str, rules: UndoRules, most_held: int) -> None:
        self._bucket, self._prefix, self._rules = bucket, prefix, rules
        self.keys = self._entries = self._living = self._markers = 0
        self._counts: Counter[str] = Counter(dict.fromkeys(ACTIONS, 0))
        self._bytes: Counter[str] = Counter(dict.fromkeys(ACTIONS, 0))
        self._whys: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._samples: dict[str, list[KeyUndo]] = defaultdict(list)
        self._noted: dict[str, list[str]] = defaultdict(list)
        self._meter, self._state = CostMeter(), StateMeter()
        self._times: list[datetime] = []
        self._cuts = CutMeter()
        self._held: list[KeyUndo] | None = []
        self._most_held = most_held

    def add(self, undo: KeyUndo) -> None:
        history = undo.history
        self.keys += 1
        self._entries += history.entries
        self._living += history.live is not None
        self._counts[undo.action] += 1
        self._bytes[undo.action] += history.wanted.size_bytes if history.wanted else 0
        self._whys[undo.why] += 1
        if len(self._samples[undo.action]) < SAMPLES:
            self._samples[undo.action].append(undo)
        for note in (*history.notes, *history.gaps):
            self._notes[note] += 1
            if len(self._noted[note]) < SAMPLES:
                self._noted[note].append(undo.key)
        times = (*self._times, history.now.modified_at, history.oldest_at)
        self._times = [min(times), max(times)]
        self._state.add(history)
        self._cuts.add(history)
        self._price(undo)
        if self._held is not None and undo.action != "leave":
            self._held.append(undo)
            if len(self._held) > self._most_held:
                self._held = None

    def stream(self, entries: int) -> None:
        """One stream of the listing has ended."""
        self._meter.stream(entries)

    def _price(self, undo: KeyUndo) -> None:
        wanted, meter = undo.history.wanted, self._meter
        if undo.action == "put-marker":
            meter.batch(1)
        elif undo.action == "remove-markers":
            meter.batch(len(undo.history.markers))
            self._markers += len(undo.history.markers)
        elif undo.action == "compare":
            meter.compare()
        if wanted and (undo.action == "thaw" or (undo.action == "compare" and is_archived(wanted))):
            meter.thaw(wanted.size_bytes, wanted.storage_class)
        elif wanted and undo.action in ("copy", "compare"):
            meter.copy(wanted.size_bytes, wanted.storage_class)

    def plan(self) -> UndoPlan:
        return UndoPlan(
            self._bucket, self._prefix, self._rules.to_at, self.keys, self._entries, self._living,
            dict(self._counts), dict(self._bytes), dict(self._whys), dict(self._notes),
            self._markers, self._state.sum(), self._meter.cost(listed_again=self._held is None),
            {action: tuple(found) for action, found in self._samples.items()},
            {note: tuple(found) for note, found in self._noted.items()},
            newest_at=max(self._times, default=None), oldest_at=min(self._times, default=None),
            cuts=self._cuts.cuts(), held=None if self._held is None else tuple(self._held),
        )  # fmt: skip


def require_history(
    facts: BucketRules, rules: UndoRules, *, bucket: str, prefix: str, in_place: bool, now: datetime
) -> None:
    """Refuse what a bucket's configuration makes impossible, before its versions are read.

    Raises:
        BadInput: code "time-in-future".
        Refused: code "not-versioned", or "versioning-suspended" when the bucket itself is to be
            changed: a copy or a marker would overwrite the null version for good.
        OutsideWindow: code "versions-expired": a lifecycle rule has removed versions since, or of
            a replica Leeward itself.
    """
    if rules.to_at > now:
        raise BadInput(
            f"expected a moment in the past, found {format_time(rules.to_at)}",
            code="time-in-future",
            hint=f"It is {format_time(now)} now; give a time before that, with its offset.",
        )
    if facts.versioning == "":
        raise Refused(
            f"expected versions in {bucket}, found a bucket that never kept any",
            code="not-versioned",
            hint="Restore it from a recovery point; turn versioning on so that this works later.",
        )
    if in_place and facts.versioning == "Suspended":
        raise Refused(
            f"expected versioning to be on in {bucket}, found it suspended",
            code="versioning-suspended",
            hint="Turn it on first: what is written while it is suspended overwrites for good.",
        )
    expired = first_expired(facts.expiries, prefix, rules.to_at, now)
    if expired is not None and not rules.accept_gaps:
        raise _expired(expired, rules.to_at, now)


def _expired(expiry: Expiry, to_at: datetime, now: datetime) -> OutsideWindow:
    found, point = "a rule that removes them", ""
    if expiry.of_plan:
        found = "a replica whose plan (`retention.versions`) lets them go"
        point = " make a bucket of a point with `leeward restore inventory`,"
    return OutsideWindow(
        f"expected the versions of {format_time(to_at)}, found {found}"
        f" {expiry.days} days after they were replaced",
        code="versions-expired",
        hint=f"Choose a time after {format_time(now - timedelta(days=expiry.days))},{point}"
        " or act on what is left with --accept-gaps; the result then counts as not proven.",
    )


def first_expired(
    expiries: tuple[Expiry, ...], prefix: str, to_at: datetime, now: datetime
) -> Expiry | None:
    """The strictest rule that may have removed a version that was current at `to_at`.

    A version that was current then was replaced later, and a rule counts from there.
    """
    overlapping = [
        rule
        for rule in expiries
        if rule.prefix.startswith(prefix) or prefix.startswith(rule.prefix)
    ]
    strictest = min(overlapping, key=lambda rule: rule.days, default=None)
    if strictest is None or now - to_at <= timedelta(days=strictest.days):
        return None
    return strictest


def require_sense(plan: UndoPlan) -> None:
    """Refuse to empty a whole bucket because nothing is known to have been in it.

    Raises:
        OutsideWindow: code "nothing-then".
    """
    if plan.prefix or plan.state.keys or not plan.living or plan.oldest_at is None:
        return
    raise OutsideWindow(
        f"expected objects in {plan.bucket} at {format_time(plan.to_at)}, found none",
        code="nothing-then",
        hint=f"Its oldest version is of {format_time(plan.oldest_at)}; choose a later time.",
    )


def require_keys(keys: int, bucket: str, prefix: str) -> None:
    """Nothing is no part of a bucket: a prefix that is mistyped would be proven to be as it was.

    Raises:
        OutsideWindow: code "no-versions".
    """
    if keys:
        return
    below = f" below {prefix!r}" if prefix else ""
    raise OutsideWindow(
        f"expected objects of the moment{below} in {bucket}, found none",
        code="no-versions",
        hint="Is the prefix spelled as the keys are, and was the bucket in use by then?",
    )
