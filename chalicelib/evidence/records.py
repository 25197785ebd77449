"""Records in an object store: `<stream>/records/<seq, 6 digits>.json`, one object a record.

    know the chain up to n -> key in it? -> return it
                           -> PUT n+1 if absent --won--> done
                                                --lost-> read on, start over

The conditional write is the only lock. A write that reached the store but whose answer was lost is
met again as a lost race and recognised by its key. Records never change, so what was read once is
remembered: a worker that stays alive appends with one request.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from chalicelib.errors import Refused, Tampered, Unavailable
from chalicelib.evidence.chain import (
    decode_record,
    encode_record,
    next_record,
    require_chain,
    with_key,
)
from chalicelib.plan.records import EvidenceRecord
from chalicelib.ports import Clock, ObjectStore

# Each lost race means that another appender won, so this many in a row is a store gone wrong.
_ROUNDS = 200

# Requests in flight when a worker that knows nothing yet reads a chain.
_READERS = 8


class StoredRecords:
    """The `Records` port over any object store with conditional writes."""

    def __init__(self, store: ObjectStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, list[EvidenceRecord]] = {}

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
        chain = self._known.get(stream) or self._catch_up(stream)
        for _ in range(_ROUNDS):
            record = next_record(
                stream,
                chain[-1] if chain else None,
                kind,
                body,
                at=self._clock.now(),
                actor=actor,
                run_id=run_id,
                step=step,
                key=key,
            )
            existing = with_key(chain, record.key)
            if existing is not None:
                return existing
            if self._put(stream, record):
                chain.append(record)
                return record
            self._clock.sleep(random.uniform(0, 0.02))
            chain = self._catch_up(stream)
        raise Unavailable(
            f"could not append to the records of {stream} in {_ROUNDS} attempts",
            hint="look whether something else writes to the evidence bucket",
        )

    def read(self, stream: str) -> list[EvidenceRecord]:
        return list(self._catch_up(stream))

    def _catch_up(self, stream: str) -> list[EvidenceRecord]:
        """The remembered chain of the stream, made complete and checked."""
        known = self._known.get(stream, [])
        listed = [item.key for item in self._store.list(f"{stream}/records/")]
        expected = [record_key(stream, seq) for seq in range(1, len(listed) + 1)]
        if listed != expected or len(listed) < len(known):
            raise _out_of_place(stream, listed, expected, len(known))
        with ThreadPoolExecutor(_READERS) as readers:
            fresh = list(readers.map(self._read_one, listed[len(known) :]))
        require_chain(stream, known + fresh)
        self._known[stream] = known + fresh
        return self._known[stream]

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
