"""A file system that keeps names and finds them in any case and form, as that of a Mac does."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chalicelib.plan.spelling import folded

# Which of the positional arguments are paths.
PATHS = dict.fromkeys(
    ("open", "stat", "lstat", "mkdir", "unlink", "scandir", "listdir", "chmod"), (0,)
) | {"rename": (0, 1), "replace": (0, 1), "link": (0, 1), "symlink": (1,)}  # fmt: skip
NOT_UTF8 = 84  # EILSEQ


@contextmanager
def folding(folder: Path) -> Iterator[None]:
    """For calls of this process. Nothing is changed where the disk itself folds names."""
    (folder / "probe").touch()
    itself = (folder / "PROBE").exists()
    (folder / "probe").unlink()
    with pytest.MonkeyPatch.context() as patch:
        if not itself:
            listdir = os.listdir
            for module, name in ((os, it) for it in PATHS):
                patch.setattr(module, name, _folded(getattr(module, name), name, listdir))
            patch.setattr(io, "open", _folded(io.open, "open", listdir))
        yield


def _folded(call: Callable[..., Any], name: str, listdir: Callable[..., Any]) -> Callable[..., Any]:
    def of_any_case(*arguments: Any, **options: Any) -> Any:
        found = list(arguments)
        for number in PATHS[name]:
            if number < len(found) and not isinstance(found[number], int):
                side = "src_dir_fd" if number == 0 and "src_dir_fd" in options else "dst_dir_fd"
                base = options.get("dir_fd", options.get(side))
                found[number] = _find(os.fsencode(found[number]), base, listdir)
        return call(*found, **options)

    return of_any_case


def _find(path: bytes, base: int | None, listdir: Callable[..., Any]) -> str:
    """The path as it is spelled on the disk, as far as it is there."""
    try:
        path.decode()
    except UnicodeDecodeError as error:
        raise OSError(NOT_UTF8, "not a name", path) from error
    here = "/" if path.startswith(b"/") else ""
    for step in filter(None, path.decode().split("/")):
        try:
            there = listdir(here or (base if base is not None else "."))
        except OSError:
            there = []
        alike = [it for it in there if folded(it) == folded(step)]
        here = os.path.join(here, step if step in there or not alike else alike[0])
    return here
