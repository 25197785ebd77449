"""Which of several spellings a file has, where the file system takes them for one name.

Without it, on macOS an object `A` would be written over by one called `a`, and read as it.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDERS_KNOWN = 64


class Spelling:
    """Of the names below `root`. `known`: a name in it that has small letters."""

    def __init__(self, root: Path, known: str) -> None:
        self._root = root
        self._folds = os.path.exists(root / known.upper())
        self._names: dict[Path, frozenset[str]] = {}

    def is_kept(self, path: Path) -> bool:
        """False when what `path` finds is called otherwise, or when it finds nothing; True where
        names are not folded."""
        return not self._folds or all(
            self._has(it.parent, it.name)
            for it in (path, *path.parents)
            if it.is_relative_to(self._root) and it != self._root
        )

    def is_free(self, path: Path) -> bool:
        """Whether nothing has the name, however spelled; False where names are not folded."""
        return self._folds and not os.path.lexists(path)

    def forget(self, folder: Path) -> None:
        """A name in it is gone."""
        self._names.pop(folder, None)

    def _has(self, folder: Path, name: str) -> bool:
        if name in self._names.get(folder, ()):
            return True
        if len(self._names) >= FOLDERS_KNOWN:
            self._names.clear()
        self._names[folder] = names = frozenset(os.listdir(folder) if folder.is_dir() else ())
        return name in names
