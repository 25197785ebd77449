"""The records in which the parts of Leeward meet: what one part found, as the next one reads it.

All are frozen, hold JSON-ready values and aware UTC times, and survive `to_json`/`from_json`
unchanged. LSNs are integers here (bytes of WAL); `format_lsn` writes them as PostgreSQL does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from chalicelib.plan.record import Record as Record
from chalicelib.plan.record import StoredObject as StoredObject
from chalicelib.plan.record import canonical_json as canonical_json
from chalicelib.plan.record import digest_of as digest_of
from chalicelib.plan.record import format_lsn as format_lsn
from chalicelib.plan.record import format_time as format_time
from chalicelib.plan.record import parse_lsn as parse_lsn
from chalicelib.plan.record import parse_time as parse_time

DatabasePointKind = Literal["full", "incremental"]
# objects: the state of a bucket; archive: a folder; dump: a key-value store; bundle: a repository.
PointKind = Literal["full", "incremental", "objects", "archive", "dump", "bundle"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveryPoint(Record):
    """What a component can be restored from: its manifest was written after all its objects.

    `objects` keys are relative to the component's prefix in the store. `parent_id` is the id of
    the point that an incremental builds on. `source_bytes`: size of what it was taken from.
    `note` says what was unusual, such as why an incremental became a full backup.
    """

    id: str
    component: str
    kind: PointKind
    taken_at: datetime
    finished_at: datetime
    objects: tuple[StoredObject, ...]
    source_bytes: int
    encryption: str
    parent_id: str | None = None
    tool: str = "leeward"
    note: str = ""

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "objects":
            return tuple(StoredObject.from_json(item) for item in value)
        return Record._revive(name, value)

    @property
    def stored_bytes(self) -> int:
        return sum(item.size_bytes for item in self.objects)


@dataclass(frozen=True, kw_only=True, slots=True)
class DatabasePoint(RecoveryPoint):
    """A base backup of a PostgreSQL cluster. A restore reaches consistency at `end_lsn`.

    `checksum_failures` are the server's own words (file and block), empty when it named none:
    a point with any is kept, is never chosen for a restore, and never counts as clean.
    `segment_bytes` is the cluster's WAL segment size.
    """

    kind: DatabasePointKind
    system_id: str
    server_version: int
    timeline: int
    start_lsn: int
    end_lsn: int
    checksum_failures: tuple[str, ...] = ()
    segment_bytes: int = 16 << 20


def point_from_json(data: dict[str, Any]) -> RecoveryPoint:
    """Raises KeyError or TypeError when it is none, or has a field that its kind lacks."""
    database = data["kind"] in get_args(DatabasePointKind)
    return (DatabasePoint if database else RecoveryPoint).from_json(data)


# The code of a quarantine that is about the content, wherever it lies.
INFECTED_POINT = "infected"
# That of a point which nobody has entered into the index: it may be anybody's.
UNKNOWN_POINT = "not-indexed"


def is_of_one_copy(quarantine_code: str) -> bool:
    """Whether a quarantine with this code says something of one location's copy alone."""
    return quarantine_code not in ("", INFECTED_POINT, UNKNOWN_POINT)


@dataclass(frozen=True, kw_only=True, slots=True)
class PointStanding(Record):
    """A recovery point and what is known of it today.

    proven_at: when it was last restored and found sound; None: never. read_at: when all of its
    bytes were last read and agreed with the manifest. held: why it must stay, "" when nobody said
    so. quarantined: why no restore may use it; quarantine_code: "infected" is said of the content,
    wherever it lies, and so is "not-indexed" (nobody has entered it into the index), any other of
    this location, "" of what nobody knows. unquarantined: who ended a quarantine of it, when and
    why, "" when nobody did. locked_until: before then the store refuses to delete it.
    """

    point: RecoveryPoint
    proven_at: datetime | None = None
    read_at: datetime | None = None
    held: str = ""
    quarantined: str = ""
    locked_until: datetime | None = None
    quarantine_code: str = ""
    unquarantined: str = ""

    @property
    def is_damaged(self) -> bool:
        """Quarantined for what is wrong with this location's copy alone."""
        return bool(self.quarantined) and is_of_one_copy(self.quarantine_code)

    @property
    def is_suspect(self) -> bool:
        """Quarantined for its content, which only a person can judge."""
        return bool(self.quarantined) and self.quarantine_code in ("", INFECTED_POINT)

    @property
    def is_unknown(self) -> bool:
        return self.quarantine_code == UNKNOWN_POINT


@dataclass(frozen=True)
class WalFinding(Record):
    """Something unusual in a WAL tick. `gap`: recovery cannot pass it; a new full backup is due."""

    code: str
    found: str
    gap: bool


