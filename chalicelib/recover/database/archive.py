"""A base backup's archives unpacked into a data folder while they arrive, in constant memory.

Every byte is checked twice: each object against the SHA-256 of its manifest entry, each file
against the size and CRC-32C that the server wrote into backup_manifest. Incrementals are applied
in place. Sources: PostgreSQL 17, src/backend/backup/basebackup_incremental.c (format of
INCREMENTAL files), src/bin/pg_combinebackup/reconstruct.c (how blocks are put together).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import tarfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from typing import IO, Any, cast

import google_crc32c
import zstandard

from chalicelib.errors import Damaged, DigestMismatch, Truncated
from chalicelib.plan.records import StoredObject
from chalicelib.ports import ObjectStore
from chalicelib.recover.database.writing import reserve, write_all

TAR_BLOCK = 512
# Handing a piece over wakes a thread up: pieces of 256 KiB take four times as many switches.
COPY_BYTES = 1 << 20
PIECES_AHEAD = 4
PIECES_BEHIND = 3
# The allocator gives out first what was freed last: memory that another processor has just read,
# and still has in its cache, takes twice as long to unpack into as what is long out of it. With 8
# kept it still does, with 48 it does no better (measured).
PIECES_KEPT = 24
PAGE_BYTES = 8192
INCREMENTAL_PREFIX = "INCREMENTAL."
INCREMENTAL_MAGIC = 0xD3AE1F0D
HINT = "Restore from an older recovery point."


def read_verified(store: ObjectStore, item: StoredObject) -> Iterator[bytes]:
    """The object's chunks. Raises DigestMismatch or Truncated at the end if it is another."""
    digest, size = hashlib.sha256(), 0
    for chunk in store.read(item.key):
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if size < item.size_bytes:
        raise Truncated(
            f"expected {item.size_bytes} bytes of {item.key}, found {size}",
            code="object-short",
            hint=HINT,
            key=item.key,
        )
    if digest.hexdigest() != item.sha256:
        raise DigestMismatch(
            f"expected {item.key} with sha-256 {item.sha256}, found {digest.hexdigest()}",
            hint=HINT,
            key=item.key,
        )


def decompress(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """A zstd frame -> bytes, in pieces of bounded size whatever the ratio of compression.

    All chunks are consumed, so that their digest is checked too; one that ends too early does
    not hold a whole archive.
    """
    reader = zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], _Reader(chunks)))
    try:
        while piece := reader.read(COPY_BYTES):
            yield piece
    except zstandard.ZstdError as error:
        raise _unreadable(name, "is no zstd stream") from error
    for _ in chunks:
        pass


def read_ahead(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, made in a thread of its own: unpacking overlaps with writing.

    At most PIECES_AHEAD + 1 are made and not taken, and the last PIECES_KEPT stay in memory. What
    making them raises is raised here, after the pieces before it. Where the iterator is left the
    thread makes its piece and ends. Nobody waits for that: an iterator that failed is dropped by
    whichever thread collects the garbage, and one that is just being started can join none.
    """
    made: SimpleQueue[bytes | None] = SimpleQueue()
    wanted: SimpleQueue[bool] = SimpleQueue()
    for _ in range(PIECES_AHEAD):
        wanted.put(True)
    thread = ThreadPoolExecutor(1)
    maker = thread.submit(_make_wanted, pieces, wanted, made)
    try:
        while (piece := made.get()) is not None:
            wanted.put(True)
            yield piece
        maker.result()
    finally:
        wanted.put(False)
        thread.shutdown(wait=False)


def write_behind(pieces: Iterator[bytes], file: IO[bytes], writer: Executor) -> Iterator[bytes]:
    """The same pieces, which `writer` (of one thread) writes to the file meanwhile.

    At most PIECES_BEHIND are not written yet. All are when the iterator ends; none is being
    written any more when it raises, be it what a write raised.
    """
    waiting: deque[Future[None]] = deque()
    try:
        for piece in pieces:
            if len(piece) < COPY_BYTES and not waiting:
                write_all(file, piece)  # handing a small file over costs more than writing it
            else:
                waiting.append(writer.submit(write_all, file, piece))
            if len(waiting) > PIECES_BEHIND:
                waiting.popleft().result()
            yield piece
        while waiting:
            waiting.popleft().result()
    finally:
        wait(waiting)


def _make_wanted(
    pieces: Iterator[bytes], wanted: SimpleQueue[bool], made: SimpleQueue[bytes | None]
) -> None:
    kept: deque[bytes] = deque(maxlen=PIECES_KEPT)
    try:
        while wanted.get() and (piece := next(pieces, None)) is not None:
            kept.append(piece)
            made.put(piece)
    finally:
        made.put(None)


class _Reader:
    """What zstandard reads from: an iterator of chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, _size: int) -> bytes:
        return next((chunk for chunk in self._chunks if chunk), b"")


