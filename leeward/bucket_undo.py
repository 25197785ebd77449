"""`leeward restore bucket`, put together: one bucket, a moment, in place or into another bucket."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from chalicelib.adapters.s3.ambient import ambient_s3
from chalicelib.adapters.s3.bucket import S3Bucket, S3Buckets
from chalicelib.adapters.s3.signing import ambient_credentials
from chalicelib.errors import BadInput, Refused
from chalicelib.plan.records import format_time, parse_time
from chalicelib.plan.units import parse_duration
from chalicelib.ports.bucket_rules import BucketControl, BucketRules
from chalicelib.recover.bucket.apply import apply_undo
from chalicelib.recover.bucket.elsewhere import CopyPlan, apply_copy, require_target, survey_copy
from chalicelib.recover.bucket.grade import Grade
from chalicelib.recover.bucket.outcome import UndoOutcome
from chalicelib.recover.bucket.proof import READ_LIMIT_BYTES, UndoProof, verify_copy, verify_undo
from chalicelib.recover.bucket.refill import NOTHING, Refilled, refill, still_there
from chalicelib.recover.bucket.survey import (
    Tell,
    UndoPlan,
    require_history,
    require_keys,
    require_sense,
    survey_undo,
)
from chalicelib.recover.bucket.undo import KeyUndo, UndoRules
from chalicelib.recover.bucket.witness import (
    UNWITNESSED,
    Vanished,
    Witnessed,
    without,
)

if TYPE_CHECKING:
    from chalicelib.services.jobs.witnesses import Known

T = TypeVar("T")
# What AWS has ever allowed; S3 says more precisely what is wrong with a name.
BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
AGO = re.compile(r"(.+?)\s+ago")
# A whole second, which S3's times are in, and a little.
SECOND = timedelta(seconds=1.05)


@dataclass(frozen=True)
class Wish:
    """What was asked for. `target` "" is in place; `archived`: "refuse", "leave" or "thaw"."""

    bucket: str
    to_at: datetime
    prefix: str = ""
    target: str = ""
    keep_markers: bool = False
    accept_gaps: bool = False
    archived: str = "refuse"
    read_limit_bytes: int = READ_LIMIT_BYTES
    region: str | None = None
    endpoint_url: str | None = None


@dataclass
class Undoing:
    """The phases, in order, then `close`. `facts` is known after `look`, `testimony` after `hear`,
    `plan` after `survey`.

    In place the plan is an UndoPlan, else a CopyPlan. `known`: of the bucket, by the plan's
    deployment; None where no plan was named, so that nothing witnesses what was removed.
    """

    wish: Wish
    known: Known | None = None
    facts: BucketRules = field(init=False)
    testimony: Witnessed = UNWITNESSED
    refilled: Refilled = NOTHING
    plan: UndoPlan | CopyPlan = field(init=False)

    def __post_init__(self) -> None:
        for name in (self.wish.bucket, self.wish.target or self.wish.bucket):
            require_name(name)
        if self.wish.target == self.wish.bucket:
            raise BadInput(
                f"expected another bucket than {self.wish.bucket}, found the same",
                code="same-bucket",
                hint="Leave --to-bucket out to change the bucket itself.",
            )
        self._loop = asyncio.Runner()
        self._buckets: S3Buckets | None = None
        self._region, self._endpoint = ambient_s3(self.wish.region, self.wish.endpoint_url)
        self._rules = UndoRules(
            self.wish.to_at,
            remove_markers=not self.wish.keep_markers,
            accept_gaps=self.wish.accept_gaps,
        )

    @property
    def in_place(self) -> bool:
        return not self.wish.target

    @property
    def changes(self) -> int:
        """Keys of the bucket itself that are to be changed."""
        return self.plan.changes if isinstance(self.plan, UndoPlan) else 0

    @property
    def writes(self) -> int:
        """Keys of the bucket itself that are brought back from the replica."""
        return len(self.fillable) if self.in_place else 0

    def look(self) -> None:
        """Read the bucket's configuration. Raises what require_history raises."""
        self.facts = self._run(lambda one, _: one.rules())
        require_history(
            self.facts, self._rules, bucket=self.wish.bucket, prefix=self.wish.prefix,
            in_place=self.in_place, now=datetime.now(UTC),
        )  # fmt: skip
        if self.facts.mfa_delete:
            self._rules = replace(self._rules, remove_markers=False)

    def hear(self) -> None:
        """Ask the inventories, when some are known, which versions of the moment are gone."""
        if self.known is None:
            return
        from chalicelib.services.jobs.witnesses import hear

        known, wish = self.known, self.wish
        self.testimony = self._run(lambda one, _: hear(one, known, wish.to_at, prefix=wish.prefix))
        aside = self.testimony.keys
        if self.wish.accept_gaps:
            aside = frozenset(one.key for one in self.fillable)
        self._rules = replace(self._rules, aside=aside)

    @property
    def fillable(self) -> tuple[Vanished, ...]:
        """The vanished versions that the replica has."""
        return self.testimony.with_copy if self.known and self.known.replica else ()

    def survey(self, tell: Tell) -> None:
        async def look(one: S3Bucket, other: S3Bucket | None) -> UndoPlan | CopyPlan:
            if other is None:
                return await survey_undo(one, self._rules, prefix=self.wish.prefix, tell=tell)
            return await survey_copy(one, other, self._rules, prefix=self.wish.prefix, tell=tell)

        self.plan = self._run(look)

    def require_possible(self) -> None:
        """Raises OutsideWindow: nothing to go back to; Refused: a target in use, archived objects
        unasked for."""
        if not self.testimony.vanished:
            require_keys(self.plan.keys, self.wish.bucket, self.wish.prefix)
        if isinstance(self.plan, UndoPlan):
            require_sense(self.plan)
        else:
            require_target(self.plan)
        archived = self.archived
        if archived and self.wish.archived == "refuse":
            raise Refused(
                f"expected objects that can be copied at once, found {archived} in an archive",
                code="archived-versions",
                hint="Say --archived thaw to have them restored first (the plan tells what it"
                " costs), or --archived leave to go on without them.",
            )

    @property
    def archived(self) -> int:
        """Objects to be copied that lie in an archive."""
        if isinstance(self.plan, UndoPlan):
            return self.plan.counts["thaw"]
        return self.plan.archived

    def apply(self, tell: Tell, log: Path | None = None) -> UndoOutcome:
        thaw = self._control() if self.wish.archived == "thaw" else None
        prefix = self.wish.prefix
        plan = self.plan if isinstance(self.plan, UndoPlan) else None
        with _logging_to(log) as write:
            how: dict[str, Any] = {"prefix": prefix, "thaw": thaw, "tell": tell}
            return self._run(
                lambda one, other: (
                    apply_undo(one, self._rules, **how, plan=plan, log=write)
                    if other is None
                    else apply_copy(one, other, self._rules, **how)
                )
            )

    def refill(self) -> Refilled:
        """Bring back what has vanished, as far as the replica has it."""
        if self.fillable:
            in_place, missing = self.in_place, self.fillable
            self.refilled = self._run_beside(
                lambda place, replica: refill(place, replica, missing, in_place=in_place)
            )
        return self.refilled

    def grade(self, *, as_listed: bool) -> Grade:
        """What is proven. What was brought back is read again, and counts when it is there."""
        found: frozenset[str] = frozenset()
        if self.fillable:
            missing = self.fillable
            found = self._run_beside(lambda place, replica: still_there(place, replica, missing))
        from chalicelib.services.jobs.witnesses import grade_of

        left, wish = without(self.testimony, found), self.wish
        return grade_of(self.known, left, wish.to_at, as_listed=as_listed, prefix=wish.prefix)

    def verify(self, tell: Tell) -> UndoProof:
        state = self.plan.state
        cuts = self.plan.cuts if isinstance(self.plan, UndoPlan) else ()
        how: dict[str, Any] = {
            "prefix": self.wish.prefix,
            "read_limit_bytes": self.wish.read_limit_bytes,
            "tell": tell,
        }
        return self._run(
            lambda one, other: (
                verify_undo(one, self._rules, state, cuts=cuts, **how)
                if other is None
                else verify_copy(one, other, self._rules, state, **how)
            )
        )

    def seconds_to_wait(self) -> float:
        """Until what is written has another second than what was there: times are whole seconds,
        and the undo can be undone by time only when they tell the two apart."""
        newest = self.plan.newest_at if isinstance(self.plan, UndoPlan) else None
        if newest is None:
            return 0.0
        left = (newest + SECOND - datetime.now(UTC)).total_seconds()
        return left if 0 < left < 2 else 0.0

    def _run(self, work: Callable[[S3Bucket, S3Bucket | None], Awaitable[T]]) -> T:
        """In the loop of all phases: they use the same connections."""

        async def run() -> T:
            if self._buckets is None:
                self._buckets = await S3Buckets(ambient_credentials()).__aenter__()
            target = self._open(self._buckets, self.wish.target) if self.wish.target else None
            return await work(self._open(self._buckets, self.wish.bucket), target)

        return self._loop.run(run())

    def _run_beside(self, work: Callable[[S3Bucket, S3Bucket], Awaitable[T]]) -> T:
        """With the bucket that is written, and the replica."""
        replica = self.known.replica if self.known else ""

        async def run(one: S3Bucket, target: S3Bucket | None) -> T:
            assert self._buckets is not None
            return await work(target or one, self._open(self._buckets, replica))

        return self._run(run)

    def close(self) -> None:
        if self._buckets is not None:
            self._loop.run(self._buckets.__aexit__())
        self._loop.close()

    def _open(self, buckets: S3Buckets, name: str) -> S3Bucket:
        return buckets.bucket(name, self._region, endpoint_url=self._endpoint)

    def _control(self) -> BucketControl:
        from chalicelib.adapters.s3.rules import S3Control
        from chalicelib.adapters.s3.store import connect_s3

        return S3Control(connect_s3(self.wish.region, self.wish.endpoint_url), self.wish.bucket)


