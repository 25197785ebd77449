"""The step that finds what a deletion took: rows from the WAL, objects from the versions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from chalicelib.errors import BadInput, CheckFailed, Damaged, NotReady, Refused
from chalicelib.evidence.deletion_entries import scope_found
from chalicelib.evidence.entries import damage_found
from chalicelib.evidence.text import counted
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Bucket, DamageThresholds, Postgres
from chalicelib.plan.records import Damage, format_time, parse_time
from chalicelib.plan.wal import segment_start
from chalicelib.ports.trail import TrailEvent
from chalicelib.recover.bucket.deleted_objects import GoneObjects, survey_deleted
from chalicelib.recover.database.changes import NOTABLE_ROWS, Activity, ChangeScan, Transaction
from chalicelib.recover.database.relations import UNNAMED, Relations
from chalicelib.recover.database.suspects import decide_suspects
from chalicelib.recover.deletion_scope import (
    Burst,
    DeletedRows,
    decide_burst,
    decide_rows,
    deletions_of,
    find_bursts,
    largest,
)
from chalicelib.recover.moment import named_transactions
from chalicelib.recover.rows.access import could_delete
from chalicelib.recover.rows.tables import keyed_tables
from chalicelib.recover.window import choose_points, find_window
from chalicelib.services import build
from chalicelib.services.jobs.buckets import bucket_component, replica_of, source_of
from chalicelib.services.steps.attack.infection import trail
from chalicelib.services.steps.database.find import FIRST_SEARCH_SEGMENTS
from chalicelib.services.steps.database.relations import relations_of
from chalicelib.services.steps.database.wal import fetch_last_wal, wal_on_disk
from chalicelib.services.steps.said import say
from chalicelib.services.steps.sources import END, choose_source
from chalicelib.telemetry import logger

Outputs = dict[str, Any]

# Objects that were deleted longer ago are looked for only when a person names the moment.
LOOK_BACK = timedelta(days=30)
# What one run may bring back without asking, unless the plan says otherwise.
ROWS_UNASKED = 100_000
OBJECTS_UNASKED = 10_000
DELETES = frozenset({"DeleteObject", "DeleteObjects"})
SHOWN = 3
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ObjectScope:
    """`burst`: objects below markers; `gone`: the survey of the bucket; `who`: identities of the
    trail that deleted then, None when nobody can tell."""

    burst: Burst | None
    gone: GoneObjects
    others: tuple[Burst, ...]
    who: tuple[str, ...] | None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        burst = self.burst
        return {
            "from_at": format_time(burst.from_at) if burst else "",
            "until_at": format_time(burst.until_at) if burst else "",
            "deleted": burst.objects if burst else 0,
            "removed": self.gone.removed,
            "removed_keys": self.gone.removed_keys[:SHOWN],
            "living": self.gone.living,
            "who": list(self.who) if self.who else [],
            "alternatives": [it.to_json() for it in self.others[:SHOWN]],
        }


def find_scope_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Find which rows and which objects are gone, since when, and by whom as far as is known.

    Inputs: `component`: a database or a bucket; `bucket`: a bucket beside a database. `moment`: a
    person's word: a transaction, or a time before the deletion. `at_most_rows`,
    `at_most_objects`: larger is not `small`.
    Raises:
        CheckFailed: code "no-deletion-found"; "deletion-not-clear", naming what it may be;
            "database-dropped".
        OutsideWindow: the rows cannot be brought back from what is stored.
    """
    database, bucket = _split(inputs)
    moment = str(inputs.get("moment") or "")
    if run.drill:
        return _pretend(run, database)
    damages, candidates = _find_rows(run, database, moment) if database else ((), ())
    damage = damages[0] if damages else None
    objects = asyncio.run(_find_objects(bucket, _time_of(moment))) if bucket else None
    if damage is None and not _took_objects(objects):
        raise _nothing(candidates, objects)
    roles = _roles_of(database, damages) if damages else ()
    rows = {"damages": [it.to_json() for it in damages], "roles": list(roles)} if damages else None
    say(run, scope_found(rows=rows, objects=objects.to_json() if objects else None))
    for it in damages:
        say(run, damage_found(it), about=str(it.xid))
    return {
        "found": _told(damages, candidates, roles, objects),
        "damage": _handed_on(damage) if damage else {},
        "more": [_handed_on(it) for it in damages[1:]],
        "target": damage.target.to_json() if damage else {},
        "objects": objects.to_json() if objects else {},
        "role": roles[0] if len(roles) == 1 else "",
        "principal": objects.who[0] if objects and objects.who and len(objects.who) == 1 else "",
        "small": _is_small(damages, objects, inputs),
    }


