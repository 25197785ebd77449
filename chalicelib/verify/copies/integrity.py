"""Is every copy in a location still what was stored? Decided here, looked at in check_run.

All objects are looked at without reading: they exist, in their size, and the checksum that the
store keeps is that of the manifest. A share of them is read and hashed, in rotation. A check that
could not look at something says so and is not green; one that looked at nothing is not green.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from chalicelib.plan.records import Record
from chalicelib.ports import StoredFacts
from chalicelib.verify.copies.expected import Expected, expect_objects, key_by_digest, wal_of
from chalicelib.verify.copies.findings import Finding, Unreached, in_bytes
from chalicelib.verify.copies.ledger import Ledger
from chalicelib.verify.copies.rotation import CheckPolicy, choose_reads
from chalicelib.verify.copies.survey import Survey
from chalicelib.verify.copies.wal_gaps import find_gaps, missing_histories


@dataclass(frozen=True)
class CheckDecision:
    """`looks`: in the order in which to look, all that the location must hold. `reads`: those to
    read and hash. `wrong`: what is wrong with the content of single objects, `findings`: with the
    location. `key_of`: SHA-256 -> a key with that content. `needed_bytes`: what each run must read
    to keep the promise of `policy`."""

    survey: Survey
    policy: CheckPolicy
    ledger: Ledger
    looks: tuple[Expected, ...]
    reads: tuple[Expected, ...]
    wrong: Mapping[str, Finding]
    findings: tuple[Finding, ...]
    unreached: tuple[Unreached, ...]
    key_of: Mapping[str, str]
    needed_bytes: int

    @property
    def total_bytes(self) -> int:
        return sum(item.size_bytes for item in self.looks)


def decide_check(
    survey: Survey, ledger: Ledger, policy: CheckPolicy, *, now: datetime
) -> CheckDecision:
    """What to look at and what to read this time, and what is wrong before either.

    Pure. Objects that were written since they were read, that have the wrong size or were found
    wrong by the last check are read first, and indexes that nobody read yet; their turn costs
    nobody else's.
    """
    ledger = ledger.as_of(now)
    objects, by_listing = expect_objects(survey, ledger, now=now)
    here = {item.key for item in objects}
    doubted = {key: item for key, item in ledger.doubted.items() if key in here}
    wrong = doubted | {item.key: item for item in by_listing}
    unsure = (it.key for it in objects if it.state == "changed" or it.is_unread_index)
    suspects = {*wrong, *unsure}
    calm = [item for item in objects if item.key not in suspects]
    rotation = choose_reads(calm, policy, now=now)
    first = [item for item in objects if item.key in suspects]
    return CheckDecision(
        survey=survey,
        policy=policy,
        ledger=ledger,
        looks=_from(objects, ledger.next_key),
        reads=(*_within(first, policy.read_bytes), *rotation.reads),
        wrong=wrong,
        findings=(*survey.findings, *wal_findings(survey, policy, now=now)),
        unreached=survey.unreached,
        key_of=key_by_digest(survey.points, ledger),
        needed_bytes=rotation.needed_bytes,
    )


def wal_findings(survey: Survey, policy: CheckPolicy, *, now: datetime) -> tuple[Finding, ...]:
    wal = wal_of(survey)
    gaps = find_gaps(wal, survey.points, now=now, wal_within=policy.wal_within)
    return (
        *(gap.as_finding(wal.segment_bytes) for gap in gaps),
        *missing_histories(wal, survey.rows),
    )


def _from(objects: tuple[Expected, ...], key: str) -> tuple[Expected, ...]:
    """Begin where the last check stopped: what comes late in the order is reached too."""
    after = tuple(item for item in objects if item.key >= key)
    return (*after, *(item for item in objects if item.key < key))


def _within(objects: list[Expected], size_bytes: int | None) -> list[Expected]:
    """The longest beginning that is no larger, but at least one."""
    chosen: list[Expected] = []
    left = size_bytes
    for item in objects:
        if left is not None and chosen and item.size_bytes > left:
            break
        chosen.append(item)
        left = None if left is None else left - item.size_bytes
    return chosen


def judge_facts(
    item: Expected, facts: StoredFacts, key_of: Mapping[str, str]
) -> tuple[Expected, Finding | None]:
    """What the store itself says of an object, beside what it should be.

    Returns the expectation, which for WAL that nobody read yet is the SHA-256 that the store
    compared when the segment was written.
    """
    if facts.size_bytes != item.size_bytes:
        code = "truncated" if facts.size_bytes < item.size_bytes else "damaged"
        sizes = in_bytes(item.size_bytes), in_bytes(facts.size_bytes)
        return item, Finding(code, item.key, item.point_id, *sizes)
    # What the writer noted beside the object speaks for the writer, not for what lies there.
    stored = "" if "sha256" in facts.noted else facts.checksums.get("sha256", "")
    if not item.sha256:
        return replace(item, sha256=stored), _judge_noted_checksum(item, facts)
    if stored and stored != item.sha256:
        return item, judge_content(item, stored, facts.size_bytes, key_of, code="checksum")
    return item, _judge_noted_checksum(item, facts) or _judge_kept_checksum(item, facts)


def _judge_noted_checksum(item: Expected, facts: StoredFacts) -> Finding | None:
    """The store's own checksum is still what it was when the object was written."""
    for name, noted in facts.noted_as.items():
        if (found := facts.checksums.get(name, "none")) != noted:
            told = f"{name} {noted}", f"{name} {found}"
            return Finding("checksum", item.key, item.point_id, *told)
    return None


