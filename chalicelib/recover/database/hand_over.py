"""A recovered data folder handed over to a host, as an archive that PostgreSQL's own tools read.

    handover/<run_id>/base.tar.zst     the data folder of a server that was shut down in order
    handover/<run_id>/manifest.json    {"handover": {...}, "digest": ...}, written last

must: a manifest exists only after its archive is durable. An archive without one counts for
nothing, and the next attempt writes over it.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import zstandard

from chalicelib.errors import CheckFailed, Damaged, Refused, Tampered, Truncated
from chalicelib.plan.records import (
    Record,
    RecoveryTarget,
    StoredObject,
    canonical_json,
    digest_of,
    parse_lsn,
)
from chalicelib.plan.wal import segment_name, segment_start
from chalicelib.ports import Clock, DatabaseServer, ObjectStore
from chalicelib.recover.database.replay import Replayed

TAR_BLOCK = 512
COPY_BYTES = 1 << 20
FOLDER_MODE, FILE_MODE = 0o700, 0o600  # pg_dir_create_mode, pg_file_create_mode (file_perm.h)
# Whose the files are when root unpacks them; as in PostgreSQL's own archives (basebackup.c).
OWNER = "postgres"
# What our throw-away server left in the folder, and what would name its processes.
OURS = ("leeward-", "postmaster.")
SEGMENT_NAME_LENGTH = 24


@dataclass(frozen=True)
class HandOver(Record):
    """What a host gets: every commit up to `recovered_lsn`, opened on `timeline`.

    `archive.key` is relative to the component's prefix; `folder_bytes` is what it unpacks to.
    """

    component: str
    run_id: str
    target: RecoveryTarget
    archive: StoredObject
    folder_bytes: int
    postgres_major: int
    system_id: str
    timeline: int
    recovered_lsn: int
    last_commit_at: datetime | None
    made_at: datetime

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "target":
            return RecoveryTarget.from_json(value)
        return StoredObject.from_json(value) if name == "archive" else super()._revive(name, value)


def hand_over(
    store: ObjectStore,
    server: DatabaseServer,
    replayed: Replayed,
    *,
    component: str,
    run_id: str,
    clock: Clock,
) -> HandOver:
    """Stream the folder of `server` into the store; what this run has stored already stands.

    Args:
        server: on the folder that `replayed` describes; stopped, in order.
    Raises:
        CheckFailed: code "not-shut-down"; nothing was written.
        Refused: code "handed-over-otherwise", when this run has stored another moment.
        Damaged: the folder holds what no data folder holds.
    """
    done = read_hand_over(store, run_id)
    if done is not None:
        return _require_same(done, replayed.target)
    control = _require_shut_down(server)
    archive, folder_bytes = _write_archive(store, server.data_dir, control, run_id)
    made = HandOver(
        component=component,
        run_id=run_id,
        target=replayed.target,
        archive=archive,
        folder_bytes=folder_bytes,
        postgres_major=int((server.data_dir / "PG_VERSION").read_text()),
        system_id=control["Database system identifier"],
        timeline=replayed.timeline,
        recovered_lsn=replayed.recovered_lsn,
        last_commit_at=replayed.last_commit_at,
        made_at=clock.now(),
    )
    content = made.to_json()
    manifest = {"handover": content, "digest": digest_of(content)}
    store.put(_manifest_key(run_id), canonical_json(manifest))
    return made


def read_hand_over(store: ObjectStore, run_id: str) -> HandOver | None:
    """What a run has handed over completely, else None.

    Raises Tampered when the manifest does not match its own digest.
    """
    try:
        manifest = json.loads(store.get(_manifest_key(run_id)))
        content, digest = manifest["handover"], manifest["digest"]
    except Truncated:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise _tampered(run_id) from error
    if digest_of(content) != digest:
        raise _tampered(run_id)
    return HandOver.from_json(content)


def host_commands(url: str) -> str:
    """One line for bash on the host, as the account that will run the server, in an empty folder.

    docs/hand-over.md holds the same for any shell, with the archive's digest compared.
    """
    unpack = f"aws s3 cp --no-progress {url} - | zstd -d | tar -x -C data"
    # A folder that was shut down in order is not synced when its server starts.
    sync = "initdb --sync-only -D data && sync -f data"
    start = "pg_ctl -D data -l server.log start"
    return f"set -o pipefail; mkdir data && chmod 700 data && {unpack} && {sync} && {start}"


def _manifest_key(run_id: str) -> str:
    return f"handover/{run_id}/manifest.json"


def _require_same(done: HandOver, target: RecoveryTarget) -> HandOver:
    if done.target != target:
        raise Refused(
            f"expected {done.run_id} to hand over {target.kind} {target.value}, "
            f"it has handed over {done.target.kind} {done.target.value}",
            code="handed-over-otherwise",
            hint="Start a run of its own for the other moment.",
        )
    return done


def _require_shut_down(server: DatabaseServer) -> dict[str, str]:
    """The control data of a folder that needs no recovery, so that a host needs no WAL for it."""
    control = server.control_data()
    state = control.get("Database cluster state")
    if state != "shut down":
        raise CheckFailed(
            f"expected a data folder that was shut down, found one {state}",
            code="not-shut-down",
            hint="Start its server, stop it in order, and try again.",
        )
    return control


def _write_archive(
    store: ObjectStore, folder: Path, control: dict[str, str], run_id: str
) -> tuple[StoredObject, int]:
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj()
    folder_bytes = 0
    with store.open_writer(f"handover/{run_id}/base.tar.zst") as writer:
        for piece in tar_pieces(folder, wanted_in(control)):
            folder_bytes += len(piece)
            writer.write(compressor.compress(piece))
        writer.write(compressor.flush())
        return writer.commit(), folder_bytes


def wanted_in(control: dict[str, str]) -> Callable[[str], bool]:
    """Whether a host needs a path of the folder.

    Of the WAL it needs the segment of the last checkpoint, and the next should the record end
    there: a replay leaves gigabytes of others.
    """
    size = int(control["Bytes per WAL segment"])
    first = control["Latest checkpoint's REDO WAL file"]
    start = segment_start(parse_lsn(control["Latest checkpoint's REDO location"]), size)
    kept = {first, segment_name(int(first[:8], 16), start + size, size)}

    def is_wanted(name: str) -> bool:
        parent, _, base = name.rpartition("/")
        if parent == "pg_wal" and len(base) == SEGMENT_NAME_LENGTH:
            return base in kept
        return bool(parent) or not base.startswith(OURS)

    return is_wanted


def tar_pieces(folder: Path, is_wanted: Callable[[str], bool]) -> Iterator[bytes]:
    """A tar archive of a folder's contents, in pieces of at most 1 MiB; folders come first."""
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if not is_wanted(name):
            continue
        header = _header(path, name)
        yield header.tobuf(tarfile.GNU_FORMAT)
        if header.isfile():
            yield from _content(path, header.size)
            yield bytes(-header.size % TAR_BLOCK)
    yield bytes(2 * TAR_BLOCK)


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _header(path: Path, name: str) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.uname = header.gname = OWNER
    header.mtime = int(path.lstat().st_mtime)
    if path.is_symlink() or not (path.is_dir() or path.is_file()):
        raise _unexpected(name, "neither file nor folder")
    if path.is_dir():
        header.type, header.mode = tarfile.DIRTYPE, FOLDER_MODE
    else:
        header.size, header.mode = path.stat().st_size, FILE_MODE
    return header


def _content(path: Path, size: int) -> Iterator[bytes]:
    left = size
    with path.open("rb") as file:
        while piece := file.read(min(COPY_BYTES, left)):
            left -= len(piece)
            yield piece
    if left:
        raise _unexpected(path.name, f"{left} bytes shorter than it was")


def _unexpected(name: str, what: str) -> Damaged:
    return Damaged(
        f"expected a data folder that nobody uses, {name} is {what}",
        code="not-a-data-folder",
        hint="Let the step make the folder again.",
    )


def _tampered(run_id: str) -> Tampered:
    return Tampered(
        f"expected {_manifest_key(run_id)} to match its own digest, it does not",
        hint="Find out who writes to the backups; remove that folder, then run the step again.",
    )
