"""What initdb makes, made once in a process for each name of a server and copied from then on: half
a second of processor time for each stage of a scenario.

The servers of one cloud have names of their own, and so each its own identity, as PostgreSQL's
clusters have; that of two clouds which come one after the other, nobody compares.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from leeward.local.production import SUPERUSER, Production

# By the name of the server's folder: a data folder that never ran, and its superuser's password.
_made: dict[str, tuple[Path, str]] = {}


def copied_once_made(make: Callable[[Production], None]) -> Callable[[Production], None]:
    """In place of Production._create_data."""

    def create_data(self: Production) -> None:
        name = self.folder.name
        if name not in _made:
            make(self)
            _made[name] = _keep(self.data_dir), self._passwords[SUPERUSER]
            return
        data, self._passwords[SUPERUSER] = _made[name]
        self.account.own(self.folder)
        _copy(data, self.data_dir)

    return create_data


def _keep(data: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="leeward-initdb-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _copy(data, folder / "data")
    return folder / "data"


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)
