"""What a throw-away server says over its socket.

Apart from what starts it, so that psycopg is loaded (50 ms) while the server replays.
"""

from __future__ import annotations

import psycopg

from chalicelib.errors import CheckFailed
from chalicelib.plan.records import parse_lsn
from chalicelib.ports import ReplayPosition

_POSITION = """
SELECT pg_last_wal_replay_lsn()::text, pg_last_xact_replay_timestamp(),
       CASE WHEN pg_is_in_recovery()
            THEN (SELECT to_hex(min_recovery_end_timeline) FROM pg_control_recovery())
            ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END
"""


def accepts_superuser(dsn: str) -> bool:
    try:
        with psycopg.connect(dsn) as connection:
            return connection.info.parameter_status("is_superuser") == "on"
    except psycopg.OperationalError:
        return False


def is_paused(dsn: str) -> bool:
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = connection.execute("select pg_get_wal_replay_pause_state()").fetchone()
    return found == ("paused",)


def read_position(dsn: str) -> ReplayPosition:
    """Raises CheckFailed (code "nothing-replayed")."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(_POSITION).fetchone()
    if row is None or row[0] is None:
        raise CheckFailed(
            "expected a server that has replayed WAL, it has not",
            code="nothing-replayed",
            hint="Look at the server's log for the recovery it ran.",
        )
    return ReplayPosition(parse_lsn(row[0]), row[1], int(row[2], 16))
