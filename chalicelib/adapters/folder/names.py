"""Names of files and folders on the disk: a synced file may still lose its own."""

from __future__ import annotations

import os
from pathlib import Path

from chalicelib.ports.durable import sync


def sync_names(folder: Path) -> None:
    """The names of what lies directly in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def make_folders(folder: Path) -> None:
    """The folder and those above it that are missing, with their names."""
    missing = [it for it in (folder, *folder.parents) if not it.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for it in missing:
        sync_names(it.parent)
