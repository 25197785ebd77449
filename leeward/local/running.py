"""Which local clouds run on this machine, found by the state file in each one's folder."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.errors import BadInput, NotReady
from leeward.local.cloud import FOLDER_PREFIX, STATE_FILE


@dataclass(frozen=True)
class Running:
    """A cloud of this user: `environment` as LocalCloud.environment, `notes` what it deployed."""

    folder: Path
    pid: int
    started_at: str
    environment: dict[str, str]
    notes: dict[str, Any]


def find_running(folder: Path | None = None) -> Running:
    """The cloud in `folder`, or the one that runs.

    Raises:
        NotReady: code "no-cloud" when there is none.
        BadInput: code "several-clouds" when several run and none is named.
    """
    folders = [folder] if folder else list(Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"))
    found = [it for each in folders if (it := _read(each))]
    if not found:
        raise NotReady(
            f"no local cloud runs in {folder}" if folder else "no local cloud runs",
            hint="Start one with `leeward cloud up`.",
            code="no-cloud",
        )
    if len(found) > 1:
        each = (
            f"{it.folder} (process {it.pid}, since {it.started_at[:19]}Z)"
            for it in sorted(found, key=lambda it: it.started_at)
        )
        raise BadInput(
            f"expected one local cloud, {len(found)} run: {', '.join(each)}",
            hint="Name one by its folder: `leeward cloud env --state-dir FOLDER`.",
            code="several-clouds",
        )
    return found[0]


def _read(folder: Path) -> Running | None:
    with contextlib.suppress(OSError, json.JSONDecodeError):
        path = folder / STATE_FILE
        state = json.loads(path.read_text())
        if path.stat().st_uid == os.getuid() and _lives(state["pid"]):
            return Running(folder=folder, **state)
    return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