def _pretend(run: Run, database: str) -> Outputs:
    """In a drill nothing was deleted: its stand-in gets the rows that it lacks."""
    damage: dict[str, Any] = {}
    target: dict[str, Any] = {}
    found = "a drill: no object is gone"
    if database:
        fetch_last_wal(database)
        choose_source(run, database, END)
        found = f"{found}; rows that the stand-in lacks, of all that is stored"
        target = END.to_json()
        damage = Damage(
            kind="suspected",
            found=found,
            how="drill",
            target=END,
            detected_at=build.clock().now(),
            tables=keyed_tables(build.operator(database)),
        ).to_json()
    none = {"more": [], "objects": {}, "role": "", "principal": "", "small": True}
    return {"found": found, "damage": damage, "target": target, **none}


def _split(inputs: dict[str, Any]) -> tuple[str, str]:
    """(database, bucket); "" for what is not named."""
    component, beside = inputs["component"], str(inputs.get("bucket") or "")
    found = build.plan().components.get(component)
    if isinstance(found, Bucket):
        return "", component
    if isinstance(found, Postgres):
        return component, beside
    raise BadInput(
        f"expected a database or a bucket of the plan, found {component!r}",
        hint="name one under `with: {component: ...}` of the step",
        code="unknown-component",
    )


def _time_of(moment: str) -> datetime | None:
    """A moment in time; None for a transaction and for no word at all."""
    try:
        return parse_time(moment.removeprefix("time ")) if moment else None
    except ValueError:
        return None


def _find_rows(
    run: Run, component: str, moment: str
) -> tuple[tuple[Damage, ...], tuple[DeletedRows, ...]]:
    """The deletion in the WAL, the last transaction first; and the largest that there are."""
    fetch_last_wal(component)
    source = choose_source(run, component, END)
    inventory = source.catalogue.inventory()
    window = find_window(inventory.windows, END)
    size = inventory.wal.segment_bytes
    since, named = _time_of(moment), named_transactions(moment)
    databases = build.operator(component)
    relations = relations_of(source.store, databases)
    folder = build.environment().work_dir / run.run_id / "scope-wal"
    far = segment_start(window.end_lsn, size) - FIRST_SEARCH_SEGMENTS * size
    for start in dict.fromkeys((max(window.start_lsn, far), window.start_lsn)):
        with wal_on_disk(source.store, inventory, window, folder, from_lsn=start) as wal:
            read = _Read(relations, named)
            first = segment_start(start, size)
            read.all(wal.dump(window.timeline, first, window.end_lsn))
        found = largest(it for it in read.found if since is None or it.committed_at >= since)
        suspects = decide_suspects(read.activity, relations, _thresholds(component), since=since)
        reached = since is None or (read.first_at is not None and read.first_at <= since)
        if start == window.start_lsn or (reached and (named or suspects)):
            break
    damages = decide_rows(
        found, suspects, named=named, since=since, timeline=window.timeline, now=build.clock().now()
    )
    for damage in damages:
        # What cannot be reached is refused here, before anything is changed.
        choose_points(inventory, damage.target)
    return damages, found


def _thresholds(component: str) -> DamageThresholds:
    """Somebody says that something was deleted: much less stands out than where nobody does."""
    plan = build.database(component).damage
    return plan.model_copy(update={"rows": min(plan.rows, NOTABLE_ROWS)})


def _handed_on(damage: Damage) -> dict[str, Any]:
    """Without the alternatives, which the record has: a state machine's data are small."""
    return replace(damage, alternatives=()).to_json()


class _Read:
    """One pass over the text: what the suspects are judged by, and every deletion."""

    def __init__(self, relations: Relations, named: frozenset[int]) -> None:
        self._relations = relations
        self._scan = ChangeScan(keep=named)
        self.found: tuple[DeletedRows, ...] = ()
        self.first_at: datetime | None = None
        self._named = named

    @property
    def activity(self) -> Activity:
        return self._scan.activity

    def all(self, chunks: Any) -> None:
        for chunk in chunks:
            transactions = list(self._scan.feed(chunk))
            for it in transactions:
                self._scan.fold(it)
            self._keep(transactions)

    def _keep(self, transactions: list[Transaction]) -> None:
        if transactions and self.first_at is None:
            self.first_at = transactions[0].committed_at
        new = tuple(deletions_of(transactions, self._relations))
        every = (*self.found, *new)
        named = {it.xid: it for it in every if it.xid in self._named}
        self.found = tuple((named | {it.xid: it for it in largest(every)}).values())


async def _find_objects(component: str, since: datetime | None) -> ObjectScope:
    now = build.clock().now()
    start = since or now - LOOK_BACK
    async with build.buckets() as buckets:
        bucket = source_of(buckets, component)
        try:
            replica = replica_of(buckets, component)
        except NotReady:
            replica = None
        gone = await survey_deleted(bucket, replica, start)
    note = _why_removed_is_unknown(component, gone)
    if note:
        gone.removed = None
    bursts = find_bursts(gone.deleted)
    burst = decide_burst(bursts, since=since)
    others = tuple(it for it in bursts if burst is None or not _overlap(it, burst))
    who = None
    if burst or gone.removed:
        since = burst.from_at if burst else start
        who = _who_deleted(component, since, now, versions=burst is None)
    return ObjectScope(burst, gone, others, who, note)


