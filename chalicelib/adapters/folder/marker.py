"""The mark of a location in a folder, by which an unmounted share is told from an empty one.

Where a share is not mounted its folder is there, empty, on the machine's own disk: what is written
into it is stored where nobody wants it, and goes with the machine.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from chalicelib.adapters.folder.names import make_folders, sync_names
from chalicelib.errors import BadInput, NotReady, Unavailable
from chalicelib.ports.durable import sync

MARKER = ".leeward-location"


class Marker:
    """Of the location `name` in `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    def require(self) -> None:
        """Before anything is made in the folder.

        Raises:
            NotReady: code "not-mounted": there is no folder, or one without the mark.
            BadInput: code "other-location". Unavailable: code "disk-silent".
        """
        if not self._is_marked():
            found = "a folder that was never set up for it" if self._folder.exists() else "none"
            raise NotReady(
                f"expected the folder {self._folder} of location {self._name}, found {found}",
                code="not-mounted",
                hint=f"Mount it there. If it is new: `leeward locations init {self._name}`.",
            )

    def write(self) -> bool:
        """Make the folder where it is missing, and mark it; False when it was marked already.

        Raises:
            BadInput: code "other-location".
            NotReady: code "not-writable". Unavailable: code "disk-silent".
        """
        if self._is_marked():
            return False
        try:
            make_folders(self._folder)
            with (self._folder / MARKER).open("x") as file:
                file.write(json.dumps({"location": self._name}) + "\n")
                file.flush()
                sync(file.fileno())
            sync_names(self._folder)
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise NotReady(
                f"expected to write to {self._folder}, could not: {why}",
                code="not-writable",
                hint="Name a folder that can be made, has room, and is yours.",
            ) from error
        return True

    def _is_marked(self) -> bool:
        try:
            told = json.loads((self._folder / MARKER).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise Unavailable(
                f"expected the disk to answer for {self._folder}, found "
                f"{os.strerror(error.errno or 0).lower()}",
                code="disk-silent",
                hint="Look whether it is mounted and may be read, and at the kernel's log.",
            ) from error
        except ValueError:
            told = None
        name = told.get("location") if isinstance(told, dict) else None
        if name != self._name:
            raise BadInput(
                f"expected location {self._name} at {self._folder}, found that of {name!r}",
                code="other-location",
                hint=f"Mount the right share, or correct the path. Was it renamed? Remove {MARKER} "
                "in it, and set it up anew.",
            )
        return True
