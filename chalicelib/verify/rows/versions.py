"""Whether a row of a restored server and of the living one are what they must be. Pure.

The rule needs no clock. A server that was restored from a physical backup counts the same
transactions as its source did, and every row version names the one that wrote it (`xmin`). So:

- Equal contents are equal, whoever wrote them.
- The same key with the same `xmin` is the same version: other contents are a difference.
- A living version whose transaction had committed in the restored state must be there, and as it
  is here: it was never replaced since. One that is missing, or another one in its place, is a
  difference.
- A living version whose transaction is younger than the restored state, or had not committed in
  it, was written afterwards: it explains another version there, or none.
- A version that is there was written by a transaction that had committed: a state that does not
  know that has lost what became of its transactions, and explains nothing.
- A row that is there and no longer here says nothing by itself: the WAL since must show that it
  was deleted or replaced.

Freezing changes nothing: it sets a bit and leaves `xmin` readable. As `xmin` has 32 bits, "younger"
is counted back from the living server's next transaction, and by no more than what it gave out
since: an old frozen version is never taken for a young one while that is fewer than 2^32.

Source: PostgreSQL 17 documentation, chapter "Concurrency Control" (MVCC), sections "Preventing
Transaction ID Wraparound Failures" (a frozen row keeps its xmin since 9.4), "Transactions and
Identifiers", "Transaction ID and Snapshot Information Functions" (pg_xact_status: what was in
flight when the server ended counts as aborted).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

Verdict = Literal["equal", "changed", "inserted", "gone", "differs", "other-version", "missing"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
# What nothing that happened since explains.
WRONG: tuple[Verdict, ...] = ("differs", "other-version", "missing")

XIDS = 2**32
# Bootstrap's and the frozen one of servers before 9.4: they name no transaction.
FIRST_NORMAL_XID = 3


@dataclass(frozen=True)
class Version:
    """A row version as a server shows it. `xmin`: 32 bits. `digest`: of its contents.

    `place`: ctid. `xmax`: who began to delete, replace or lock it; 0 for nobody.
    """

    xmin: int
    digest: str
    place: str = ""
    xmax: int = 0


@dataclass(frozen=True)
class Horizon:
    """The next transaction (64 bits) of the restored state, before anything was done there, and of
    the living server, after it was read."""

    then: int
    now: int

    def is_newer(self, xmin: int) -> bool:
        """Whether a living version with this `xmin` was begun after the restored state."""
        if xmin < FIRST_NORMAL_XID:
            return False
        return _distance(self.now, xmin) <= self.now - self.then

    def full(self, xid: int) -> int:
        """64 bits of one that is not newer; less than 3 when it cannot be known any more."""
        return self.then - _distance(self.then, xid)


def judge_row(
    then: Version | None,
    now: Version | None,
    horizon: Horizon,
    committed_then: Callable[[int], bool],
) -> Verdict:
    """What became of a row, by the rule above; at least one of the two is there.

    Args:
        then: of the restored server. now: of the living one.
        committed_then: whether an `xmin` that is not newer had committed in the restored state.
    """
    if now is None:
        return "gone"
    if then is not None and then.digest == now.digest:
        return "equal"
    if then is not None and then.xmin == now.xmin:
        return "differs"
    if horizon.is_newer(now.xmin) or not committed_then(now.xmin):
        return "changed" if then else "inserted"
    return "other-version" if then else "missing"


def _distance(next_xid: int, xid: int) -> int:
    """How many transactions ago it was given out: 1 to 2^32."""
    return (next_xid - xid - 1) % XIDS + 1
