"""Recovery points as facts alone: nothing of them lies in any store."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from chalicelib.plan.records import DatabasePoint, PointStanding, RecoveryPoint, StoredObject

SEGMENT = 16 << 20


def standing(
    at: datetime,
    *,
    component: str = "db",
    parent: PointStanding | None = None,
    size_bytes: int = 1000,
) -> PointStanding:
    kind = "incremental" if parent else "full"
    point_id = f"{at:%Y%m%dT%H%M%SZ}-{'incr' if parent else 'full'}"
    point = RecoveryPoint(
        id=point_id,
        component=component,
        kind=kind,  # type: ignore[arg-type]
        taken_at=at,
        finished_at=at,
        objects=(StoredObject(f"points/{point_id}/base.tar.zst", size_bytes, "0" * 64),),
        source_bytes=size_bytes,
        encryption="none",
        parent_id=parent.point.id if parent else None,
    )
    return PointStanding(point=point)


def database_standing(
    at: datetime,
    *,
    start_lsn: int = 0,
    end_lsn: int = 100,
    timeline: int = 1,
    parent: str | None = None,
    finished_at: datetime | None = None,
    **more: Any,
) -> PointStanding:
    kind = "incr" if parent else "full"
    point_id = f"{at:%Y%m%dT%H%M%SZ}-{kind}"
    point = DatabasePoint(
        id=point_id,
        component="db",
        kind="incremental" if parent else "full",
        taken_at=at,
        finished_at=finished_at or at + timedelta(minutes=5),
        objects=(StoredObject(f"points/{point_id}/base.tar.zst", 1000, "0" * 64),),
        source_bytes=1000,
        encryption="none",
        parent_id=parent,
        system_id="1",
        server_version=170010,
        timeline=timeline,
        start_lsn=start_lsn,
        end_lsn=end_lsn,
        **more,
    )
    return PointStanding(point=point)
