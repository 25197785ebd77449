"""What a server's refusals mean, and what it must offer before anything is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chalicelib.adapters.postgres.protocol import Refusal
from chalicelib.errors import Damaged, LeewardError, NotReady, Refused, Unavailable
from chalicelib.plan.records import format_lsn
from chalicelib.ports import Session

OLDEST_VERSION, NEWEST_VERSION = 15, 18


def require_ready(session: Session, slots_needed: int) -> None:
    """Raises NotReady with the code of the first thing that is missing."""
    [row] = session.query(_READINESS)
    found = dict(zip(_READINESS_NAMES, row, strict=True))
    for code, missing, expected, hint in _requirements(found, slots_needed):
        if missing:
            raise NotReady(f"expected {expected}", code=code, hint=hint)


def _requirements(found: dict[str, Any], slots_needed: int) -> list[tuple[str, bool, str, str]]:
    """(code, whether it is missing, what was expected and found, hint)."""
    version = found["version"] // 10000
    slots_free = found["max_slots"] - found["slots"]
    senders_free = found["max_senders"] - found["senders"]
    return [
        (
            "unsupported-version",
            not OLDEST_VERSION <= version <= NEWEST_VERSION,
            f"postgresql {OLDEST_VERSION} to {NEWEST_VERSION}, found {version}",
            "Use a release of Leeward that knows this version.",
        ),
        (
            "source-is-standby",
            found["standby"],
            "a primary, found a standby",
            "Name the primary server in the DSN.",
        ),
        (
            "no-replication-right",
            not found["may_replicate"],
            f"role {found['role']} to have the REPLICATION right, it has not",
            f"Run ALTER ROLE {found['role']} REPLICATION as a superuser.",
        ),
        (
            "wal-level-too-low",
            found["wal_level"] == "minimal",
            "wal_level replica or logical, found minimal",
            "Set wal_level = replica and max_wal_senders = 10, then restart the server.",
        ),
        (
            "no-wal-sender",
            senders_free < 1,
            f"a free WAL sender, found {found['senders']} of {found['max_senders']} in use",
            "Raise max_wal_senders and restart the server.",
        ),
        (
            "no-free-slot",
            slots_free < slots_needed,
            f"a free replication slot, found {found['slots']} of {found['max_slots']} in use",
            "Raise max_replication_slots and restart the server, or drop a slot nobody uses.",
        ),
    ]


# SQLSTATE -> (class, code, hint); PostgreSQL, appendix A.
_REFUSALS: dict[str, tuple[type[LeewardError], str, str]] = {
    "42501": (NotReady, "no-replication-right", "Give the role the REPLICATION right."),
    "53400": (NotReady, "no-free-slot", "Raise max_replication_slots, or drop an unused slot."),
    "53300": (NotReady, "no-wal-sender", "Raise max_wal_senders and restart the server."),
    "55006": (Unavailable, "slot-in-use", "Another worker uses the slot; it is tried again."),
    "XX001": (Damaged, "database-unreadable", "Treat the database as damaged."),
    "58P01": (Damaged, "database-unreadable", "Treat the database as damaged: a file is gone."),
}


def refused_command(refusal: Refusal) -> LeewardError:
    kind, code, hint = _REFUSALS.get(
        refusal.sqlstate, (Unavailable, "server-refused", "Look at the server's log.")
    )
    said = f"expected the server to do it, it refused: {refusal.said}"
    return kind(said, code=code, hint=hint, sqlstate=refusal.sqlstate)


def refused_backup(refusal: Refusal, incremental: bool) -> LeewardError:
    if not incremental:
        return refused_command(refusal)
    return Refused(
        f"expected an incremental backup, the server refused: {refusal.said}",
        code="no-incremental",
        hint="Take a full backup; set summarize_wal = on for later incrementals.",
        sqlstate=refusal.sqlstate,
    )


def refused_wal(refusal: Refusal, start_lsn: int) -> LeewardError:
    if refusal.sqlstate == "55006":
        return refused_command(refusal)
    return Damaged(
        f"expected WAL from {format_lsn(start_lsn)} on, the server refused: {refusal.said}",
        code="wal-missing",
        hint="Take a new full backup; recovery cannot pass this gap.",
        sqlstate=refusal.sqlstate,
    )


@contextmanager
def mapped_refusals() -> Iterator[None]:
    try:
        yield
    except Refusal as refusal:
        raise refused_command(refusal) from refusal


@contextmanager
def mapped_incremental() -> Iterator[None]:
    try:
        yield
    except Refusal as refusal:
        raise refused_backup(refusal, incremental=True) from refusal


_READINESS_NAMES = (
    "version", "standby", "role", "may_replicate", "wal_level", "max_senders", "senders",
    "max_slots", "slots",
)  # fmt: skip
_READINESS = """
SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_user::text,
       (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user),
       current_setting('wal_level'), current_setting('max_wal_senders')::int,
       (SELECT count(*) FROM pg_stat_replication),
       current_setting('max_replication_slots')::int,
       (SELECT count(*) FROM pg_replication_slots)
"""