@dataclass(frozen=True)
class WalTick(Record):
    """One fetch of WAL. `end_lsn`: everything before it is durable, 0 when nothing is.

    `slot_status` is PostgreSQL's wal_status; `safe_bytes` how much WAL may still be written
    before the slot is lost, None when unlimited.
    """

    component: str
    ticked_at: datetime
    segments: int
    end_lsn: int
    timeline: int
    slot_status: str
    safe_bytes: int | None
    findings: tuple[WalFinding, ...]
    seconds: float

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "findings":
            return tuple(WalFinding.from_json(item) for item in value)
        return super()._revive(name, value)

    @property
    def gap(self) -> bool:
        return any(finding.gap for finding in self.findings)

    @property
    def replaced(self) -> bool:
        """Whether the server is not the one, or of the history, that is stored."""
        return any(it.code in ("other-system", "other-history") for it in self.findings)

    @property
    def behind(self) -> bool:
        """Whether the server keeps more WAL for the slot, right after the fetch, than max_wal_size
        lets it keep anyhow (the views of PostgreSQL, pg_replication_slots, wal_status)."""
        return self.slot_status in ("extended", "unreserved")


@dataclass(frozen=True)
class Window(Record):
    """An unbroken stretch of WAL on one timeline history that recovery can stop in.

    From `start_lsn` (end of the oldest base backup in it) to `end_lsn` (last byte stored).
    """

    timeline: int
    start_lsn: int
    end_lsn: int
    start_at: datetime
    end_at: datetime


TargetKind = Literal["xid", "lsn", "time", "end"]


@dataclass(frozen=True)
class RecoveryTarget(Record):
    """The moment to recover to: everything before it, nothing of it.

    kind "xid": before that transaction commits; "lsn": before that record; "time": before that
    instant; "end": all the WAL there is. `lsn` bounds the base backup to choose (its end must lie
    before) and is 0 for "end". With "time" it is 0, or where the replay ends: what lies between the
    two holds no commit, and must not be replayed.
    """

    kind: TargetKind
    value: str
    lsn: int = 0
    timeline: int = 1


@dataclass(frozen=True)
class Damage(Record):
    """What was found to be wrong with a database, and the moment to go back to.

    kind: mass-update, mass-delete, truncate, drop, rewrite (logical); rename, drop-column, schema,
    rights, disabled, detached, unlogged, sequence (the same, proven by a bisection); page,
    relation-file, index (physical); wal-gap; suspected (nothing found: the bisection's bound).
    `alternatives` are other suspects, the likeliest first, each {xid, committed_at, tables, rows,
    why}. `found` is one line for the record; `how` names the method.
    """

    kind: str
    found: str
    how: str
    target: RecoveryTarget
    detected_at: datetime
    damaged_at: datetime | None = None
    xid: int | None = None
    commit_lsn: int | None = None
    tables: tuple[str, ...] = ()
    rows: int = 0
    alternatives: tuple[dict[str, Any], ...] = ()

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "target":
            return RecoveryTarget.from_json(value)
        return super()._revive(name, value)


@dataclass(frozen=True)
class CheckResult(Record):
    """One verification that ran. `ok` is true only when it ran to its end and found nothing."""

    name: str
    ok: bool
    found: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Proof(Record):
    """A recovery point was restored, opened, queried and found clean at `proven_at`.

    `incident`: whose records tell how; "" where it was proven outside a run.
    """

    component: str
    point_id: str
    proven_at: datetime
    target: RecoveryTarget
    recovered_lsn: int
    last_commit_at: datetime | None
    checks: tuple[CheckResult, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    incident: str = ""

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "target":
            return RecoveryTarget.from_json(value)
        if name == "checks":
            return tuple(CheckResult.from_json(item) for item in value)
        return super()._revive(name, value)

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)


@dataclass(frozen=True)
class EvidenceRecord(Record):
    """One thing that was decided, done or found, as link `seq` of the chain of an incident.

    `previous` is the digest of record `seq - 1`. `digest` is the SHA-256 of all other fields.
    `run_id` and `step` are "" where the record belongs to none. Two records of one chain never
    have the same `key`: what is delivered twice is recorded once.
    """

    seq: int
    at: datetime
    previous: str
    kind: str
    actor: str
    run_id: str
    step: str
    key: str
    body: dict[str, Any]
    digest: str

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        return parse_time(value) if name == "at" else value


@dataclass(frozen=True)
class Signature(Record):
    """What a key made of a message. `value` is base64, `public_key` PEM (SubjectPublicKeyInfo).

    `fingerprint` is the SHA-256 of the public key's DER form, in hex.
    """

    algorithm: str
    key_id: str
    public_key: str
    fingerprint: str
    value: str
