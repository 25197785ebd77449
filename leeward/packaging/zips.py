"""Zips whose bytes follow from their content, with bytecode beside every module."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a zip: the same content must be the same bytes."""


def compile_tree(folder: Path) -> None:
    """Put bytecode beside every module: Lambda's folder of code is read-only, so that without it
    each cold start would compile all that it imports.

    Valid without looking at the source (unchecked hash), and the same for the same source: it names
    where that lies in Lambda, not where it was compiled.
    """
    command = [sys.executable, "-S", "-m", "compileall", "-q", "-j", "0"]
    command += ["-s", str(folder), "-p", "/var/task"]
    subprocess.run(
        [*command, "--invalidation-mode", "unchecked-hash", str(folder)],
        cwd="/",
        env={"PYTHONHASHSEED": "0"},
        capture_output=True,
        check=True,
    )


def write_tree(folder: Path, archive: Path) -> None:
    """A zip of a folder: the same content gives the same bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target:
        for path in sorted(it for it in folder.rglob("*") if it.is_file()):
            add_file(target, str(path.relative_to(folder)), path.read_bytes())


def join_zips(target: Path, first: Path, second: Path) -> None:
    """The first as it is, and after it the files of the second, in the order of their names."""
    shutil.copyfile(first, target)
    with zipfile.ZipFile(second) as source, zipfile.ZipFile(target, "a") as archive:
        for name in sorted(source.namelist()):
            add_file(archive, name, source.read(name))


def add_file(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o100644 << 16
    archive.writestr(entry, data)