@contextmanager
def knowing(plan_path: Path, wish: Wish) -> Iterator[Known]:
    """What the plan's deployment knows of the bucket at the moment.

    Raises:
        BadInput: code "unknown-bucket": no component of the plan is that bucket.
        NotReady: code "not-deployed".
    """
    from chalicelib.services.jobs.buckets import components_of
    from chalicelib.services.jobs.witnesses import know_bucket
    from leeward.deployed import DEPLOYED, reach
    from leeward.plan_file import load_plan

    with reach(load_plan(plan_path).plan, DEPLOYED):
        yield know_bucket(components_of(wish.bucket)[0], wish.to_at)


def require_name(name: str) -> None:
    if not BUCKET_NAME.fullmatch(name):
        raise BadInput(
            f"expected the name of a bucket, found {name!r}",
            code="bad-bucket-name",
            hint="Give the name alone, without s3:// and without a key; --prefix takes a part.",
        )


def read_moment(text: str, now: datetime) -> datetime:
    """ISO 8601 with an offset, or "2h ago". Raises BadInput, code "bad-time"."""
    try:
        if match := AGO.fullmatch(text.strip()):
            return now - parse_duration(match[1])
        return parse_time(text.strip())
    except (ValueError, OverflowError) as error:
        raise BadInput(
            f"expected a time with its offset, found {text!r}",
            code="bad-time",
            hint="Such as 2026-11-22T08:45:00Z, 2026-11-22T09:45:00+01:00, or '2h ago'.",
        ) from error


@contextmanager
def _logging_to(path: Path | None) -> Iterator[Callable[[KeyUndo], None] | None]:
    """One JSON line for each key, written before the key is changed."""
    if path is None:
        yield None
        return
    with path.open("a", encoding="utf-8") as file:
        yield lambda undo: _write_line(file, undo)


def _write_line(file: Any, undo: KeyUndo) -> None:
    wanted = undo.history.wanted
    line = {
        "key": undo.key,
        "action": undo.action,
        "why": undo.why,
        "version_id": wanted.version_id if wanted else None,
        "markers": undo.history.markers,
        "at": format_time(datetime.now(UTC)),
    }
    file.write(json.dumps(line) + "\n")
    file.flush()