def _overlap(one: Burst, other: Burst) -> bool:
    return one.from_at <= other.until_at and other.from_at <= one.until_at


def _why_removed_is_unknown(component: str, gone: GoneObjects) -> str:
    """Rules that remove versions do the same as a hand that does."""
    from chalicelib.adapters.s3.rules import S3Control

    if gone.removed is None:
        return "there is no replica to compare with"
    if not gone.removed:
        return ""
    rules = S3Control(build.s3(), bucket_component(component).bucket).rules()
    return "lifecycle rules remove versions of the bucket" if rules.expiries else ""


def _who_deleted(
    component: str, since: datetime, until: datetime, *, versions: bool
) -> tuple[str, ...] | None:
    """Identities by the trail; () when it names none, None when it cannot be read. `versions`:
    only of those who deleted versions for good, which leaves no marker behind."""
    source = trail()
    if source is None:
        return None
    bucket = bucket_component(component).bucket
    wanted = partial(_is_deletion, bucket=bucket, versions=versions)
    try:
        events = list(source.read(since.replace(microsecond=0), until, wanted))
    except (NotReady, Refused, Damaged) as error:
        # Who it was is asked for afterwards; what is gone is known without.
        logger.warning("the trail was not read", extra=error.to_json())
        return None
    return tuple(dict.fromkeys(it.identity or it.principal for it in events))


def _is_deletion(event: TrailEvent, *, bucket: str, versions: bool) -> bool:
    if event.bucket != bucket or event.name not in DELETES or event.error:
        return False
    return bool(event.version_id) or not versions


def _roles_of(component: str, damages: tuple[Damage, ...]) -> tuple[str, ...]:
    """Roles that may log in and could have deleted it: WAL names none. Superusers are left out."""
    named = (table for damage in damages for table in damage.tables)
    tables = tuple(dict.fromkeys(it for it in named if not it.startswith(UNNAMED)))
    return could_delete(build.operator(component), tables)


def _took_objects(objects: ObjectScope | None) -> bool:
    return objects is not None and (objects.burst is not None or bool(objects.gone.removed))


def _is_small(
    damages: tuple[Damage, ...], objects: ObjectScope | None, inputs: dict[str, Any]
) -> bool:
    """Whether all of it may be brought back unasked."""
    taken = 0
    if objects:
        taken = (objects.burst.objects if objects.burst else 0) + (objects.gone.removed or 0)
    most_rows = int(inputs.get("at_most_rows", ROWS_UNASKED))
    most_objects = int(inputs.get("at_most_objects", OBJECTS_UNASKED))
    return sum(it.rows for it in damages) <= most_rows and taken <= most_objects


def _told(
    damages: tuple[Damage, ...],
    candidates: tuple[DeletedRows, ...],
    roles: tuple[str, ...],
    objects: ObjectScope | None,
) -> str:
    parts = [f"rows: {it.found}" for it in damages]
    if damages and len(roles) == 1:
        parts.append(f"by {roles[0]}, the only role that may")
    elif damages:
        could = ", ".join(roles) or "the owners of its tables, and superusers"
        parts.append(f"by whom is {UNKNOWN} (could: {could})")
    elif candidates:
        parts.append(
            f"NO ROWS stand out; {counted(len(candidates), 'transaction')} deleted some, the"
            f" largest: {candidates[0].told}; is it that one, start again with it as the moment"
        )
    if objects:
        parts.append(f"objects: {_told_objects(objects)}")
    return "; ".join(parts)


def _told_objects(scope: ObjectScope) -> str:
    if scope.burst is None:
        deleted = "none below a delete marker stands out"
    elif scope.who:
        deleted = f"{scope.burst.told}, by {', '.join(scope.who)}"
    else:
        why = "no trail can be read" if scope.who is None else "the trail tells of none"
        deleted = f"{scope.burst.told}, by whom is {UNKNOWN}: {why}"
    if scope.note:
        return f"{deleted}; gone for good: {UNKNOWN}, {scope.note}"
    removed = counted(scope.gone.removed or 0, "object")
    by = f", by {', '.join(scope.who)}" if scope.burst is None and scope.who else ""
    return f"{deleted}; gone for good: {removed}{by}" if scope.gone.removed else deleted


def _nothing(candidates: tuple[DeletedRows, ...], objects: ObjectScope | None) -> CheckFailed:
    told = [it.told for it in candidates[:SHOWN]]
    told += [f"objects: {it.told}" for it in (objects.others if objects else ())[:SHOWN]]
    return CheckFailed(
        "expected a deletion that stands out, found none"
        + (f"; the largest: {'; '.join(told)}" if told else ""),
        hint="name the moment: the transaction's id, or a time before the deletion",
        code="no-deletion-found",
    )
