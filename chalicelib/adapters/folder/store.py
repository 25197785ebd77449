"""Objects as files below one folder; a file is complete and on disk before its name appears.

What a crash leaves lies in `.incoming/` and is no object.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from chalicelib.adapters.folder.marker import Marker
from chalicelib.adapters.folder.names import make_folders, sync_names
from chalicelib.adapters.folder.spelling import Spelling
from chalicelib.adapters.refusals import (
    access_denied,
    changed_meanwhile,
    exists,
    missing_object,
)
from chalicelib.adapters.sealing.key_names import KeyNames
from chalicelib.errors import BadInput, LeewardError, NotReady, Truncated, Unavailable
from chalicelib.plan.records import StoredObject
from chalicelib.ports import Listed, StoredFacts
from chalicelib.ports.durable import sync

CHUNK_BYTES = 1 << 20
INCOMING = ".incoming"
# Linux and macOS: a file's name 255 bytes, a path of macOS 1,024 with the folder's own.
NAMES = KeyNames(longest_bytes=3000, longest_segment_bytes=255)


class FolderObjectStore:
    """The port ObjectStore on a local folder, which the first write makes when it is missing.

    marker: of the location that it is in; where that has none, no folder is made. One that is there
    and holds something is no share that is not mounted.
    """

    encryption = "none (a local folder)"

    def __init__(self, root: Path, *, marker: Marker | None = None) -> None:
        self._root, self._marker = root, marker
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
        yield from self._read(key, 0)

    def read_on(self, key: str, start: int, *, version: str) -> Iterator[bytes]:
        if self.facts(key).version != version:
            raise changed_meanwhile(key)
        yield from self._read(key, start)

    def _read(self, key: str, start: int) -> Iterator[bytes]:
        with ExitStack() as stack:
            with _in_our_words(key):
                file = stack.enter_context(self._found(key).open("rb"))
                file.seek(start)
            while True:
                with _in_our_words(key):
                    chunk = file.read(CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

    def list(self, prefix: str = "") -> Iterator[Listed]:
        return NAMES.merged(prefix, self._rows)

    def delete(self, key: str) -> None:
        with suppress(Truncated), _in_our_words(key):
            path = self._found(key)
            path.unlink()
            self._spelling.forget(path.parent)

    def facts(self, key: str) -> StoredFacts:
        """A file system keeps no checksum."""
        with _in_our_words(key):
            found = self._found(key).stat()
        changed_at = datetime.fromtimestamp(found.st_mtime, UTC)
        return StoredFacts(found.st_size, changed_at, {}, f"{found.st_ino}-{found.st_mtime_ns}")

    def _rows(self, prefix: str) -> Iterator[Listed]:
        folder = prefix.rpartition("/")[0]
        with _in_our_words(prefix):
            kept = self._spelling.is_kept(self._root / folder)
        for name in self._files(folder) if kept else ():
            if not name.startswith(prefix):
                continue
            # What was removed since its name was read is not there.
            with suppress(Truncated), _in_our_words(name):
                found = (self._root / name).stat()
                yield Listed(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    @contextmanager
    def _writer(self, key: str, *, if_absent: bool) -> Iterator[_FileWriter]:
        target = self._path(key)
        with _writing(key):
            file = self._incoming(target)
        temporary = Path(file.name)
        try:
            with file:
                yield _FileWriter(key, file, temporary, target, self._spelling, if_absent=if_absent)
        finally:
            temporary.unlink(missing_ok=True)

    def _incoming(self, target: Path) -> IO[bytes]:
        """A new file beside all names, once there is room for its own."""
        incoming = self._root / INCOMING
        if not incoming.exists():
            if self._marker is not None and not self._root.exists():
                self._marker.require()
            make_folders(incoming)
            self._spelling = Spelling(self._root, INCOMING)
        make_folders(target.parent)
        if not self._spelling.is_kept(target.parent):
            raise FileExistsError
        return tempfile.NamedTemporaryFile(dir=incoming, delete=False)  # noqa: SIM115

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
            with _in_our_words(folder):
                entries = list(os.scandir(self._root / folder))
                names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
        except Truncated:
            return
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
        with _writing(self._key):
            self._file.write(data)

    def commit(self) -> StoredObject:
        with _writing(self._key):
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
def _in_our_words(key: str) -> Iterator[None]:
    """What the system says of a file that is read, as every other store says it."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise missing_object(key) from error
    except OSError as error:
        raise _refusal(key, error) from error


@contextmanager
def _writing(key: str) -> Iterator[None]:
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
    except OSError as error:
        raise _refusal(key, error) from error


def _refusal(key: str, error: OSError) -> LeewardError:
    """A share that hangs or went, a disk that fails: none of it says that an object is missing."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotReady(
            "expected room for the object, the disk is full",
            code="no-disk-space",
            hint="Free space there, or name a folder on a larger disk.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return access_denied("the file system", key or "the folder")
    return Unavailable(
        f"expected the disk to answer for {key or 'the folder'}, found "
        f"{os.strerror(error.errno or 0).lower()}",
        code="disk-silent",
        hint="Look whether it is mounted, and at the kernel's log.",
    )
