"""What a recovery says that it lost: only what is known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chalicelib.evidence.entries import data_loss
from chalicelib.recover.database.loss import Loss, bounded_loss

AT = datetime(2026, 3, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("rows", [0, 7])
def test_a_loss_is_known_only_when_the_wal_is_stored_to_its_end(rows: int) -> None:
    loss = Loss(AT, transactions=1, rows=rows)
    assert bounded_loss(loss, complete=True) == (AT, rows)
    assert bounded_loss(loss, complete=False) == (None, None)


def test_an_unknown_loss_is_recorded_as_unknown_and_not_as_none() -> None:
    before, rows = bounded_loss(Loss(AT, 0, 0), complete=False)
    body = data_loss(
        last_commit_before_at=before, last_commit_recovered_at=AT, rows_lost=rows, how="x"
    ).body
    assert body["rows_lost"] is None
    assert body["last_commit_before_at"] is None
