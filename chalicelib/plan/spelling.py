"""Names that differ by case alone, or by the form of a letter: macOS and Windows take them for one.

What is restored onto such a file system would silently be one of two files. Nothing of it is lost:
the point is sound, and comes back whole elsewhere.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from chalicelib.errors import NotReady


def folded(name: str) -> str:
    """What is equal for names of one file. Source: Unicode 3.13, D147, canonical caseless match."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def first_alike(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two paths, or folders of such, that are one on a file system which folds names."""
    known: dict[str, str] = {}
    for path in _with_folders(paths):
        other = known.setdefault(folded(path), path)
        if other != path:
            return other, path
    return None


def names_alike(first: str, second: str, folder: Path) -> NotReady:
    return NotReady(
        f"expected a file system below {folder} that tells {first!r} and {second!r} apart, "
        "found one that takes them for one name",
        code="names-alike",
        hint="Restore onto one that is case-sensitive: Linux's, or a volume of macOS made so.",
    )


def _with_folders(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        yield path
        while "/" in path:
            path = path.rpartition("/")[0]
            yield path
