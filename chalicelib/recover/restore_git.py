"""A git repository brought back from its newest whole bundle: a working copy, or a mirror."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chalicelib.errors import Damaged, NotReady, Refused
from chalicelib.plan.bundles import BUNDLE_NAME, FACTS_NAME, RepositoryFacts
from chalicelib.plan.record import read_json
from chalicelib.plan.records import CheckResult, Record, RecoveryPoint, StoredObject
from chalicelib.ports import Catalogue, Clock, ObjectStore
from chalicelib.ports.sources import BundleTools
from chalicelib.recover.database.archive import read_verified
from chalicelib.recover.on_disk import sync_folder, sync_names
from chalicelib.recover.points import use_newest

HINT = "Restore from an older recovery point."
SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class RestoredRepository(Record):
    """What lies in `folder`. commit: what is checked out, "" in a mirror. missing: what a bundle
    cannot hold, in the point's words. damaged: newer points that were found damaged."""

    point_id: str
    taken_at: datetime
    folder: str
    commit: str
    refs: int
    missing: str
    damaged: tuple[str, ...]
    seconds: float


def restore_git(
    store: ObjectStore,
    catalogue: Catalogue,
    tools: BundleTools,
    folder: Path,
    *,
    clock: Clock,
    revision: str = "",
    mirror: bool = False,
    point_id: str = "",
    before: datetime | None = None,
) -> RestoredRepository:
    """Bring the named point back, or the newest whole one (of `before` or older).

    Args:
        revision: branch, tag or commit to check out; "" the branch of HEAD.
        mirror: a bare repository with every ref instead, as `git push --mirror` takes it.
    Raises:
        Refused: code "folder-not-empty".
        BadInput: code "unknown-revision".
        NotReady: code "no-git", "no-disk-space", "not-on-disk", "names-alike", "not-checked-out".
        Damaged, OutsideWindow, Quarantined, BadInput: as `use_newest`.
    """
    started_at = clock.now()
    if os.path.lexists(folder) and (not folder.is_dir() or any(os.scandir(folder))):
        raise Refused(
            f"expected no folder {folder} or an empty one, found something in it",
            code="folder-not-empty",
            hint="Name another folder, or move what is there aside.",
        )

    def build(point: RecoveryPoint) -> tuple[RecoveryPoint, RepositoryFacts, str]:
        with _fetched(store, point, folder.parent) as (bundle, facts):
            made = bundle.parent / "made"
            if mirror:
                tools.mirror(bundle, made, facts)
                commit = ""
            else:
                commit = tools.clone(bundle, made, facts, revision)
            sync_folder(made)
            os.rename(made, folder)
            sync_names(folder.parent)
        return point, facts, commit

    (point, facts, commit), damaged = use_newest(
        catalogue, "bundle", build, clock=clock, point_id=point_id, before=before
    )
    return RestoredRepository(
        point.id, point.taken_at, str(folder), commit, len(facts.refs), point.note, damaged,
        (clock.now() - started_at).total_seconds(),
    )  # fmt: skip


def verify_git(
    store: ObjectStore, point: RecoveryPoint, tools: BundleTools, *, clock: Clock
) -> tuple[CheckResult, ...]:
    """Read all of a bundle, clone it whole and have git check every object.

    Raises NotReady (code "no-git", "no-disk-space", "names-alike"), Unavailable: neither says
    anything about the point.
    """
    started_at = clock.now()
    name = "bundle-whole"
    try:
        with _fetched(store, point, Path(tempfile.gettempdir())) as (bundle, facts):
            read_at = clock.now()
            whole = CheckResult(
                name, True, f"{point.source_bytes} bytes", (read_at - started_at).total_seconds()
            )
            name = "bundle-clones"
            said = tools.prove(bundle, facts.refs)
    except Damaged as error:
        failed = CheckResult(name, False, error.message, _since(started_at, clock))
        return (failed,) if name == "bundle-whole" else (whole, failed)
    found = "; ".join(filter(None, [f"{len(facts.refs)} refs as they were", said]))
    return whole, CheckResult("bundle-clones", True, found, _since(read_at, clock))


@contextmanager
def _fetched(
    store: ObjectStore, point: RecoveryPoint, place: Path
) -> Iterator[tuple[Path, RepositoryFacts]]:
    """The bundle as a file in a folder of its own below `place`, compared with its digest."""
    place.mkdir(parents=True, exist_ok=True)
    # The bundle, and as much again for what is unpacked from it.
    needed, free = 2 * point.source_bytes + SPARE_BYTES, shutil.disk_usage(place).free
    if free < needed:
        raise NotReady(
            f"expected {needed} bytes of free disk in {place}, found {free}",
            code="no-disk-space",
            hint="Free space there, or name a folder on a larger disk.",
        )
    facts = _read_facts(store, point)
    with tempfile.TemporaryDirectory(prefix=".leeward-git-", dir=place) as folder:
        bundle = Path(folder) / BUNDLE_NAME
        with bundle.open("wb") as file:
            for piece in read_verified(store, _object(point, BUNDLE_NAME)):
                file.write(piece)
        yield bundle, facts


def _read_facts(store: ObjectStore, point: RecoveryPoint) -> RepositoryFacts:
    item = _object(point, FACTS_NAME)
    content = b"".join(read_verified(store, item))
    try:
        return RepositoryFacts.from_json(read_json(content))
    except (ValueError, TypeError, AttributeError) as error:
        raise Damaged(
            f"expected a description of refs, {item.key} is none",
            code="refs-unreadable",
            hint=HINT,
            key=item.key,
        ) from error


def _object(point: RecoveryPoint, name: str) -> StoredObject:
    found = [item for item in point.objects if item.key.endswith(f"/{name}")]
    if len(found) != 1:
        raise Damaged(
            f"expected one object {name} in {point.id}, found {len(found)}",
            code="list-differs",
            hint=HINT,
        )
    return found[0]


def _since(started_at: datetime, clock: Clock) -> float:
    return (clock.now() - started_at).total_seconds()
