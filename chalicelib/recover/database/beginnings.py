"""Whether WAL was read from far enough back to see transactions from their first record on.

The server notes the next transaction id at each checkpoint, and every 15 s while it writes
(RUNNING_XACTS): a transaction of that id or a later one has no record before the note.
Source: LogStandbySnapshot in src/backend/storage/ipc/standby.c, rmgrdesc/standbydesc.c.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from chalicelib.recover.database.changes import ChangeScan, Transaction

XIDS = 2**32
_NEXT_XID = re.compile(rb"desc: RUNNING_XACTS nextXid (\d+)")


def sees_beginnings(texts: Iterable[bytes], wanted: Callable[[Transaction], bool]) -> bool:
    """Whether all records of each wanted transaction that commits in `texts` are in them; False
    also where nothing tells."""
    scan, noted = ChangeScan(), None
    for text in texts:
        if noted is None and (found := _NEXT_XID.search(text)):
            noted = int(found[1])
        for it in filter(wanted, scan.feed(text)):
            if noted is None or any(_precedes(xid, noted) for xid in (it.xid, *it.children)):
                return False
    return True


def _precedes(xid: int, other: int) -> bool:
    """Ids run in a circle (TransactionIdPrecedes)."""
    return (xid - other) % XIDS >= XIDS // 2
