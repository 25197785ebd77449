"""The state that Leeward keeps and the services that it acts through."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from chalicelib.plan.records import EvidenceRecord, Signature


class Clock(Protocol):
    def now(self) -> datetime: ...

    def sleep(self, seconds: float) -> None: ...


class StateStore(Protocol):
    """Small shared state with conditional writes: incidents, runs, leases, approvals.

    An item is a JSON object under (partition, sort). All writes are atomic per item. One with a
    `good_until` (as `format_time` writes it) is of no use after it: the store removes it, a day or
    more later; whoever reads it looks at the time itself.
    """

    def get(self, partition: str, sort: str) -> dict[str, Any] | None:
        """The item, read consistently, or None."""

    def create(self, partition: str, sort: str, item: dict[str, Any]) -> bool:
        """True when it was written, False when the key is taken."""

    def replace(
        self, partition: str, sort: str, item: dict[str, Any], *, expected: dict[str, Any]
    ) -> bool:
        """Write only if every (name, value) of `expected` still holds; True when written."""

    def remove(self, partition: str, sort: str, *, expected: dict[str, Any]) -> bool:
        """Delete only if every (name, value) of `expected` still holds; True when deleted."""

    def query(self, partition: str, prefix: str = "") -> Iterator[dict[str, Any]]:
        """The items of a partition whose sort key starts so, in order; each with its "sort"."""


class Workflows(Protocol):
    """State machines by scenario name."""

    def start(self, scenario: str, run_id: str, payload: dict[str, Any]) -> None:
        """Start once: the same run_id again is no error and starts nothing."""

    def is_running(self, scenario: str, run_id: str) -> bool:
        """False when it has ended, however, and when it was never started."""


class Records(Protocol):
    """The evidence: one hash chain of records a stream (an incident's id), append only."""

    def append(
        self,
        stream: str,
        kind: str,
        body: dict[str, Any],
        *,
        actor: str,
        run_id: str = "",
        step: str = "",
        key: str = "",
    ) -> EvidenceRecord:
        """Record once and return what stands in the chain, durably.

        A record with the same `key` is returned as it is. Without a `key`, the same thing said
        again (kind, actor, run, step and body) is the same record. Secrets in the body are
        replaced before it is written.

        Raises:
            BadInput: the body is not JSON.
            Tampered: the chain that is stored is broken; nothing was added.
        """

    def read(self, stream: str) -> list[EvidenceRecord]:
        """The whole chain, first record first; empty when there is none.

        Raises:
            Tampered: a record is missing, altered or out of its place.
        """

    def mark(self, stream: str) -> dict[str, Any]:
        """Where the chain stood when it was last appended to from here: JSON for `resume`, small
        whatever the records say."""

    def resume(self, stream: str, mark: dict[str, Any]) -> None:
        """Append from where the mark stands, without reading what is before it.

        Args:
            mark: of this very stream. It is trusted: who forges it breaks the chain, and the next
                `read` says so.
        """


class Signer(Protocol):
    """A private key that never leaves its keeper."""

    def sign(self, message: bytes) -> Signature:
        """Sign at most 4096 bytes."""


class Metrics(Protocol):
    """Numbers that alarms watch."""

    def put(self, component: str, values: dict[str, float]) -> None:
        """Publish each value now, under its name, for one component."""