class ByteStream:
    """Reads exact amounts from an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes], name: str) -> None:
        self._chunks, self._name = chunks, name
        self._chunk, self._at = b"", 0

    def pieces(self, size: int) -> Iterator[bytes]:
        """`size` bytes in pieces as they come. Raises Damaged when fewer are left."""
        while size:
            if self._at == len(self._chunk):
                self._refill()
            piece = self._chunk[self._at : self._at + min(size, COPY_BYTES)]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def take(self, size: int) -> bytes:
        return b"".join(self.pieces(size))

    def drain(self) -> None:
        """Read to the end: what checks the whole stream runs there."""
        for _ in self._chunks:
            pass

    def _refill(self) -> None:
        found = next((chunk for chunk in self._chunks if chunk), None)
        if found is None:
            raise _unreadable(self._name, "ends in the middle of its archive")
        self._chunk, self._at = found, 0


class DataFolder:
    """A data folder being put together from the archives of one chain, oldest point first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, tuple[int, int]] = {}
        self._folders: set[str] = set()
        self._writer: Executor

    def begin_point(self) -> None:
        self._files, self._folders = {}, set()

    def unpack(self, chunks: Iterator[bytes], name: str, below: str = "") -> None:
        """One archive; a tablespace's goes `below` pg_tblspc/<oid>, as an in-place tablespace."""
        stream = ByteStream(chunks, name)
        (self.folder / below).mkdir(parents=True, exist_ok=True)
        if below:
            self._folders.add(below)
        with ThreadPoolExecutor(1) as self._writer:
            while (header := stream.take(TAR_BLOCK)).strip(b"\0"):
                self._unpack_member(stream, _parse_header(header, name), below, name)
        stream.drain()

    def end_point(self, manifest: bytes, *, incremental: bool) -> None:
        """Compare with backup_manifest, remove what the newest point no longer has."""
        self._compare(json.loads(manifest)["Files"])
        if incremental:
            self._remove_others()
            _mend_label(self.folder / "backup_label")
        # Its paths are the source's; our tablespaces lie inside the folder.
        (self.folder / "tablespace_map").unlink(missing_ok=True)

    def _unpack_member(
        self, stream: ByteStream, member: tarfile.TarInfo, below: str, archive: str
    ) -> None:
        name = _safe_name(member.name, below, archive)
        if member.isdir():
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            self._folders.add(name)
        elif member.isfile():
            self._files[name] = (member.size, self._write(stream, name, member.size))
            stream.take(-member.size % TAR_BLOCK)
        else:
            raise _unreadable(archive, f"holds {name}, which is neither file nor folder")

    def _write(self, stream: ByteStream, name: str, size: int) -> int:
        """Returns the CRC-32C of what the archive holds."""
        path = self.folder / name
        if path.name.startswith(INCREMENTAL_PREFIX):
            return _apply_incremental(stream, path, size)
        checksum: int = 0
        with path.open("wb", buffering=0) as file:
            if size > COPY_BYTES:
                reserve(file, size)
            for piece in write_behind(stream.pieces(size), file, self._writer):
                checksum = google_crc32c.extend(checksum, piece)
        return checksum

    def _compare(self, expected: list[dict[str, Any]]) -> None:
        wanted = {_manifest_path(entry): entry for entry in expected}
        for name in wanted.keys() ^ self._files.keys():
            where = "backup_manifest only" if name in wanted else "the archives only"
            raise _unreadable("the backup", f"has {name} in {where}")
        for name, entry in wanted.items():
            size, checksum = self._files[name]
            if size != int(entry["Size"]) or struct.pack("<I", checksum).hex() != _crc(entry):
                raise DigestMismatch(
                    f"expected {name} as backup_manifest describes it, found another",
                    hint=HINT,
                    file=name,
                )

    def _remove_others(self) -> None:
        kept = {_plain_name(name) for name in self._files}
        for parent, folders, files in os.walk(self.folder):
            base = PurePosixPath(os.path.relpath(parent, self.folder))
            for name in files:
                if str(base / name) not in kept:
                    os.unlink(os.path.join(parent, name))
            for name in list(folders):
                if str(base / name) not in self._folders:
                    folders.remove(name)
                    shutil.rmtree(os.path.join(parent, name))


