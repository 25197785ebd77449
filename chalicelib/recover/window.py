"""Which recovery points lead to a moment: pure choice over what a catalogue says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from chalicelib.errors import BadInput, Damaged, OutsideWindow, Quarantined
from chalicelib.plan.records import (
    DatabasePoint,
    RecoveryTarget,
    Window,
    format_lsn,
    format_time,
    parse_time,
)
from chalicelib.ports import Inventory, RejectedPoint


@dataclass(frozen=True)
class Chain:
    """A full backup and the incrementals on it, oldest first, in the window they recover in."""

    points: tuple[DatabasePoint, ...]
    window: Window

    @property
    def start_lsn(self) -> int:
        """Replay reads WAL from here."""
        return self.points[-1].start_lsn


@dataclass(frozen=True)
class Choice:
    """`chains`, the newest usable first; `rejected`: every other point, with the reason."""

    chains: tuple[Chain, ...]
    rejected: tuple[RejectedPoint, ...]


def choose_points(inventory: Inventory, target: RecoveryTarget) -> Choice:
    """The chains from which recovery can reach `target`, newest first.

    Pure. A chain counts when its last backup ended before the target and the WAL from its start
    to the target is stored without a gap, on the target's timeline history.

    Raises:
        Quarantined: every point is, and why.
        Damaged: code "no-clean-point", when no chain is clean, or none ended before the target.
        OutsideWindow: the target lies in no recoverable window; the windows are named.
    """
    _require_free_point(inventory)
    by_id = {point.id: point for point in inventory.points}
    _require_clean_chain(inventory, by_id, target)
    window = find_window(inventory.windows, target)
    chains: list[Chain] = []
    rejected = list(inventory.rejected)
    for point in sorted(inventory.points, key=lambda point: point.end_lsn, reverse=True):
        reason = _why_not(point, by_id, inventory, window, target)
        if reason:
            rejected.append(RejectedPoint(point.id, *reason))
        else:
            chains.append(Chain(tuple(_chain(point, by_id)), window))
    if not chains:
        raise _no_clean_point(target, rejected)
    return Choice(tuple(chains), tuple(rejected))


def newest_moment(inventory: Inventory) -> datetime | None:
    """The newest moment to which a clean chain leads; None when none leads anywhere."""
    return max((window.end_at for window in inventory.windows), default=None)


def _require_free_point(inventory: Inventory) -> None:
    """Without one there is no window either, and the windows would be what is complained of."""
    quarantined = [it for it in inventory.rejected if it.code == Quarantined.code]
    if quarantined and not inventory.points:
        told = "; ".join(f"{it.point_id} is {it.reason}" for it in quarantined)
        raise Quarantined(
            f"expected a recovery point that may be restored, found only quarantined ones: {told}",
            hint="Look for an older point in another location; nothing of these is ever restored.",
            points=[it.point_id for it in quarantined],
        )


def _require_clean_chain(
    inventory: Inventory, by_id: dict[str, DatabasePoint], target: RecoveryTarget
) -> None:
    """Without one there is no window either."""
    why = {point.id: _why_broken(_chain(point, by_id)) for point in inventory.points}
    broken = [RejectedPoint(name, *reason) for name, reason in why.items() if reason]
    if why and len(broken) == len(why):
        raise _no_clean_point(target, [*inventory.rejected, *broken])


def _no_clean_point(target: RecoveryTarget, rejected: Iterable[RejectedPoint]) -> Damaged:
    return Damaged(
        f"expected a clean recovery point before {describe(target)}, found none",
        code="no-clean-point",
        hint="Copy points back from another location, or choose an earlier moment.",
        rejected=[f"{item.point_id}: {item.reason}" for item in rejected],
    )


def find_window(windows: tuple[Window, ...], target: RecoveryTarget) -> Window:
    """The window that holds the target. For "time" and "end" the youngest timeline counts.

    Raises:
        OutsideWindow: naming all windows.
        BadInput: an "xid" without the LSN that bounds it.
    """
    if target.kind == "xid" and target.lsn == 0:
        raise BadInput(
            "expected the LSN of the transaction to recover to, found none",
            code="target-without-lsn",
            hint="Give the transaction's LSN with its number, or a time.",
        )
    fitting = [window for window in windows if _holds(window, target)]
    if not fitting:
        spans = "; ".join(describe_window(window) for window in windows)
        raise OutsideWindow(
            f"expected a moment within {spans or 'a recoverable window (there is none)'}, "
            f"found {describe(target)}",
            hint="Choose a moment inside one of these windows.",
            windows=[window.to_json() for window in windows],
        )
    return max(fitting, key=lambda window: (window.timeline, window.end_lsn))


def describe(target: RecoveryTarget) -> str:
    if target.kind == "end":
        return "the end of the WAL"
    return f"{target.kind} {target.value}"


def describe_window(window: Window) -> str:
    return (
        f"{format_time(window.start_at)} to {format_time(window.end_at)} "
        f"({format_lsn(window.start_lsn)} to {format_lsn(window.end_lsn)}, "
        f"timeline {window.timeline})"
    )


def target_time(target: RecoveryTarget) -> datetime:
    """Raises BadInput when a "time" target is no time with an offset."""
    try:
        return parse_time(target.value)
    except ValueError as error:
        raise BadInput(
            f"expected a time with an offset, found {target.value!r}",
            code="bad-target-time",
            hint="Write it as 2026-11-22T08:30:00Z.",
        ) from error


def _holds(window: Window, target: RecoveryTarget) -> bool:
    if target.kind == "end":
        return True
    if target.kind == "time":
        return window.start_at <= target_time(target) <= window.end_at
    return window.timeline == target.timeline and window.start_lsn <= target.lsn <= window.end_lsn


def _why_not(
    point: DatabasePoint,
    by_id: dict[str, DatabasePoint],
    inventory: Inventory,
    window: Window,
    target: RecoveryTarget,
) -> tuple[str, str] | None:
    """(code, reason), or None when recovery to the target may start from this point."""
    if broken := _why_broken(_chain(point, by_id)):
        return broken
    if not window.start_lsn <= point.end_lsn <= window.end_lsn:
        return "no-wal", "the WAL from it to the target is not stored without a gap"
    if not _on_the_way(point, inventory, window):
        return "other-timeline", f"it is on timeline {point.timeline}, off the target's history"
    if _ends_after(point, target):
        return "after-target", f"it was finished at {format_time(point.finished_at)}"
    return None


def _why_broken(chain: list[DatabasePoint]) -> tuple[str, str] | None:
    if chain[0].kind != "full":
        return "chain-broken", f"its chain needs {chain[0].parent_id}, which cannot be used"
    failed = next((item for item in chain if item.checksum_failures), None)
    if failed:
        return "checksum-failures", f"pages failed in {failed.id}: {failed.checksum_failures[0]}"
    return None


def _chain(point: DatabasePoint, by_id: dict[str, DatabasePoint]) -> list[DatabasePoint]:
    """Oldest first; begins with an incremental when a parent cannot be used."""
    chain = [point]
    while chain[0].parent_id in by_id and chain[0].kind == "incremental":
        chain.insert(0, by_id[chain[0].parent_id or ""])
    return chain


def _on_the_way(point: DatabasePoint, inventory: Inventory, window: Window) -> bool:
    left_at = dict(inventory.wal.histories.get(window.timeline, ())).get(point.timeline)
    return point.timeline == window.timeline or (left_at is not None and point.end_lsn <= left_at)


def _ends_after(point: DatabasePoint, target: RecoveryTarget) -> bool:
    if target.kind == "end":
        return False
    if target.kind == "time":
        return point.finished_at >= target_time(target)
    return point.end_lsn > target.lsn
