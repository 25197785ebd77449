"""A decided check carried out: every object looked at, the chosen ones read, within its time.

A run that is killed is simply not recorded, but for the readings that were saved on the way; the
next one goes on with what was read longest ago.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from chalicelib.errors import LeewardError
from chalicelib.plan.manifest import MANIFEST, point_key
from chalicelib.ports import Clock, Listed, ObjectStore, ReadsOn, StoredFacts
from chalicelib.verify.copies.begun import Begun
from chalicelib.verify.copies.content import (
    LITTLE_BYTES,
    QUICK_BYTES,
    Content,
    read_at_once,
    read_content,
    read_long,
)
from chalicelib.verify.copies.expected import Expected, missed_indexes
from chalicelib.verify.copies.findings import DEADLINE, Finding, Unreached, judge_error
from chalicelib.verify.copies.flight import TimeLimit, in_flight
from chalicelib.verify.copies.integrity import (
    CheckDecision,
    CheckResult,
    judge_content,
    judge_facts,
    wal_findings,
)
from chalicelib.verify.copies.ledger import Ledger, Seen
from chalicelib.verify.copies.rotation import order_turns

LOOK_THREADS = 16
# S3 sends some 80 MB/s over one connection, so that these bring what two cores can hash; with 16 a
# check takes a tenth longer (measured).
BODY_THREADS = 6
# One object in ranges and two cores: more threads cost memory and win nothing.
READ_THREADS = 4
SAVE_EVERY = timedelta(seconds=60)
# Findings that only reading finds again: they stand until the object is read and found right.
BY_READING = frozenset({"damaged", "swapped", "overwritten", "truncated", "unreadable"})
# Checksums of the whole object that tell one write from another, the best first.
KEPT = ("sha256", "crc64nvme", "crc32c", "md5", "sealed-sha256", "sealed-crc64nvme",
        "sealed-crc32c", "sealed-md5")  # fmt: skip


@dataclass(frozen=True)
class CheckProgress:
    looked: int
    to_look: int
    read_bytes: int
    to_read_bytes: int


def apply_check(
    decision: CheckDecision,
    store: ObjectStore,
    *,
    location: str,
    component: str,
    clock: Clock,
    until: datetime | None = None,
    save: Callable[[Ledger], None] = lambda ledger: None,
    tell: Callable[[CheckProgress], None] = lambda progress: None,
) -> tuple[CheckResult, Ledger]:
    """Look and read; the returned ledger knows what was read, and was saved.

    A point that is pruned while it is checked is left out; the next check compares with the index.

    Args:
        until: nothing is waited for after it; what was not reached is named in the result.
        save: called about once a minute and at the end.
    """
    run = _Run(decision, store, clock, TimeLimit(clock, until), save, tell)
    run.look()
    run.read()
    run.settle()
    ledger = run.ledger()
    save(ledger)
    return run.result(location, component), ledger


@dataclass
class _Run:
    decision: CheckDecision
    store: ObjectStore
    clock: Clock
    limit: TimeLimit
    save: Callable[[Ledger], None]
    tell: Callable[[CheckProgress], None]
    facts: dict[str, StoredFacts] = field(default_factory=dict)
    objects: dict[str, Expected] = field(default_factory=dict)
    wrong: dict[str, Finding] = field(default_factory=dict)
    of_location: tuple[Finding, ...] = ()
    unreached: dict[str, Unreached] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    seen: dict[str, Seen] = field(default_factory=dict)
    begun: dict[str, Begun] = field(default_factory=dict)
    at_once: frozenset[str] = frozenset()
    contents: set[str] = field(default_factory=set)
    read_objects: int = 0
    read_bytes: int = 0
    to_read_bytes: int = 0

    def __post_init__(self) -> None:
        self.started_at = self.saved_at = self.clock.now()
        self.objects = {item.key: item for item in self.decision.looks}
        self.wrong = dict(self.decision.wrong)
        self.of_location = self.decision.findings
        self.at_once = read_at_once(
            self.store,
            self.decision.reads,
            long_bytes=self.decision.policy.long_bytes,
            seconds=self.limit.left_seconds(),
        )

    def look(self) -> None:
        """What is to be read and whose digest is known is read in place of being looked at."""
        self.to_read_bytes = sum(item.size_bytes for item in self.decision.reads)
        turns = order_turns(self.decision.looks, list(self._late()), slots=BODY_THREADS)
        for item, outcome in in_flight(
            turns,
            self._look_at,
            threads=LOOK_THREADS,
            limit=self.limit,
            is_heavy=self._is_body,
            heavy_threads=BODY_THREADS,
        ):
            if isinstance(outcome, StoredFacts):
                self._note_facts(item, outcome)
            elif isinstance(outcome, Content) and outcome.facts is not None:
                self._note_facts(item, outcome.facts)
                self._note_content(self.objects[item.key], outcome)
                self._save_now_and_then()
            else:
                self._note_failure(item, outcome)
            self._tell()

    def _late(self) -> Iterable[Expected]:
        """Those read at once that take their time."""
        reads = self.decision.reads
        return (it for it in reads if it.key in self.at_once and it.size_bytes > QUICK_BYTES)

    def _look_at(self, item: Expected) -> StoredFacts | Content | None:
        """What cannot be read is looked at, and read in its turn, which tells why."""
        if item.key in self.at_once:
            with suppress(LeewardError):
                return read_content(self.store, item, self.limit)
        return self.store.facts(item.key)

    def _is_body(self, item: Expected) -> bool:
        return item.key in self.at_once and item.size_bytes > LITTLE_BYTES

    def _note_facts(self, item: Expected, facts: StoredFacts) -> None:
        self.facts[item.key] = facts
        self.objects[item.key], found = judge_facts(item, facts, self.decision.key_of)
        if found is not None:
            self.wrong[item.key] = found

    def _note_failure(self, item: Expected, error: object) -> None:
        if not isinstance(error, LeewardError):
            self.unreached[item.key] = Unreached(item.key, DEADLINE, "its turn did not come")
            return
        found = judge_error(item.key, item.point_id, error)
        if isinstance(found, Unreached):
            self.unreached[item.key] = found
        elif found.code == "missing" and item.is_wal:
            self.gone.add(item.key)
        else:
            self.wrong[item.key] = found

    def read(self) -> None:
        reads = list(self._reads())
        self.to_read_bytes = self.read_bytes + sum(item.size_bytes for item in reads)
        for item, outcome in in_flight(
            reads,
            self._read_one,
            threads=READ_THREADS,
            limit=self.limit,
        ):
            if isinstance(outcome, Content):
                self._note_content(item, outcome)
            elif isinstance(outcome, Begun):
                self.begun[item.key] = outcome
            else:
                self._note_failure(item, outcome)
            self._save_now_and_then()
            self._tell()

    def _read_one(self, item: Expected) -> Content | Begun | None:
        """A long one from where the last check put it down, when it is still that object."""
        store, version = self.store, self.facts[item.key].version
        if item.size_bytes < self.decision.policy.long_bytes or not isinstance(store, ReadsOn):
            return read_content(store, item, self.limit)
        begun = self.decision.ledger.begun.get(item.key)
        if begun is None or begun.version != version or not begun.readable:
            begun = Begun(version, 0, "", self.started_at)
        return read_long(store, item, self.limit, begun)

    def _reads(self) -> Iterable[Expected]:
        """First what the store's own checksum contradicts, to tell what it is."""
        chosen = dict.fromkeys(item.key for item in self.decision.reads)
        doubted = [key for key in self.wrong if key in self.facts and key not in chosen]
        left = (key for key in (*doubted, *chosen) if key not in self.contents)
        return (self.objects[key] for key in left if key in self.facts)

    def _note_content(self, item: Expected, content: Content) -> None:
        self.contents.add(item.key)
        self.read_objects += 1
        self.read_bytes += content.size_bytes
        item = item if item.sha256 else replace(item, sha256=content.sha256)
        found = judge_content(item, content.sha256, content.size_bytes, self.decision.key_of)
        before = self.wrong.get(item.key)
        if found is not None:
            self.wrong[item.key] = found
            return
        if before is not None and before.code == "checksum":
            return
        self.wrong.pop(item.key, None)
        self.seen[item.key] = self._as_seen(item)

    def _as_seen(self, item: Expected) -> Seen:
        facts, row = self.facts[item.key], self.decision.survey.rows[item.key]
        kept = next((name for name in KEPT if name in facts.checksums), "")
        return Seen(
            size_bytes=item.size_bytes,
            modified_at=row.modified_at,
            read_at=self._read_since(item.key),
            sha256=item.sha256,
            version=facts.version,
            checksum=f"{kept}:{facts.checksums[kept]}" if kept else "",
        )

    def _read_since(self, key: str) -> datetime:
        """Of an object that several checks read: since the first of them."""
        begun = self.decision.ledger.begun.get(key)
        return (
            begun.begun_at
            if begun and begun.version == self.facts[key].version
            else self.started_at
        )

    def settle(self) -> None:
        """Tell what vanished because it was pruned or superseded from what is lost."""
        missing = {item.point_id for item in self.wrong.values() if item.code == "missing"}
        pruned = {point_id for point_id in missing if point_id and self._is_pruned(point_id)}
        for key, found in list(self.wrong.items()):
            if found.point_id in pruned:
                del self.wrong[key]
        self.gone |= {item.key for item in self.objects.values() if item.point_id in pruned}
        if any(self.objects[key].is_wal for key in self.gone):
            self._look_for_gaps()

    def _is_pruned(self, point_id: str) -> bool:
        try:
            self.store.facts(point_key(point_id, MANIFEST))
        except LeewardError as error:
            return error.instance_code == "object-missing"
        return False

    def _look_for_gaps(self) -> None:
        rows: dict[str, Listed] = {row.key: row for row in self.store.list("wal/")}
        survey = replace(self.decision.survey, rows=rows)
        gaps = wal_findings(survey, self.decision.policy, now=self.started_at)
        self.of_location = tuple(dict.fromkeys((*self.of_location, *gaps)))

    def ledger(self) -> Ledger:
        """What is no longer in the location is forgotten, but for indexes that no prune removes."""
        known = {**self.decision.ledger.seen, **self.seen}
        rows = self.decision.survey.rows
        missed = missed_indexes(self.decision.survey, known)
        late = {item.key for item in self._late()}
        never_looked = sorted(
            key
            for key, item in self.unreached.items()
            if item.code == DEADLINE and key not in self.facts and key not in late
        )
        return Ledger(
            {key: item for key, item in known.items() if key in rows or key in missed},
            {
                key: item
                for key, item in self.wrong.items()
                if key in rows and item.code in BY_READING
            },
            next_key=self._first_of(never_looked),
            begun=self._begun_now(),
        )

    def _begun_now(self) -> dict[str, Begun]:
        """Those of this check, and those of earlier ones whose turn did not come."""
        known = {**self.decision.ledger.begun, **self.begun}
        ended = {*self.seen, *self.wrong}
        return {key: it for key, it in known.items() if key in self.objects and key not in ended}

    def _first_of(self, keys: list[str]) -> str:
        """Where the order of this run stopped."""
        begun_at = self.decision.looks[0].key if self.decision.looks else ""
        return next((key for key in keys if key >= begun_at), keys[0] if keys else "")

    def _save_now_and_then(self) -> None:
        if self.clock.now() - self.saved_at >= SAVE_EVERY:
            self.saved_at = self.clock.now()
            self.save(self.ledger())

    def _tell(self) -> None:
        looked = len(self.facts) + len(self.gone)
        self.tell(CheckProgress(looked, len(self.objects), self.read_bytes, self.to_read_bytes))

    def result(self, location: str, component: str) -> CheckResult:
        survey = self.decision.survey
        objects = [item for item in self.objects.values() if item.key not in self.gone]
        oldest_at = self._oldest(objects)
        return CheckResult(
            location=location,
            component=component,
            checked_at=self.started_at,
            seconds=round((self.clock.now() - self.started_at).total_seconds(), 3),
            points=len(survey.points),
            objects=len(objects),
            total_bytes=sum(item.size_bytes for item in objects),
            looked=sum(item.key in self.facts for item in objects),
            read=self.read_objects,
            read_bytes=self.read_bytes,
            needed_bytes=self.decision.needed_bytes,
            budget_bytes=self.decision.policy.read_bytes,
            oldest_unread_at=oldest_at[0] if oldest_at else None,
            findings=(
                *self.of_location,
                *self.wrong.values(),
                *self._of_age(oldest_at, bool(survey.points)),
            ),
            unreached=(*self.decision.unreached, *self.unreached.values(), *self._unsure()),
            quarantined=tuple(sorted(survey.quarantined)),
            part_read=tuple(sorted(self.begun)),
        )

    def _oldest(self, objects: list[Expected]) -> tuple[datetime, str] | None:
        known_at = ((self._known_at(item), item.key) for item in objects)
        return min(known_at, default=None)

    def _unsure(self) -> Iterable[Unreached]:
        """Written since they were read, without a checksum that tells what was written."""
        for item in self.objects.values():
            told = self.facts.get(item.key)
            sure = told is not None and told.checksums.get("sha256") == item.sha256
            read = item.key in self.seen or item.key in self.wrong or item.key in self.unreached
            if item.state == "changed" and not sure and not read and item.key not in self.gone:
                yield Unreached(item.key, "changed", "written since it was read; not read again")

    def _known_at(self, item: Expected) -> datetime:
        return self.seen[item.key].read_at if item.key in self.seen else item.since

    def _of_age(self, oldest: tuple[datetime, str] | None, has_points: bool) -> Iterable[Finding]:
        if not has_points:
            yield Finding("nothing-to-check", "", "", "at least one recovery point", "none")
        promised = self.decision.policy.read_within
        if oldest is not None and self.started_at - oldest[0] > promised:
            age = f"unread for {self.started_at - oldest[0]}"
            yield Finding("unread-too-long", oldest[1], "", f"read within {promised}", age)
