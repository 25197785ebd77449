"""Objects as files below one folder; a file is complete and on disk before its name appears.

What a crash leaves lies in `.incoming/` and is no object.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from chalicelib.adapters.folder.names import make_folders, sync_names
from chalicelib.adapters.folder.spelling import Spelling
from chalicelib.adapters.refusals import changed_meanwhile, exists, missing_object
from chalicelib.adapters.sealing.key_names import KeyNames
from chalicelib.errors import BadInput, NotReady
from chalicelib.plan.records import StoredObject
from chalicelib.ports import Listed, StoredFacts
from chalicelib.ports.durable import sync

CHUNK_BYTES = 1 << 20
INCOMING = ".incoming"
# Linux and macOS: a file's name 255 bytes, a path of macOS 1,024 with the folder's own.
NAMES = KeyNames(longest_bytes=3000, longest_segment_bytes=255)


class FolderObjectStore:
    """The port ObjectStore on a local folder, which is created when missing."""

    encryption = "none (a local folder)"

    def __init__(self, root: Path) -> None:
        self._root = root
        make_folders(root / INCOMING)
        self._spelling = Spelling(root, INCOMING)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        with self._writer(key, if_absent=if_absent) as writer:
            writer.write(data)
            return writer.commit()

    @contextmanager
    def open_writer(self, key: str) -> Iterator[_FileWriter]:
        with self._writer(key, if_absent=False) as writer:
            yield writer

    def get(self, key: str) -> bytes:
        return b"".join(self.read(key))

    def read(self, key: str) -> Iterator[bytes]:
        try:
            file = self._found(key).open("rb")
        except OSError as error:
            raise missing_object(key) from error
        with file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def read_on(self, key: str, start: int, *, version: str) -> Iterator[bytes]:
        if self.facts(key).version != version:
            raise changed_meanwhile(key)
        with self._found(key).open("rb") as file:
            file.seek(start)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def list(self, prefix: str = "") -> Iterator[Listed]:
        return NAMES.merged(prefix, self._rows)

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            path = self._found(key)
            path.unlink()
            self._spelling.forget(path.parent)

    def facts(self, key: str) -> StoredFacts:
        """A file system keeps no checksum."""
        try:
            found = self._found(key).stat()
        except OSError as error:
            raise missing_object(key) from error
        changed_at = datetime.fromtimestamp(found.st_mtime, UTC)
        return StoredFacts(found.st_size, changed_at, {}, f"{found.st_ino}-{found.st_mtime_ns}")

    def _rows(self, prefix: str) -> Iterator[Listed]:
        folder = prefix.rpartition("/")[0]
        if not self._spelling.is_kept(self._root / folder):
            return
        for name in self._files(folder):
            if name.startswith(prefix):
                found = (self._root / name).stat()
                yield Listed(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    @contextmanager
    def _writer(self, key: str, *, if_absent: bool) -> Iterator[_FileWriter]:
        target = self._path(key)
        with _clear_when_full(), _clear_when_a_folder(key):
            make_folders(target.parent)
            if not self._spelling.is_kept(target.parent):
                raise FileExistsError
            handle, temporary = tempfile.mkstemp(dir=self._root / INCOMING)
            try:
                with open(handle, "wb") as file:
                    yield _FileWriter(
                        key, file, Path(temporary), target, self._spelling, if_absent=if_absent
                    )
            finally:
                Path(temporary).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._root / NAMES.name(key)

    def _found(self, key: str) -> Path:
        path = self._path(key)
        if not self._spelling.is_kept(path):
            raise FileNotFoundError
        return path

    def _files(self, folder: str) -> Iterator[str]:
        """In byte order: a folder sorts as its name with a slash behind it."""
        try:
            entries = list(os.scandir(self._root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
        for name in sorted(names, key=str.encode):
            path = f"{folder}/{name}" if folder else name
            if name.endswith("/"):
                yield from self._files(path[:-1]) if name != f"{INCOMING}/" else ()
            else:
                yield path


class _FileWriter:
    def __init__(
        self,
        key: str,
        file: IO[bytes],
        temporary: Path,
        target: Path,
        spelling: Spelling,
        *,
        if_absent: bool,
    ) -> None:
        self._key, self._file, self._if_absent = key, file, if_absent
        self._spelling = spelling
        self._temporary, self._target = temporary, target
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._digest.update(data)
        self._size_bytes += len(data)
        self._file.write(data)

    def commit(self) -> StoredObject:
        self._file.flush()
        sync(self._file.fileno())
        self._give_name()
        sync_names(self._target.parent)
        return StoredObject(self._key, self._size_bytes, self._digest.hexdigest())

    def _give_name(self) -> None:
        """A link takes no name that is there; a rename would take one that is spelled otherwise."""
        if not self._if_absent and not self._spelling.is_free(self._target):
            self._replace()
            return
        try:
            os.link(self._temporary, self._target)
        except FileExistsError as error:
            if not self._if_absent:
                self._replace()
            elif self._spelling.is_kept(self._target):
                raise exists(self._key) from error
            else:
                raise

    def _replace(self) -> None:
        if not self._spelling.is_kept(self._target):
            raise FileExistsError(self._target)
        os.replace(self._temporary, self._target)


@contextmanager
def _clear_when_a_folder(key: str) -> Iterator[None]:
    """A folder cannot hold both `a` and `a/b`, as a bucket can, and on macOS not `a` and `A`."""
    try:
        yield
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise BadInput(
            f"expected {key!r} to be free, found a file or folder in its way",
            code="key-taken",
            hint="Use a bucket for keys of which one begins another, or that differ by case alone.",
            key=key,
        ) from error


@contextmanager
def _clear_when_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NotReady(
                "expected room for the object, the disk is full",
                code="no-disk-space",
                hint="Free space there, or name a folder on a larger disk.",
            ) from error
        raise
