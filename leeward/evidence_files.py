"""The files of an evidence bundle where an operator has them: in a folder, or in a zip of it."""

from __future__ import annotations

import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from chalicelib.errors import BadInput, Damaged, Tampered
from chalicelib.evidence.bundle import BUNDLE_NAME
from chalicelib.evidence.verify import Files

_CHUNK_BYTES = 1 << 20


def open_evidence(path: Path) -> Files:
    """Raises BadInput when there is nothing at `path`."""
    if path.is_dir():
        return FolderFiles(path)
    if path.is_file():
        return ZipFiles(path)
    raise BadInput(
        f"expected a folder or a zip at {path}, found nothing",
        hint="name the folder that holds bundle.json, or a zip of it",
    )


class FolderFiles:
    """Reads no file but plain ones below the folder; follows no link."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        found: list[str] = []
        for folder, folders, files in os.walk(self._root, onerror=_cannot_list):
            for name in [*folders, *files]:
                path = Path(folder, name)
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode):
                    found.append(path.relative_to(self._root).as_posix())
                elif not stat.S_ISDIR(mode):
                    raise _not_plain(path.relative_to(self._root).as_posix())
        return sorted(found)

    def read(self, name: str) -> Iterator[bytes]:
        try:
            with (self._root / name).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise _unreadable(name, error) from error


class ZipFiles:
    """A zip whose files lie at its top, or all in one folder of it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        names = sorted(self._entries)
        if len(set(names)) != len(self._infos):
            raise Tampered("the zip holds two files of one name", code="file-doubled")
        for info in self._infos:
            if stat.S_ISLNK(info.external_attr >> 16):
                raise _not_plain(info.filename)
        return names

    def read(self, name: str) -> Iterator[bytes]:
        try:
            with (
                zipfile.ZipFile(self._path) as archive,
                archive.open(self._entries[name]) as file,
            ):
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
        except _ZIP_ERRORS as error:
            raise _unreadable(name, error) from error

    @cached_property
    def _infos(self) -> list[zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                return [info for info in archive.infolist() if not info.is_dir()]
        except _ZIP_ERRORS as error:
            raise _unreadable(self._path.name, error) from error

    @cached_property
    def _entries(self) -> dict[str, zipfile.ZipInfo]:
        top = _common_folder([info.filename for info in self._infos])
        return {info.filename.removeprefix(top): info for info in self._infos}


# RuntimeError: an encrypted file, or a method that this Python lacks; the others: broken bytes.
_ZIP_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


def _common_folder(names: list[str]) -> str:
    tops = {name.partition("/")[0] for name in names}
    top = f"{min(tops)}/" if len(tops) == 1 else ""
    return top if f"{top}{BUNDLE_NAME}" in names else ""


def _cannot_list(error: OSError) -> None:
    raise _unreadable(str(error.filename), error) from error


def _unreadable(name: str, error: Exception) -> Damaged:
    return Damaged(f"{name} cannot be read: {type(error).__name__}", code="file-unreadable")


def _not_plain(name: str) -> Tampered:
    return Tampered(f"{name} is no plain file", code="not-a-plain-file")
