"""The hash chain of an incident's records: what the next link is, and whether a chain is whole.

    genesis(stream) <- 1 <- 2 <- 3 ...     each record holds the digest of the one before

A record is stored as its canonical JSON and a line feed, so that every byte of the file counts.
What lies in a record's place and is none is stepped over: the next record is of the kind
FOREIGN_OBJECT, names what was passed by, and follows the last one that is a record.
A chain alone shows that nothing was changed, removed or put in between its first and its last
record; that records are missing at its end is shown by the bundle, which names length and head.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.errors import Tampered
from chalicelib.evidence.redact import redact
from chalicelib.evidence.shape import has_shape
from chalicelib.plan.records import EvidenceRecord, Record, canonical_json, digest_of

FOREIGN_OBJECT = "foreign-object"
_TEXTS = ("at", "previous", "kind", "actor", "run_id", "step", "key", "digest")
_FOREIGN_SHAPE = {"objects": [{"place": int, "sha256": str, "why": str}]}
_SHAPE = {"seq": int, "body": dict} | dict.fromkeys(_TEXTS, str)


@dataclass(frozen=True)
class Finding(Record):
    """One thing that is wrong with evidence: a stable code, the file or record, what was found."""

    code: str
    where: str
    message: str


@dataclass(frozen=True)
class Head:
    """The last record of a chain, as far as the next one needs it."""

    seq: int
    digest: str


def genesis(stream: str) -> str:
    """What record 1 holds as `previous`: the SHA-256 of the stream's name, in hex.

    A chain of one incident cannot be passed off as another's.
    """
    return hashlib.sha256(stream.encode()).hexdigest()


def next_record(
    stream: str,
    previous: EvidenceRecord | Head | None,
    kind: str,
    body: dict[str, Any],
    *,
    at: datetime,
    actor: str,
    run_id: str = "",
    step: str = "",
    key: str = "",
) -> EvidenceRecord:
    """The record that follows `previous` (None: the first one). Pure.

    Raises:
        BadInput: the body is not JSON.
    """
    said = redact({"kind": kind, "actor": actor, "run_id": run_id, "step": step, "body": body})
    fields = said | {
        "seq": previous.seq + 1 if previous else 1,
        "previous": previous.digest if previous else genesis(stream),
        "key": redact(key) or digest_of(said),
    }
    record = EvidenceRecord(at=at, digest="", **fields)
    return dataclasses.replace(record, digest=record_digest(record))


def record_digest(record: EvidenceRecord) -> str:
    """SHA-256 of the canonical JSON of every field but `digest`, in hex."""
    return digest_of({k: v for k, v in record.to_json().items() if k != "digest"})


def encode_record(record: EvidenceRecord) -> bytes:
    """The record as it is stored."""
    return canonical_json(record.to_json()) + b"\n"


def decode_record(data: bytes, *, where: str) -> EvidenceRecord:
    """The record that these stored bytes are; the exact inverse of `encode_record`.

    Raises:
        Tampered: the bytes are not exactly a record (code "not-a-record"), or its digest is not
            that of its content (code "record-altered").
    """
    record = _parse(data)
    if record is None or not _is_encoded_as(record, data):
        raise _tampered("not-a-record", where, "is not a record as Leeward writes one")
    if record.digest != record_digest(record):
        raise _tampered("record-altered", where, "does not match its own digest")
    return record


def verify_chain(
    stream: str, records: Sequence[EvidenceRecord], *, after: Head | None = None
) -> list[Finding]:
    """What is wrong with the chain; nothing when it is whole from record 1, or from the one that
    follows `after`, to its last."""
    findings: list[Finding] = []
    keys: set[str] = set()
    last = after or Head(0, genesis(stream))
    head = last.digest
    seq = last.seq
    for record in records:
        where, seq = f"record {record.seq}", seq + 1
        passed = steps_over(record)
        if passed == tuple(range(seq, seq + len(passed))):
            seq += len(passed)
        if record.digest != record_digest(record):
            findings.append(Finding("record-altered", where, "does not match its own digest"))
        if record.seq != seq:
            findings.append(Finding("record-misplaced", where, f"stands at place {seq}"))
        if record.previous != head:
            findings.append(Finding("chain-broken", where, _not_linked(seq)))
        if record.key in keys:
            findings.append(Finding("record-doubled", where, "was recorded before it"))
        keys.add(record.key)
        head = record.digest
    return findings


def steps_over(record: EvidenceRecord) -> tuple[int, ...]:
    """The places before this record, in order, in which it says that no record lies."""
    if record.kind != FOREIGN_OBJECT or not has_shape(record.body, _FOREIGN_SHAPE):
        return ()
    return tuple(int(it["place"]) for it in record.body["objects"])


def require_chain(
    stream: str, records: Sequence[EvidenceRecord], *, after: Head | None = None
) -> None:
    """Raises Tampered, naming the first finding, unless the chain is whole (as `verify_chain`)."""
    findings = verify_chain(stream, records, after=after)
    if findings:
        first = findings[0]
        raise _tampered(first.code, f"{stream} {first.where}", first.message)


def _parse(data: bytes) -> EvidenceRecord | None:
    try:
        fields = json.loads(data)
        return EvidenceRecord.from_json(fields) if has_shape(fields, _SHAPE) else None
    except (ValueError, RecursionError):
        return None


def _is_encoded_as(record: EvidenceRecord, data: bytes) -> bool:
    try:
        return encode_record(record) == data
    except UnicodeEncodeError:
        return False


def _not_linked(seq: int) -> str:
    return (
        f"does not follow record {seq - 1}" if seq > 1 else "does not begin this incident's chain"
    )


def _tampered(code: str, where: str, found: str) -> Tampered:
    return Tampered(
        f"{where} {found}",
        code=code,
        hint="keep the evidence as it is and find out who could write to it",
    )
