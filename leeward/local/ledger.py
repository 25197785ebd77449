"""The sample application's own ledger against what was recovered: the drill's ground truth.

A row that the application was told is committed must be in the recovered database or in the
set-aside file; in neither, it is lost. A row that was committed before the damage and is only set
aside was not recovered either: the recovery went back too far.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg


@dataclass(frozen=True)
class Reckoning:
    """Counts of committed transactions; `lost` and `too_far` name the assets (at most 20). A ledger
    without one proves nothing."""

    committed: int
    recovered: int
    set_aside: int
    lost: tuple[str, ...]
    too_far: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return self.committed > 0 and not self.lost and not self.too_far


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """Every complete line; a line that was cut off by the end of the application is left out."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def reckon(
    ledger: Iterable[dict[str, Any]],
    *,
    dsn: str,
    set_aside_assets: set[str],
    damaged_at: datetime | None,
    damaged_database: str,
) -> Reckoning:
    """Look up every committed asset of the ledger.

    Args:
        dsn: of the database that the application uses now.
        set_aside_assets: paths of assets in the set-aside file.
        damaged_at: when the drill began its damage; None when it harmed no data.
        damaged_database: entries written to it after the damage may be set aside; to no other.
    """
    entries = list(ledger)
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT path FROM assets").fetchall()
    present = {row[0] for row in rows}
    missing = [entry for entry in entries if entry["asset"] not in present]
    aside = [entry for entry in missing if entry["asset"] in set_aside_assets]
    lost = [entry for entry in missing if entry["asset"] not in set_aside_assets]
    too_far = [
        entry
        for entry in aside
        if entry["database"] != damaged_database
        or (damaged_at and datetime.fromisoformat(entry["committed_at"]) < damaged_at)
    ]
    return Reckoning(
        committed=len(entries),
        recovered=len(entries) - len(missing),
        set_aside=len(aside),
        lost=tuple(entry["asset"] for entry in lost[:20]),
        too_far=tuple(entry["asset"] for entry in too_far[:20]),
    )
