"""Records in an object store: `<stream>/records/<seq, 6 digits>.json`, one object a record.

    know the chain up to n -> key in it? -> return it
                           -> PUT n+1 if absent --won--> done
                                                --lost-> read on, start over

The conditional write is the only lock. A write that reached the store but whose answer was lost is
met again as a lost race and recognised by its key. Records never change, so what is known once is
remembered: a worker that stays alive appends with one request, and so does one that a mark told
where another stood. Whoever reads a chain checks all of it.

Whoever may write can put something into the next place that is no record: an incident is not
silenced by that. The next append names it, with its digest, and goes on behind it; nothing is
concluded from a chain with anything else wrong in it.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from chalicelib.errors import Refused, Tampered, Unavailable
from chalicelib.evidence.chain import (
    Head,
    decode_record,
    encode_record,
    genesis,
    next_record,
    require_chain,
    steps_over,
)
from chalicelib.evidence.entries import foreign_object
from chalicelib.plan.records import EvidenceRecord
from chalicelib.ports import Clock, ObjectStore

# Each lost race means that another appender won, so this many in a row is a store gone wrong.
_ROUNDS = 200

# Requests in flight when a worker that knows nothing yet reads a chain.
_READERS = 8

# Of a key's SHA-256 in a mark; the record itself has the whole key.
_KEY_DIGITS = 16
# What stands in a mark for a place that was stepped over: no digits.
_NO_RECORD = "-" * _KEY_DIGITS

# No record that Leeward writes comes near; more is an attack on the memory of who reads.
_LARGEST_BYTES = 16 << 20
_NAME = re.compile(r"(\d{6}|[1-9]\d{6,})\.json")


@dataclass(frozen=True)
class _Foreign:
    """What lies in a record's place and is none. `sha256` is "" of what is too large to read."""

    place: int
    sha256: str
    error: Tampered


@dataclass
class _Known:
    """What is known of a chain.

    keys: of each place, in order, the digits that stand for its record's key. records: those that
    were read here, or written, by their number. begun: whether anything is known, which may be that
    there are none. foreign: what lies behind the last record and is none; passed: the same before
    it. left: names of what lies where nothing should yet.
    """

    begun: bool = False
    head: Head | None = None
    keys: list[str] = field(default_factory=list)
    records: dict[int, EvidenceRecord] = field(default_factory=dict)
    foreign: list[_Foreign] = field(default_factory=list)
    passed: list[_Foreign] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def add(self, record: EvidenceRecord) -> None:
        self.head = Head(record.seq, record.digest)
        self.keys += [_NO_RECORD] * len(self.foreign)
        self.keys.append(_digits_of(record.key))
        self.records[record.seq] = record
        self.passed += self.foreign
        self.foreign = []

    def end(self, stream: str) -> Head | None:
        """What the next record follows, and whose place comes before its."""
        if not self.foreign:
            return self.head
        digest = self.head.digest if self.head else genesis(stream)
        return Head(self.foreign[-1].place, digest)


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
                known.end(stream),
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
            passing = bool(known.foreign)
            if passing:
                record = self._step_over(stream, known)
            if self._put(stream, record):
                known.add(record)
                if not passing:
                    return record
                continue
            self._clock.sleep(random.uniform(0, 0.02))
            self._catch_up(stream)
        raise Unavailable(
            f"could not append to the records of {stream} in {_ROUNDS} attempts",
            hint="look whether something else writes to the evidence bucket",
        )

    def _step_over(self, stream: str, known: _Known) -> EvidenceRecord:
        """The record that comes before the next one, where something is no record."""
        objects = [(it.place, it.sha256, it.error.message) for it in known.foreign]
        entry = foreign_object(objects)
        return next_record(stream, known.end(stream), *entry, at=self._clock.now(), actor="leeward")

    def read(self, stream: str) -> list[EvidenceRecord]:
        known = self._catch_up(stream)
        if known.left:
            raise _out_of_place(stream, f"found {known.left[0]} out of its place")
        numbers = [seq for seq, it in enumerate(known.keys, start=1) if it != _NO_RECORD]
        self._fetch(stream, [seq for seq in numbers if seq not in known.records])
        chain = [known.records[seq] for seq in numbers]
        named = {place for record in chain for place in steps_over(record)}
        for it in (*known.passed, *known.foreign):
            if it.place not in named:
                # It may be a record that was altered, of which nobody said that it is none.
                raise it.error
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
        """What is known of the stream, made complete; whoever reads it checks it.

        Raises Tampered (code "record-misplaced") where something that was there is not any more.
        """
        known, places = self._known(stream), self._list(stream)
        length = len(known.keys)
        if gone := next((seq for seq in range(1, length + 1) if seq not in places), 0):
            raise _out_of_place(stream, f"found only {gone - 1} of {length}")
        end = next(seq for seq in itertools.count(length + 1) if seq not in places)
        known.foreign, known.left = [], [it for seq, (it, _) in places.items() if seq > end]
        for found in self._read(range(length + 1, end), places):
            if isinstance(found, EvidenceRecord):
                known.add(found)
            else:
                known.foreign.append(found)
        known.begun = True
        return known

    def _list(self, stream: str) -> dict[int, tuple[str, int]]:
        """Key and size of what lies in each place. What has another name is in nobody's way."""
        prefix = f"{stream}/records/"
        listed = ((it, _NAME.fullmatch(it.key[len(prefix) :])) for it in self._store.list(prefix))
        return {int(name[1]): (it.key, it.size_bytes) for it, name in listed if name}

    def _fetch(self, stream: str, numbers: Sequence[int]) -> None:
        """Raises Tampered where one is not what it was."""
        places = {seq: (record_key(stream, seq), 0) for seq in numbers}
        for found in self._read(numbers, places):
            if isinstance(found, _Foreign):
                raise found.error
            self._known(stream).records[found.seq] = found

    def _read(
        self, numbers: Iterable[int], places: Mapping[int, tuple[str, int]]
    ) -> list[EvidenceRecord | _Foreign]:
        with ThreadPoolExecutor(_READERS) as readers:
            return list(readers.map(lambda seq: self._read_one(seq, *places[seq]), numbers))

    def _read_one(self, place: int, key: str, size_bytes: int) -> EvidenceRecord | _Foreign:
        if size_bytes > _LARGEST_BYTES:
            return _Foreign(
                place, "", _tampered("not-a-record", f"{key} is larger than any record")
            )
        data = self._store.get(key)
        try:
            record = decode_record(data, where=key)
        except Tampered as error:
            return _Foreign(place, hashlib.sha256(data).hexdigest(), error)
        if record.seq == place:
            return record
        elsewhere = _tampered("record-misplaced", f"{key} holds record {record.seq}")
        return _Foreign(place, hashlib.sha256(data).hexdigest(), elsewhere)

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


def _out_of_place(stream: str, found: str) -> Tampered:
    return _tampered(
        "record-misplaced",
        f"expected the records of {stream} to be numbered without a gap, {found}",
    )


def _tampered(code: str, message: str) -> Tampered:
    return Tampered(
        message,
        code=code,
        hint="keep the evidence as it is and find out who could write to it",
    )
