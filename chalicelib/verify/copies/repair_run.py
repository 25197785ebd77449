"""Decided repairs carried out. Each is safe to repeat: what is sound by now is left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from chalicelib.errors import Damaged, DigestMismatch, LeewardError, Truncated
from chalicelib.plan.manifest import digest_of_manifest, parse_manifest, require_small
from chalicelib.plan.records import Record, format_time
from chalicelib.ports import Catalogue, Clock, ObjectStore
from chalicelib.verify.copies.content import read_content
from chalicelib.verify.copies.expected import Expected
from chalicelib.verify.copies.flight import TimeLimit
from chalicelib.verify.copies.repair import RepairAction

Outcome = Literal["copied", "already-sound", "mended", "quarantined", "left", "failed"]
GOOD = ("copied", "already-sound", "mended")


MENDER = "leeward verify --repair"
NOTHING_WRONG = (
    "it stays quarantined: every byte is as it was stored, so what was found is another matter; "
    "a person ends it with `leeward catalogue unquarantine`"
)


@dataclass(frozen=True)
class Repaired(Record):
    """What became of an action. `found` is one line for a person."""

    action: RepairAction
    outcome: Outcome
    found: str


@dataclass(frozen=True)
class RepairResult(Record):
    """`ok`: everything that was wrong is sound again; a quarantine is no repair."""

    repaired: tuple[Repaired, ...]

    @property
    def ok(self) -> bool:
        return all(item.outcome in GOOD for item in self.repaired)


def apply_repair(
    actions: Sequence[RepairAction],
    stores: Mapping[str, ObjectStore],
    catalogues: Mapping[str, Catalogue],
    *,
    clock: Clock,
) -> RepairResult:
    """Carry out each action; one that fails hinders no other, but for the manifest of its point.

    Args:
        stores, catalogues: by location; every one that the actions name.
    """
    run = _Run(stores, catalogues, clock)
    return RepairResult(tuple(run.carry_out(action) for action in actions))


@dataclass
class _Run:
    stores: Mapping[str, ObjectStore]
    catalogues: Mapping[str, Catalogue]
    clock: Clock
    not_whole: set[tuple[str, str]] = field(default_factory=set)

    def carry_out(self, action: RepairAction) -> Repaired:
        try:
            outcome, found = self._do(action)
        except LeewardError as error:
            outcome, found = "failed", error.message
        if action.do == "copy" and outcome not in ("copied", "already-sound"):
            self.not_whole.add((action.location, action.point_id))
        return Repaired(action, outcome, found)

    def _do(self, action: RepairAction) -> tuple[Outcome, str]:
        if action.do == "leave":
            return "left", action.reason
        if action.do == "quarantine":
            return self._quarantine(action, action.reason)
        if action.do == "copy-manifest":
            return self._copy_manifest(action)
        if action.do == "mend":
            return self._mend(action)
        return self._copy(action)

    def _quarantine(self, action: RepairAction, reason: str) -> tuple[Outcome, str]:
        for point_id in action.dependants:
            why = reason if point_id == action.point_id else f"builds on {action.point_id}"
            for catalogue in self.catalogues.values():
                catalogue.quarantine(point_id, code="damaged", reason=why, at=self.clock.now())
        return "quarantined", f"{', '.join(action.dependants)}: {reason}"

    def _copy(self, action: RepairAction) -> tuple[Outcome, str]:
        target = self.stores[action.location]
        if action.sha256 and _has(target, action.key, action.sha256):
            return "already-sound", "somebody mended it meanwhile"
        lock = _lock_of(target, action.key, self.clock)
        failures: list[LeewardError] = []
        for source in action.sources:
            try:
                wanted = action.sha256 or self._digest_of_wal(self.stores[source], action.key)
                sha256 = _copy_one(self.stores[source], target, action.key, wanted)
            except _SourceFailed as failure:
                failures.append(failure.error)
                continue
            require_stored(target, action.key, sha256)
            return "copied", f"from {source}, sha-256 {sha256}{lock}"
        return self._without_source(action, failures)

    def _digest_of_wal(self, source: ObjectStore, key: str) -> str:
        """Of a segment that nobody has read yet: it must at least be what its writer made."""
        item = Expected(key, "", 0, "", self.clock.now(), "new")
        try:
            content = read_content(source, item, TimeLimit(self.clock))
        except LeewardError as error:
            raise _SourceFailed(error) from error
        return content.sha256 if content is not None else ""

    def _without_source(
        self, action: RepairAction, failures: Sequence[LeewardError]
    ) -> tuple[Outcome, str]:
        """Every source turned out to be damaged too, or one could not be asked."""
        told = "; ".join(failure.message for failure in failures)
        certain = all(isinstance(failure, Damaged) for failure in failures)
        if certain and action.dependants:
            return self._quarantine(action, f"{action.key} has no good copy: {told}")
        return "failed", told

    def _mend(self, action: RepairAction) -> tuple[Outcome, str]:
        """Each object is read where it lies, and read back where it was copied."""
        content = _read_manifest(self.stores[action.location], action)
        if _manifest_digest(action.point_id, content) != action.sha256:
            return "left", "its manifest is another by now"
        point, copied = parse_manifest(action.point_id, content), 0
        for item in point.objects:
            part = replace(action, do="copy", key=item.key, sha256=item.sha256)
            outcome, found = self._copy(part)
            if outcome not in GOOD:
                return "left", f"{item.key} has no good copy, so it stays quarantined: {found}"
            copied += outcome == "copied"
        if not copied:
            return "left", NOTHING_WRONG
        told = f"{copied} of {len(point.objects)} objects copied back, every byte read"
        self._end_quarantine(action, told)
        return "mended", f"{told}: its quarantine ended"

    def _end_quarantine(self, action: RepairAction, why: str) -> None:
        catalogue, now = self.catalogues[action.location], self.clock.now()
        catalogue.note_read(action.point_id, now)
        reason = f"in {action.location}, {why}"
        catalogue.unquarantine(action.point_id, by=MENDER, reason=reason, at=now)

    def _has_manifest(self, target: ObjectStore, action: RepairAction) -> bool:
        try:
            content = _read_manifest(target, action)
            return _manifest_digest(action.point_id, content) == action.sha256
        except Damaged:
            return False

    def _copy_manifest(self, action: RepairAction) -> tuple[Outcome, str]:
        if (action.location, action.point_id) in self.not_whole:
            return "failed", "not all objects of the point are there; its manifest comes last"
        target = self.stores[action.location]
        if self._has_manifest(target, action):
            return "already-sound", "somebody mended it meanwhile"
        told = []
        for source in action.sources:
            try:
                content = _read_manifest(self.stores[source], action)
            except LeewardError as error:
                told.append(f"{source}: {error.message}")
                continue
            if _manifest_digest(action.point_id, content) != action.sha256:
                continue
            target.put(action.key, content)
            require_stored(target, action.key, hashlib.sha256(content).hexdigest())
            return "copied", f"from {source}"
        why = "no location has the manifest that is vouched for any more"
        return "failed", "; ".join((why, *told))


def _read_manifest(store: ObjectStore, action: RepairAction) -> bytes:
    require_small(action.point_id, store.facts(action.key).size_bytes)
    return store.get(action.key)


def _manifest_digest(point_id: str, content: bytes) -> str:
    """ "" when it is none."""
    try:
        return digest_of_manifest(parse_manifest(point_id, content))
    except Damaged:
        return ""


class _SourceFailed(Exception):
    def __init__(self, error: LeewardError) -> None:
        super().__init__(error.message)
        self.error = error


def _copy_one(source: ObjectStore, target: ObjectStore, key: str, wanted: str) -> str:
    """Copy in constant memory; nothing is visible in the target unless the digest is right."""
    digest = hashlib.sha256()
    with target.open_writer(key) as writer:
        for chunk in _source_chunks(source, key):
            digest.update(chunk)
            writer.write(chunk)
        if wanted and digest.hexdigest() != wanted:
            raise _SourceFailed(_other(key, wanted, digest.hexdigest()))
        writer.commit()
    return digest.hexdigest()


def _source_chunks(source: ObjectStore, key: str) -> Iterator[bytes]:
    try:
        yield from source.read(key)
    except LeewardError as error:
        raise _SourceFailed(error) from error


def _sha256(store: ObjectStore, key: str) -> str:
    digest = hashlib.sha256()
    for chunk in store.read(key):
        digest.update(chunk)
    return digest.hexdigest()


def _has(store: ObjectStore, key: str, sha256: str) -> bool:
    try:
        return _sha256(store, key) == sha256
    except Damaged:
        return False


def require_stored(store: ObjectStore, key: str, sha256: str) -> None:
    """Read all of it. Raises Damaged."""
    found = _sha256(store, key)
    if found != sha256:
        raise _other(key, sha256, found)


def _other(key: str, wanted: str, found: str) -> DigestMismatch:
    return DigestMismatch(
        f"expected {key} with sha-256 {wanted}, found {found}",
        hint="Look at the store and the way to it: it changes bytes.",
        key=key,
    )


def _lock_of(store: ObjectStore, key: str, clock: Clock) -> str:
    try:
        until = store.facts(key).locked_until
    except Truncated:
        return ""
    if until is None or until <= clock.now():
        return ""
    return f"; the version before it stays, locked until {format_time(until)}"
