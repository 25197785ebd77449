"""What was done to each key, counted; and the copies that in place and elsewhere share."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from chalicelib.errors import CheckFailed, LeewardError
from chalicelib.plan.records import Record
from chalicelib.ports.bucket_rules import BucketControl
from chalicelib.ports.buckets import Bucket, CopySource, VersionRow
from chalicelib.recover.bucket.survey import Tell
from chalicelib.recover.bucket.undo import is_archived

THAW_BATCH = 100
THAW_DAYS = 7
"""How long what is restored from an archive stays readable: time enough to run again."""
MOST_FAILURES = 1000
"""After this many it is not single keys that fail."""
# Errors that every other key would meet too: they end the run.
FATAL = frozenset(
    {"no-bucket", "no-credentials", "credentials-rejected", "clock-skewed", "wrong-region"}
)


@dataclass(frozen=True)
class UndoFailure(Record):
    """One key that was not taken back. `code` is stable, `message` for a person."""

    key: str
    code: str
    message: str


@dataclass(frozen=True)
class UndoOutcome(Record):
    """Numbers of keys by what was done to them; every key is in exactly one.

    `counts`: left, same (compared and left), copied, unmarked, marked, thawing (asked for; run
    again when it is there), archived (left, as asked), unknown, failed. `failures`: all of them.
    """

    counts: dict[str, int]
    copied_bytes: int
    failures: tuple[UndoFailure, ...]

    @property
    def ok(self) -> bool:
        """Whether every key was taken back, or did not need to be."""
        wrong = ("failed", "thawing", "archived", "unknown")
        return not any(self.counts.get(name, 0) for name in wrong)


class OutcomeMeter:
    """Counts; raises CheckFailed (code "too-many-failures") when it is not single keys."""

    def __init__(self, tell: Tell | None) -> None:
        self._tell = tell
        self._counts: Counter[str] = Counter()
        self._copied_bytes = 0
        self._failures: list[UndoFailure] = []

    def outcome(self) -> UndoOutcome:
        return UndoOutcome(dict(self._counts), self._copied_bytes, tuple(self._failures))

    def done(self, what: str, copied_bytes: int = 0, *, keys: int = 1) -> None:
        self._counts[what] += keys
        self._copied_bytes += copied_bytes
        if self._tell is not None:
            self._tell(self._counts.total())

    def failed(self, key: str, error: LeewardError) -> None:
        """Raises the error itself when every other key would meet it."""
        if error.instance_code in FATAL:
            raise error
        self.fail(key, error.instance_code, error.message)

    def fail(self, key: str, code: str, message: str) -> None:
        self._failures.append(UndoFailure(key, code, message))
        self.done("failed")
        if len(self._failures) > MOST_FAILURES:
            raise CheckFailed(
                f"expected single keys to fail at most, found {len(self._failures)}:"
                f" {key!r}: {message}",
                code="too-many-failures",
                hint="Remove the cause, then run it again: it goes on where it stopped.",
                key=key,
                cause=code,
            )


class Copies:
    """Copies versions of one bucket into the same or another, on the server's side.

    `control` None leaves what is archived; else it is asked to restore it, and a later run copies.
    """

    def __init__(
        self, source: str, target: Bucket, meter: OutcomeMeter, control: BucketControl | None
    ) -> None:
        self._source, self._target, self._meter = source, target, meter
        self._control = control
        self._archived: list[VersionRow] = []

    async def copy(self, wanted: VersionRow) -> None:
        try:
            await self._target.copy_from(source_of(self._source, wanted), checksum="CRC64NVME")
        except LeewardError as error:
            if error.instance_code == "archived":
                await self._keep(wanted)
            else:
                self._meter.failed(wanted.key, error)
            return
        self._meter.done("copied", wanted.size_bytes)

    async def flush(self) -> None:
        """Ask for what the last copies found in archives."""
        if self._control is None or not self._archived:
            return
        waiting, self._archived = self._archived, []
        pairs = [(row.key, row.version_id) for row in waiting]
        refused = await asyncio.to_thread(self._control.thaw, pairs, days=THAW_DAYS)
        for pair in pairs:
            if pair in refused:
                self._meter.fail(pair[0], refused[pair], "its archive does not give it back")
            else:
                self._meter.done("thawing")

    async def _keep(self, wanted: VersionRow) -> None:
        if self._control is None:
            self._meter.done("archived")
            return
        self._archived.append(wanted)
        if len(self._archived) >= THAW_BATCH:
            await self.flush()


def source_of(bucket: str, row: VersionRow) -> CopySource:
    """What was archived comes back readable: what an archive holds now may not have been in it."""
    storage_class = "STANDARD" if is_archived(row) else row.storage_class
    return CopySource(
        bucket=bucket, key=row.key, version_id=row.version_id, etag=row.etag,
        size_bytes=row.size_bytes, storage_class=storage_class,
    )  # fmt: skip
