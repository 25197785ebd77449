"""What costs time is made once: a folder in build/cache by the digest of all it was made from.

The time of a folder tells when it was last asked for. Of each kind the newest stay, and those that
somebody may still read.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "cache"
MAKERS = ("application.py", "libraries.py", "zips.py")
"""The modules beside this one whose code decides what is in a folder."""
KEPT_FOLDERS = 8
READ_SECONDS = 600.0
"""Within which whoever was given a folder has read it: packaging takes seconds."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached(kind: str, digest: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills for `digest`, made once; a folder that exists is complete."""
    folder = CACHE / f"{kind}-{digest[:24]}"
    with locked(CACHE / f"{kind}.lock"):
        if not folder.exists():
            part = CACHE / f"{kind}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            make(part)
            part.rename(folder)
            _remove_old(kind)
        os.utime(folder)
    return folder


def _remove_old(kind: str) -> None:
    """All but the newest, of those that were not asked for lately. A folder loses its name before
    its files: one that is half gone must not be found."""
    found = {it: it.stat().st_mtime for it in CACHE.glob(f"{kind}-*")}
    oldest_first = sorted(found, key=lambda it: found[it])
    for folder in oldest_first[:-KEPT_FOLDERS]:
        if found[folder] < time.time() - READ_SECONDS:
            shutil.rmtree(folder.rename(CACHE / f"{kind}.part"), ignore_errors=True)


def digest_of(*parts: bytes | str) -> str:
    """Of what a folder is made from; the tools and the code that make it are always of it."""
    digest = hashlib.sha256()
    tools = (version("chalice"), version("aws-sam-translator"), sys.version)
    makers = (Path(__file__).with_name(name).read_bytes() for name in MAKERS)
    for part in (*parts, *tools, *makers):
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8) + data)
    return digest.hexdigest()
