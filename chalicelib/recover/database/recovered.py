"""A moment brought back in one go: restored and replayed, and a server that answers with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chalicelib.plan.records import RecoveryTarget
from chalicelib.ports import DatabaseServer
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.replay import Replayed, replaying
from chalicelib.recover.database.restore import Restored, restore_and_list


@dataclass(frozen=True)
class Recovered:
    """What was restored, how far it was replayed, and the running server that did."""

    restored: Restored
    replayed: Replayed
    server: DatabaseServer


@contextmanager
def recovered(means: Means, target: RecoveryTarget, folder: Path) -> Iterator[Recovered]:
    """The server answers inside and is stopped in order at the end; the folder stays.

    Raises as `restore` and `replaying`.
    """
    restored, wal = restore_and_list(means, target, folder)
    with replaying(means, restored, folder, wal=wal) as opened:
        yield Recovered(restored, *opened)
