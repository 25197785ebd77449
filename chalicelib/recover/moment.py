"""The moment that a person names, checked before anything is touched. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from chalicelib.errors import BadInput
from chalicelib.plan.records import (
    RecoveryTarget,
    format_lsn,
    format_time,
    parse_lsn,
    parse_time,
)
from chalicelib.recover.database.changes import ChangeScan, Transaction

FIRST_NORMAL_XID = 3  # access/transam.h
LAST_XID = 2**32 - 1


def parse_moment(text: str, *, timeline: int, now: datetime) -> RecoveryTarget:
    """ "742" or "xid 742", "0/16B3748", "2026-11-22T08:30:00Z" or "end" -> a target.

    Raises:
        BadInput: code "bad-moment" when it is none of these, has no time zone or lies ahead.
    """
    kind, _, value = text.strip().rpartition(" ")
    if value == "end":
        return RecoveryTarget("end", "", timeline=timeline)
    if kind in ("", "xid") and value.isdigit():
        return _xid_target(value, timeline)
    if kind in ("", "lsn") and re.fullmatch(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}", value):
        return RecoveryTarget("lsn", value.upper(), lsn=parse_lsn(value), timeline=timeline)
    return _time_target(text.strip(), timeline, now)


def named_transactions(text: str) -> frozenset[int]:
    """The transaction that a person names, to be kept by a ChangeScan however little it did."""
    value = text.strip().removeprefix("xid ").strip()
    return frozenset({int(value)}) if value.isdigit() else frozenset()


def target_before(xid: int, commit_lsn: int, acts_at: int, timeline: int) -> RecoveryTarget:
    """The instant before a transaction: its commit, or where it acts without one (a Transaction's
    `acts_at`). By then it has changed nothing that anybody saw, and nobody works in a database that
    is dropped."""
    if acts_at:
        return RecoveryTarget("lsn", format_lsn(acts_at), acts_at, timeline)
    return RecoveryTarget("xid", str(xid), commit_lsn, timeline)


def place_target(target: RecoveryTarget, transactions: list[Transaction]) -> RecoveryTarget:
    """The same target with the LSN of its commit, which says which backups lie before it.

    Raises:
        BadInput: code "no-such-transaction", when the WAL holds no such commit.
    """
    if target.kind != "xid":
        return target
    for transaction in transactions:
        if transaction.xid == int(target.value):
            lsns = transaction.commit_lsn, transaction.acts_at
            return target_before(transaction.xid, *lsns, target.timeline)
    raise BadInput(
        f"expected a transaction that committed in the stored WAL, found no xid {target.value}",
        code="no-such-transaction",
        hint="Name one of the alternatives of the record, an LSN, or a time.",
    )


def spare_database(
    target: RecoveryTarget,
    drops: Iterable[Transaction],
    last_commit: Callable[[int], datetime | None],
) -> RecoveryTarget:
    """The same time with the LSN at which a DROP DATABASE begins, when what drops is the first that
    commits after it: a replay to a time ends at that commit, and the files are gone by then.

    Args:
        drops: transactions that dropped the database.
        last_commit: when the last one before an LSN committed, None when that is not known.
    """
    if target.kind != "time":
        return target
    at = parse_time(target.value)
    for it in sorted(drops, key=lambda it: it.drop_lsn):
        before = last_commit(it.drop_lsn) if it.committed_at >= at else None
        if before is not None and before < at:
            return replace(target, lsn=it.drop_lsn)
    return target


def last_commit_in(texts: Iterable[bytes]) -> datetime | None:
    """When the last transaction of these texts of pg_waldump committed."""
    scan = ChangeScan()
    return max((it.committed_at for text in texts for it in scan.feed(text)), default=None)


def _xid_target(value: str, timeline: int) -> RecoveryTarget:
    if not FIRST_NORMAL_XID <= int(value) <= LAST_XID:
        raise _bad_moment(f"found {value}, which is no transaction id")
    return RecoveryTarget("xid", str(int(value)), timeline=timeline)


def _time_target(text: str, timeline: int, now: datetime) -> RecoveryTarget:
    try:
        at = parse_time(text.removeprefix("time "))
    except ValueError as error:
        raise _bad_moment(f"found {text!r} (a time needs its zone)") from error
    if at > now:
        raise _bad_moment(f"found {format_time(at)}, which lies ahead of {format_time(now)}")
    return RecoveryTarget("time", format_time(at), timeline=timeline)


def _bad_moment(found: str) -> BadInput:
    return BadInput(
        f"expected a transaction id, an LSN or a time with its zone, {found}",
        code="bad-moment",
        hint="Write it as 742, as 0/16B3748 or as 2026-11-22T08:30:00Z.",
    )
