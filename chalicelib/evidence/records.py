"""Records in an object store: `<stream>/records/<seq, 6 digits>.json`, one object a record.

    know the chain up to n -> key in it? -> return it
                           -> PUT n+1 if absent --won--> done
                                                --lost-> read on, start over

The conditional write is the only lock. A write that reached the store but whose answer was lost is
met again as a lost race and recognised by its key. Records never change, so what is known once is
remembered: a worker that stays alive appends with one request, and so does one that a mark told
where another stood. Whoever reads a chain checks all of it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from chalicelib.errors import Refused, Tampered, Unavailable
from chalicelib.evidence.chain import (
    Head,
    decode_record,
    encode_record,
    next_record,
    require_chain,
)
from chalicelib.plan.records import EvidenceRecord
from chalicelib.ports import Clock, ObjectStore

# Each lost race means that another appender won, so this many in a row is a store gone wrong.
_ROUNDS = 200

# Requests in flight when a worker that knows nothing yet reads a chain.
_READERS = 8

# Of a key's SHA-256 in a mark; the record itself has the whole key.
_KEY_DIGITS = 16


@dataclass
class _Known:
    """What is known of a chain. `keys`: of each record, in order, the digits that stand for its
    key; `records`: those that were read here, or written, by their number; `begun`: whether
    anything is, which may be that there are none."""

    begun: bool = False
    head: Head | None = None
    keys: list[str] = field(default_factory=list)
    records: dict[int, EvidenceRecord] = field(default_factory=dict)

    def add(self, record: EvidenceRecord) -> None:
        self.head = Head(record.seq, record.digest)
        self.keys.append(_digits_of(record.key))
        self.records[record.seq] = record


class StoredRecords:
    """The `Records` port over any object store with conditional writes."""

    def __init__(self, store: ObjectStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._streams: dict[str, _Known] = {}

    def append(
        self,
        stream: str,
        kind: str,
        body: dict[str, Any],
        *,
        actor: str,
        run_id: str = "",
        step: str = "",
        key: str = "",
    ) -> EvidenceRecord:
        known = self._known(stream)
        if not known.begun:
            self._catch_up(stream)
        for _ in range(_ROUNDS):
            record = next_record(
                stream,
                known.head,
                kind,
                body,
                at=self._clock.now(),
                actor=actor,
                run_id=run_id,
                step=step,
                key=key,
            )
            existing = self._with_key(stream, record.key)
            if existing is not None:
                return existing
            if self._put(stream, record):
                known.add(record)
                return record
            self._clock.sleep(random.uniform(0, 0.02))
            self._catch_up(stream)
        raise Unavailable(
            f"could not append to the records of {stream} in {_ROUNDS} attempts",
            hint="look whether something else writes to the evidence bucket",
        )

    def read(self, stream: str) -> list[EvidenceRecord]:
        known = self._catch_up(stream)
        numbers = range(1, len(known.keys) + 1)
        self._fetch(stream, [seq for seq in numbers if seq not in known.records])
        chain = [known.records[seq] for seq in numbers]
        require_chain(stream, chain)
        return chain

    def mark(self, stream: str) -> dict[str, Any]:
        known = self._known(stream)
        digest = known.head.digest if known.head else ""
        return {"seq": len(known.keys), "digest": digest, "keys": "".join(known.keys)}

    def resume(self, stream: str, mark: dict[str, Any]) -> None:
        known, seq, digits = self._known(stream), mark["seq"], mark["keys"]
        known.begun = True
        if seq > len(known.keys):
            cuts = range(0, len(digits), _KEY_DIGITS)
            known.keys = [digits[at : at + _KEY_DIGITS] for at in cuts]
            known.head = Head(seq, mark["digest"])

    def _known(self, stream: str) -> _Known:
        return self._streams.setdefault(stream, _Known())

    def _with_key(self, stream: str, key: str) -> EvidenceRecord | None:
        known, digits = self._known(stream), _digits_of(key)
        if digits not in known.keys:
            return None
        seq = known.keys.index(digits) + 1
        if seq not in known.records:
            self._fetch(stream, [seq])
        return known.records[seq]

    def _catch_up(self, stream: str) -> _Known:
        """What is known of the stream, made complete; what is new in it is checked."""
        known = self._known(stream)
        listed = [item.key for item in self._store.list(f"{stream}/records/")]
        expected = [record_key(stream, seq) for seq in range(1, len(listed) + 1)]
        length = len(known.keys)
        if listed != expected or len(listed) < length:
            raise _out_of_place(stream, listed, expected, length)
        fresh = self._read(stream, range(length + 1, len(listed) + 1))
        require_chain(stream, fresh, after=known.head)
        for record in fresh:
            known.add(record)
        known.begun = True
        return known

    def _fetch(self, stream: str, numbers: Iterable[int]) -> None:
        for record in self._read(stream, numbers):
            self._known(stream).records[record.seq] = record

    def _read(self, stream: str, numbers: Iterable[int]) -> list[EvidenceRecord]:
        with ThreadPoolExecutor(_READERS) as readers:
            return list(readers.map(lambda seq: self._read_one(record_key(stream, seq)), numbers))

    def _read_one(self, key: str) -> EvidenceRecord:
        return decode_record(self._store.get(key), where=key)

    def _put(self, stream: str, record: EvidenceRecord) -> bool:
        try:
            self._store.put(record_key(stream, record.seq), encode_record(record), if_absent=True)
        except Refused as error:
            if error.instance_code != "exists":
                raise
            return False
        return True


def _digits_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:_KEY_DIGITS]


def record_key(stream: str, seq: int) -> str:
    """Where record `seq` of a stream lies."""
    return f"{stream}/records/{seq:06}.json"


def _out_of_place(stream: str, listed: list[str], expected: list[str], known: int) -> Tampered:
    wrong = next((a for a, b in zip(listed, expected, strict=True) if a != b), None)
    found = f"found {wrong} out of its place" if wrong else f"found only {len(listed)} of {known}"
    return Tampered(
        f"expected the records of {stream} to be numbered without a gap, {found}",
        code="record-misplaced",
        hint="keep the evidence as it is and find out who could write to it",
    )