def _apply_incremental(stream: ByteStream, path: Path, size: int) -> int:
    """Write the changed blocks into the older file. Returns the CRC-32C of the archive's file.

    Blocks at or after the truncation length that the archive does not hold are zero.
    """
    target = path.with_name(_plain_name(path.name))
    head = stream.take(12)
    magic, count, kept_blocks = struct.unpack("=III", head)
    header_bytes = 12 + 4 * count
    header_bytes += -header_bytes % PAGE_BYTES if count else 0
    if magic != INCREMENTAL_MAGIC or size != header_bytes + count * PAGE_BYTES:
        raise _unreadable(str(path.name), "is no incremental file")
    rest = stream.take(header_bytes - 12)
    blocks = struct.unpack_from(f"={count}I", rest)
    checksum: int = google_crc32c.extend(google_crc32c.value(head), rest)
    if not target.is_file():
        raise _unreadable(str(target.name), "is missing in the older point")
    with target.open("r+b", buffering=0) as file:
        file.truncate(min(target.stat().st_size, kept_blocks * PAGE_BYTES))
        file.truncate(max(kept_blocks, *(block + 1 for block in blocks), 0) * PAGE_BYTES)
        for block in blocks:
            page = stream.take(PAGE_BYTES)
            checksum = google_crc32c.extend(checksum, page)
            file.seek(block * PAGE_BYTES)
            write_all(file, page)
    return checksum


def _parse_header(header: bytes, archive: str) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise _unreadable(archive, "is no tar archive") from error


def _safe_name(name: str, below: str, archive: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise _unreadable(archive, f"holds {name!r}, which would leave the data folder")
    return str(PurePosixPath(below) / path)


def _plain_name(name: str) -> str:
    folder, _, base = name.rpartition("/")
    plain = base.removeprefix(INCREMENTAL_PREFIX)
    return f"{folder}/{plain}" if folder else plain


def _manifest_path(entry: dict[str, Any]) -> str:
    if "Encoded-Path" in entry:
        return bytes.fromhex(entry["Encoded-Path"]).decode("utf-8", "surrogateescape")
    return str(entry["Path"])


def _crc(entry: dict[str, Any]) -> str:
    return str(entry.get("Checksum", "")).lower()


def _mend_label(path: Path) -> None:
    """As pg_combinebackup: without these lines the folder is a data folder again."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if not line.startswith(b"INCREMENTAL FROM ")))


def _unreadable(name: str, why: str) -> Damaged:
    return Damaged(
        f"expected an archive that can be unpacked, {name} {why}",
        code="archive-unreadable",
        hint=HINT,
    )