def _judge_kept_checksum(item: Expected, facts: StoredFacts) -> Finding | None:
    """The checksum of the very version that was read must not become another."""
    seen = item.seen
    if seen is None or not seen.checksum or seen.version != facts.version:
        return None
    name, _, value = seen.checksum.partition(":")
    found = facts.checksums.get(name, value)
    if found == value:
        return None
    return Finding("checksum", item.key, item.point_id, f"{name} {value}", f"{name} {found}")


def judge_content(
    item: Expected, sha256: str, size_bytes: int, key_of: Mapping[str, str], *, code: str = ""
) -> Finding | None:
    """Whose content it is. None when it is the object's own."""
    if sha256 == item.sha256 and size_bytes == item.size_bytes:
        return None
    owner = key_of.get(sha256, "")
    if owner and owner != item.key:
        found = f"the content of {owner}"
        return Finding("swapped", item.key, item.point_id, f"sha-256 {item.sha256}", found)
    if size_bytes != item.size_bytes:
        named = "truncated" if size_bytes < item.size_bytes else "damaged"
        sizes = f"{item.size_bytes} bytes", f"{size_bytes} bytes"
        return Finding(named, item.key, item.point_id, *sizes)
    named = code or ("overwritten" if item.state == "changed" else "damaged")
    digests = f"sha-256 {item.sha256}", f"sha-256 {sha256}"
    return Finding(named, item.key, item.point_id, *digests)


@dataclass(frozen=True)
class CheckResult(Record):
    """What one check of a location found; `ok` only when it looked at everything and all is well.

    `looked`, `read`: objects; `read_bytes` of them. `oldest_unread_at`: the last moment at which
    the bytes that waited longest were known to be right, None when there are none. `needed_bytes`
    as in CheckDecision. `location` and `component` are names; `quarantined` ids of points, which
    no restore uses and no check looks at. `part_read`: long objects that the next check goes on
    with, whose bytes are not counted before the last.
    """

    location: str
    component: str
    checked_at: datetime
    seconds: float
    points: int
    objects: int
    total_bytes: int
    looked: int
    read: int
    read_bytes: int
    needed_bytes: int
    budget_bytes: int | None
    oldest_unread_at: datetime | None
    findings: tuple[Finding, ...]
    unreached: tuple[Unreached, ...]
    quarantined: tuple[str, ...] = ()
    part_read: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.findings and not self.unreached and self.looked == self.objects > 0

    @property
    def oldest_unread_seconds(self) -> float | None:
        """The metric `OldestUnread.<location>`."""
        if self.oldest_unread_at is None:
            return None
        return (self.checked_at - self.oldest_unread_at).total_seconds()

    @property
    def budget_suffices(self) -> bool:
        return self.budget_bytes is None or self.needed_bytes <= self.budget_bytes

    def to_json(self) -> dict[str, object]:
        told = {"ok": self.ok, "budget_suffices": self.budget_suffices}
        return {**told, "oldest_unread_seconds": self.oldest_unread_seconds, **super().to_json()}
