"""What the plan's schedules do: base backups, WAL, the watch of the source.

Each publishes `Taken.<kind>` when it has done its work, so that a schedule which stays silent, or
fails, is an alarm; and `DamageSigns`, which starts the plan's scenario for damage. `WalBehind` is 1
while the slot makes the server keep more than its max_wal_size right after a fetch, and
`ServerReplaced` while another cluster answers than the one that is stored.
"""

from __future__ import annotations

from typing import Any

from chalicelib.backup.base_backup import take_backup
from chalicelib.backup.wal_fetch import fetch_wal as fetch_wal_now
from chalicelib.backup.wal_fetch import repair_gap
from chalicelib.evidence.text import counted
from chalicelib.plan.records import DatabasePoint, DatabasePointKind, WalTick, format_lsn
from chalicelib.services import build


def back_up(component: str, kind: DatabasePointKind) -> dict[str, Any]:
    """Take a base backup. Pages that fail their checksum are signs of damage."""
    build.require_live(component, build.database(component))
    with build.source(component) as source:
        point = take_backup(
            source,
            build.backups(component),
            build.catalogue(component),
            component=component,
            kind=kind,
            clock=build.clock(),
        )
    taken = {f"Taken.{point.kind}": 1.0, f"Taken.{kind}": 1.0}
    failures = float(len(point.checksum_failures))
    build.metrics().put(component, taken | {"DamageSigns": failures})
    return {"point": point.id, "found": _tell_point(point)}


def fetch_wal(component: str) -> dict[str, Any]:
    """Store the WAL since the last tick; after a gap, make the component restorable again. The
    first one takes a full backup, without which no WAL leads anywhere.

    Raises Refused: code "retired"; "other-system" or "other-history", when the server was replaced.
    """
    build.require_live(component, build.database(component))
    ports = build.backups(component), build.catalogue(component)
    first = not build.catalogue(component).wal_progress()
    with build.source(component) as source:
        tick = fetch_wal_now(source, *ports, component=component, clock=build.clock())
        signs = {"ServerReplaced": float(tick.replaced)}
        signs |= {"WalGaps": float(tick.gap and not tick.replaced)}
        if not tick.gap:
            signs |= {"Taken.wal": 1.0, "WalBehind": float(tick.behind)}
            build.metrics().put(component, signs)
            if first and not build.catalogue(component).holdings().standings:
                base = back_up(component, "full")["found"]
                return {"gap": False, "found": f"{tell_tick(tick)}; the first {base}"}
            return {"gap": False, "found": tell_tick(tick)}
        build.metrics().put(component, signs)
        point = repair_gap(source, *ports, component=component, clock=build.clock())
    build.metrics().put(component, {"Taken.wal": 1.0, "Taken.full": 1.0})
    gaps = "; ".join(finding.found for finding in tick.findings)
    return {"gap": True, "found": f"GAP: {gaps}; new slot, {_tell_point(point)}"}


def _tell_point(point: DatabasePoint) -> str:
    megabytes = point.stored_bytes / 1e6
    note = f" ({point.note})" if point.note else ""
    bad = f"; {len(point.checksum_failures)} PAGES FAIL" if point.checksum_failures else ""
    return f"{point.kind} backup {point.id}, {megabytes:.1f} MB stored{note}{bad}"


def tell_tick(tick: WalTick) -> str:
    """And what it found besides: without a map of the tables, say, a dropped one has no name."""
    stored = counted(tick.segments, "segment")
    found = "".join(f"; {finding.code.upper()}: {finding.found}" for finding in tick.findings)
    slot = f"slot {tick.slot_status}{' without a limit' if tick.safe_bytes is None else ''}"
    behind = "; BEHIND: the server keeps more WAL than its max_wal_size" if tick.behind else ""
    return f"WAL stored up to {format_lsn(tick.end_lsn)}, {stored}, {slot}{behind}{found}"
