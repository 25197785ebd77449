"""The newest clean recovery point before a moment, unpacked into a data folder.

A point that turns out to be damaged is quarantined and the next older clean one is used. The
folder carries its record (leeward-restored.json) only when it is complete.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from chalicelib.errors import Damaged, NotReady
from chalicelib.plan.records import DatabasePoint, Record, RecoveryTarget, Window
from chalicelib.plan.wal import WalInventory
from chalicelib.ports import Inventory, ObjectStore, RejectedPoint, ServerFactory
from chalicelib.recover.database.archive import DataFolder, decompress, read_ahead, read_verified
from chalicelib.recover.database.means import Means
from chalicelib.recover.window import Chain, choose_points

RECORD_NAME = "leeward-restored.json"
# What PostgreSQL itself needs beside the files: a few WAL segments, logs, temporary files.
SPARE_BYTES = 256 << 20


@dataclass(frozen=True)
class Restored(Record):
    """What lies in a data folder. `chain`: point ids, oldest first. WAL is needed from
    `start_lsn` on `timeline` to `window_end_lsn`. `rejected`: {point_id, code, reason} each."""

    target: RecoveryTarget
    chain: tuple[str, ...]
    timeline: int
    start_lsn: int
    end_lsn: int
    window_end_lsn: int
    rejected: tuple[dict[str, Any], ...]
    source_bytes: int
    seconds: float

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "target":
            return RecoveryTarget.from_json(value)
        return super()._revive(name, value)

    @property
    def point_id(self) -> str:
        return self.chain[-1]


def restore(
    means: Means,
    target: RecoveryTarget,
    folder: Path,
    *,
    known: Inventory | None = None,
    whole: bool = False,
) -> Restored:
    """Unpack the newest clean chain from which `target` can be reached into `folder`.

    What lies in the folder before is removed, with any server that still runs on it.

    Args:
        known: what the catalogue has just told, None asks it.
        whole: rather raise than reach less of the WAL than it seemed before a point turned out
            damaged, for whoever has another location to ask.
    Raises:
        OutsideWindow: before anything is touched.
        Damaged: code "no-clean-point", when every chain is damaged; with `whole` what is wrong with
            the point.
        NotReady: code "no-disk-space"; the folder is empty then.
        Unavailable: the store did not answer; nothing is quarantined for that.
    """
    return restore_and_list(means, target, folder, known=known, whole=whole)[0]


def restore_and_list(
    means: Means,
    target: RecoveryTarget,
    folder: Path,
    *,
    known: Inventory | None = None,
    whole: bool = False,
) -> tuple[Restored, WalInventory]:
    """As `restore`; and the WAL that was stored when the chain was chosen."""
    catalogue, clock = means.catalogue, means.clock
    started_at = clock.now()
    last: tuple[Window, Damaged] | None = None
    while True:
        inventory = known or catalogue.inventory()
        choice = choose_points(inventory, target)
        chain = choice.chains[0]
        if whole and last is not None:
            _require_as_far(chain.window, *last)
        _require_space(folder, chain)
        empty_folder(folder, means.servers)
        damaged = _unpack_chain(means.store, chain, folder)
        if damaged is None:
            break
        point_id, error = damaged
        _empty(folder)
        catalogue.quarantine(
            point_id, code=error.instance_code, reason=error.message, at=clock.now()
        )
        known, last = None, (chain.window, error)
    seconds = (clock.now() - started_at).total_seconds()
    restored = _describe(chain, target, choice.rejected, seconds)
    (folder / RECORD_NAME).write_text(json.dumps(restored.to_json()))
    return restored, inventory.wal


def _require_as_far(window: Window, before: Window, error: Damaged) -> None:
    """ "end" is all there is: where a gap lies after an older point, its WAL ends there."""
    if (window.timeline, window.end_lsn) < (before.timeline, before.end_lsn):
        raise error


def read_restored(folder: Path) -> Restored | None:
    """The record of a folder that was restored completely and not replayed since, else None."""
    try:
        return Restored.from_json(json.loads((folder / RECORD_NAME).read_text()))
    except (OSError, ValueError):
        return None


def empty_folder(folder: Path, servers: ServerFactory) -> None:
    """Stop what runs on a folder and remove all that is in it."""
    if (folder / "PG_VERSION").is_file():
        servers(folder).stop("immediate")
    _empty(folder)


def _unpack_chain(store: ObjectStore, chain: Chain, folder: Path) -> tuple[str, Damaged] | None:
    """The damaged point and what is wrong with it, or None when the folder is complete."""
    data = DataFolder(folder)
    for point in chain.points:
        try:
            with _clear_when_full(folder):
                _unpack_point(store, point, data)
        except Damaged as error:
            return point.id, error
    return None


def _unpack_point(store: ObjectStore, point: DatabasePoint, data: DataFolder) -> None:
    data.begin_point()
    manifest = b""
    for item in point.objects:
        name = PurePosixPath(item.key).name
        if name == "backup_manifest":
            manifest = b"".join(read_verified(store, item))
        else:
            unpacked = decompress(read_verified(store, item), item.key)
            data.unpack(read_ahead(unpacked), item.key, _below(name))
    data.end_point(manifest, incremental=point.kind == "incremental")


def _below(name: str) -> str:
    oid = name.removesuffix(".tar.zst")
    return "" if oid == "base" else f"pg_tblspc/{oid}"


def _describe(
    chain: Chain,
    target: RecoveryTarget,
    rejected: tuple[RejectedPoint, ...],
    seconds: float,
) -> Restored:
    last = chain.points[-1]
    return Restored(
        target=target,
        chain=tuple(point.id for point in chain.points),
        timeline=chain.window.timeline,
        start_lsn=chain.start_lsn,
        end_lsn=last.end_lsn,
        window_end_lsn=chain.window.end_lsn,
        rejected=tuple(vars(item) for item in rejected),
        source_bytes=sum(point.source_bytes for point in chain.points),
        seconds=seconds,
    )


def _require_space(folder: Path, chain: Chain) -> None:
    needed = sum(point.source_bytes for point in chain.points) + SPARE_BYTES
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(existing).free + taken
    if free < needed:
        raise _no_space(f"expected {needed} bytes of free disk for {folder}, found {free}")


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


@contextmanager
def _clear_when_full(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _empty(folder)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(f"expected room in {folder}, the disk is full") from error
        raise


def _no_space(message: str) -> NotReady:
    return NotReady(
        message,
        code="no-disk-space",
        hint="Free space there, or use a worker with a larger disk.",
    )
