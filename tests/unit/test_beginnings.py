"""Whether a stretch of WAL shows each transaction from its first record on."""

from __future__ import annotations

import pytest

from chalicelib.recover.database.beginnings import sees_beginnings


def note(next_xid: int) -> bytes:
    return (
        b"rmgr: Standby     len (rec/tot):     50/    50, tx:          0, lsn: 0/03000028, prev "
        b"0/02FFFFD8, desc: RUNNING_XACTS nextXid %d latestCompletedXid 741 oldestRunningXid 742\n"
        % next_xid
    )


def commit(xid: int, more: bytes = b"") -> bytes:
    return (
        b"rmgr: Transaction len (rec/tot):     46/    46, tx:        %d, lsn: 0/03000060, prev "
        b"0/03000028, desc: COMMIT 2026-11-22 08:50:36.155409 UTC%b\n" % (xid, more)
    )


@pytest.mark.parametrize(
    ("texts", "seen"),
    [
        ([note(745) + commit(745)], True),
        ([note(745), commit(745), commit(746)], True),
        ([note(745), commit(744)], False),
        ([note(745), commit(750, b"; subxacts: 744 751")], False),
        ([commit(745), note(745)], False),
        ([commit(745)], False),
        ([note(2**32 - 2), commit(5)], True),
        ([note(5), commit(2**32 - 2)], False),
        ([note(740), note(746), commit(741)], True),
        ([], True),
    ],
)
def test_a_transaction_after_the_first_note_has_no_record_before_it(
    texts: list[bytes], seen: bool
) -> None:
    assert sees_beginnings(texts, lambda it: True) is seen


def test_what_is_not_wanted_may_have_begun_before() -> None:
    texts = [note(745), commit(700), commit(745)]
    assert sees_beginnings(texts, lambda it: it.xid == 745)
