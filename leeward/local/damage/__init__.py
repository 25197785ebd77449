"""The damage that a drill does to production, for real, and the truth about it for the scorecard.

Nothing here runs anywhere but on a production that the local cloud itself started.
"""

from __future__ import annotations

from collections.abc import Callable

from leeward.local.damage.backups import backup_object
from leeward.local.damage.files import heap_bytes, index_mismatch, relation_file, wal_segment
from leeward.local.damage.statements import (
    delete_without_where,
    drop_database,
    drop_table,
    rename_table,
    truncate,
    update_without_where,
    wrong_migration,
)
from leeward.local.damage.victim import Injected, Victim

__all__ = ["DAMAGES", "Injected", "Victim"]

# By the names that --damage knows.
DAMAGES: dict[str, Callable[[Victim], Injected]] = {
    "update-without-where": update_without_where,
    "delete-without-where": delete_without_where,
    "truncate": truncate,
    "drop-table": drop_table,
    "rename-table": rename_table,
    "drop-database": drop_database,
    "wrong-migration": wrong_migration,
    "heap-bytes": heap_bytes,
    "relation-file": relation_file,
    "index-mismatch": index_mismatch,
    "wal-segment": wal_segment,
    "backup-object": backup_object,
}
