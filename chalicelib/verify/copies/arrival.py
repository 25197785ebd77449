"""Look at what has just arrived in a location, told by S3's event, without waiting for a check.

Events come late, twice and out of order, so that only the store says what is there now: an object
whose manifest is not there yet is part of a backup on its way, and what is gone again was
superseded. What is written below a point that is complete already, and is not what its manifest
says, is named at once.

Source: "Object Created" events of EventBridge; the key stands in them as it is, unlike in S3's own
notifications, where it is URL-encoded (Amazon S3 User Guide, "EventBridge event structure").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from chalicelib.errors import LeewardError
from chalicelib.plan.manifest import (
    MANIFEST,
    NOTES,
    digest_of_manifest,
    parse_manifest,
    point_key,
    point_of_key,
    require_small,
    tampered,
)
from chalicelib.plan.records import Record, RecoveryPoint
from chalicelib.plan.wal import BESIDE, is_index_key, parse_history_key, parse_wal_key
from chalicelib.ports import Clock, ObjectStore, StoredFacts
from chalicelib.verify.copies.content import read_content
from chalicelib.verify.copies.expected import Expected
from chalicelib.verify.copies.findings import (
    DEADLINE,
    Finding,
    Unreached,
    in_bytes,
    judge_error,
)
from chalicelib.verify.copies.flight import TimeLimit, in_flight
from chalicelib.verify.copies.integrity import judge_content, judge_facts
from chalicelib.verify.copies.ledger import Ledger
from chalicelib.verify.copies.survey import OWN, judge_manifest

LOOK_THREADS = 16
# One object of this size is read in well under a minute.
READ_AT_MOST = 1 << 30

Kind = Literal["manifest", "object", "wal", "index", "note", "other", "gone"]


@dataclass(frozen=True)
class Arrival(Record):
    """`kind`: what the object is; "gone": no longer there; "other": not of the copies that are
    checked. `looked`: objects; `read_bytes`: of what had to be read to be sure. `taken_at`: of the
    point whose manifest it is."""

    key: str
    kind: Kind
    looked: int
    read_bytes: int
    findings: tuple[Finding, ...]
    unreached: tuple[Unreached, ...]
    taken_at: datetime | None = None

    @property
    def ok(self) -> bool:
        return not self.findings and not self.unreached


def check_arrival(
    event: Mapping[str, Any],
    store: ObjectStore,
    *,
    prefix: str,
    index: Mapping[str, str],
    ledger: Ledger,
    clock: Clock,
    until: datetime | None = None,
) -> Arrival:
    """Look at the object of an "Object Created" event; at the whole point if it is a manifest.

    Nothing is read when the store keeps a SHA-256 that settles it.

    Args:
        event: as EventBridge delivers it.
        prefix: the component's in the bucket, "" or with a slash at its end.
        index: point id -> digest of its manifest.
    Raises:
        Unavailable: the manifest could not be read; the event is delivered again.
    """
    name = str(event["detail"]["object"]["key"])
    look = _Look(store, index, ledger, TimeLimit(clock, until), clock.now())
    if not name.startswith(prefix):
        return look.arrival(name, "other")
    return look.at(name.removeprefix(prefix))


@dataclass
class _Look:
    store: ObjectStore
    index: Mapping[str, str]
    ledger: Ledger
    limit: TimeLimit
    now: datetime
    looked: int = 0
    read_bytes: int = 0
    findings: tuple[Finding, ...] = ()
    unreached: tuple[Unreached, ...] = ()

    def arrival(self, key: str, kind: Kind) -> Arrival:
        return Arrival(key, kind, self.looked, self.read_bytes, self.findings, self.unreached)

    def at(self, key: str) -> Arrival:
        point_id = point_of_key(key)
        if key.startswith("wal/"):
            named = parse_wal_key(key, self.now) is not None or parse_history_key(key) is not None
            return self._at_seen(key, "wal", named)
        if key.startswith(BESIDE):
            return self._at_seen(key, "index", is_index_key(key))
        if not point_id:
            return self.arrival(key, "other") if key.startswith(OWN) else self._at_stray(key)
        if key == point_key(point_id, MANIFEST):
            return self._at_manifest(key, point_id)
        if key in {point_key(point_id, name) for name in NOTES}:
            return self.arrival(key, "note")
        return self._at_object(key, point_id)

    def _at_stray(self, key: str) -> Arrival:
        facts = self._facts(key)
        if facts is None:
            return self.arrival(key, "gone")
        self.findings += (Finding("extra", key, "", "nothing", in_bytes(facts.size_bytes)),)
        return self.arrival(key, "object")

    def _at_manifest(self, key: str, point_id: str) -> Arrival:
        point = self._point(point_id)
        if point is None:
            return self.arrival(key, "gone" if not self.findings else "manifest")
        wanted = [
            Expected(item.key, point_id, item.size_bytes, item.sha256, self.now, "new")
            for item in point.objects
        ]
        for item, outcome in in_flight(
            wanted, lambda item: self.store.facts(item.key), threads=LOOK_THREADS, limit=self.limit
        ):
            self.looked += isinstance(outcome, StoredFacts)
            self._judge(item, outcome, point)
        return replace(self.arrival(key, "manifest"), taken_at=point.taken_at)

    def _at_object(self, key: str, point_id: str) -> Arrival:
        facts = self._facts(key)
        if facts is None:
            return self.arrival(key, "gone")
        point = self._point(point_id)
        if point is None:
            return self.arrival(key, "object")
        wanted = next((item for item in point.objects if item.key == key), None)
        if wanted is None:
            found = f"{facts.size_bytes} bytes"
            self.findings += (Finding("extra", key, point_id, "nothing more here", found),)
            return self.arrival(key, "object")
        complete = self._facts(point_key(point_id, MANIFEST))
        late = complete is not None and facts.modified_at > complete.modified_at
        item = Expected(
            key, point_id, wanted.size_bytes, wanted.sha256, self.now, "changed" if late else "new"
        )
        self._judge(item, facts, point)
        if late and not self.findings and facts.checksums.get("sha256") != wanted.sha256:
            self._read(item, point)
        return self.arrival(key, "object")

    def _at_seen(self, key: str, kind: Kind, named: bool) -> Arrival:
        """What no manifest names is held against what it was when it was read."""
        if not named:
            self.findings += (Finding("extra", key, "", f"a name of this {kind}", "another"),)
            return self.arrival(key, kind)
        facts = self._facts(key)
        if facts is None:
            return self.arrival(key, "gone")
        seen = self.ledger.seen.get(key)
        if seen is not None:
            item = Expected(key, "", seen.size_bytes, seen.sha256, self.now, "changed", seen)
            self._judge(item, facts, None)
            if not self.findings and facts.checksums.get("sha256") != seen.sha256:
                self._read(item, None)
        return self.arrival(key, kind)

    def _point(self, point_id: str) -> RecoveryPoint | None:
        """None when there is no manifest, or one that is a finding."""
        key = point_key(point_id, MANIFEST)
        try:
            require_small(point_id, self.store.facts(key).size_bytes)
            point = parse_manifest(point_id, self.store.get(key))
            if self.index.get(point_id, digest_of_manifest(point)) != digest_of_manifest(point):
                raise tampered(point_id, "the digest that the index recorded")
        except LeewardError as error:
            found = judge_manifest(point_id, error)
            if isinstance(found, Unreached):
                raise
            self.findings += (found,) if found is not None else ()
            return None
        return point

    def _facts(self, key: str) -> StoredFacts | None:
        try:
            facts = self.store.facts(key)
        except LeewardError as error:
            if error.instance_code != "object-missing":
                raise
            return None
        self.looked += 1
        return facts

    def _judge(
        self,
        item: Expected,
        outcome: StoredFacts | LeewardError | None,
        point: RecoveryPoint | None,
    ) -> None:
        if outcome is None:
            self.unreached += (Unreached(item.key, DEADLINE, "its turn did not come"),)
        elif isinstance(outcome, LeewardError):
            self._fail(item, outcome)
        else:
            self._find(item, judge_facts(item, outcome, _key_of(point))[1])

    def _fail(self, item: Expected, error: LeewardError) -> None:
        found = judge_error(item.key, item.point_id, error)
        if isinstance(found, Unreached):
            self.unreached += (found,)
        else:
            self.findings += (found,)

    def _read(self, item: Expected, point: RecoveryPoint | None) -> None:
        """Written by somebody after it was complete, and only its bytes can tell what."""
        if item.size_bytes > READ_AT_MOST:
            found = "written again, and too large to be read now; the next check reads it"
            self.unreached += (Unreached(item.key, "changed", found),)
            return
        try:
            content = read_content(self.store, item, self.limit)
        except LeewardError as error:
            self._fail(item, error)
            return
        if content is None:
            self.unreached += (Unreached(item.key, DEADLINE, "it could not be read in time"),)
            return
        self.read_bytes += content.size_bytes
        self._find(item, judge_content(item, content.sha256, content.size_bytes, _key_of(point)))

    def _find(self, item: Expected, found: Finding | None) -> None:
        """What was written over something that was whole is named as that."""
        if found is not None and item.state == "changed" and found.code != "swapped":
            found = replace(found, code="overwritten")
        self.findings += (found,) if found is not None else ()


def _key_of(point: RecoveryPoint | None) -> dict[str, str]:
    return {item.sha256: item.key for item in point.objects} if point is not None else {}
