"""Find what damaged a database and the moment to go back to.

In this order: a person's word; files and pages known to be bad; the transaction in the WAL that
changed, emptied or dropped too much; every page and index; at last a bisection over restored
states, which begins with what changed the schema. Physical damage loses no transaction: its target
is the end of the WAL on a clean backup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from chalicelib.errors import CheckFailed, Damaged, LeewardError
from chalicelib.plan.components import DamageThresholds
from chalicelib.plan.records import Damage, RecoveryTarget, format_lsn, format_time
from chalicelib.ports import Fault, Inspector
from chalicelib.recover.database.bisect import bisect_states
from chalicelib.recover.database.changes import Activity, Transaction
from chalicelib.recover.database.relations import Relations
from chalicelib.recover.database.reshaped import Shapes, find_reshaped, judge_reshaped
from chalicelib.recover.database.suspects import WHOLE_DATABASE, Suspect, decide_suspects
from chalicelib.recover.moment import (
    parse_moment,
    place_target,
    spare_database,
    target_before,
)

ALTERNATIVES = 10
TOLD = 3
# So many suspects are tried before the middle of what is between.
LIKELY = 3


@dataclass(frozen=True)
class Search:
    """What is known before the search.

    activity: all stored WAL, also from before `since`. since: the last moment the database was
    proven sound, None when never. commits: the transactions since then in the order of their
    commits, asked for by a bisection alone. is_sound: restores to a target and runs the plan's
    assertions there; None when that cannot be done. invalid_row: the database's, as Activity.marks
    names it, when a DROP left it invalid; else "". shapes: the schema that was, and is.
    last_commit: when the last transaction before an LSN committed; None when nobody can say.
    """

    activity: Activity
    relations: Relations
    inspector: Inspector
    thresholds: DamageThresholds
    timeline: int
    now: datetime
    since: datetime | None = None
    commits: Callable[[], list[Transaction]] = list
    is_sound: Callable[[RecoveryTarget], bool] | None = None
    invalid_row: str = ""
    shapes: Shapes = Shapes()
    last_commit: Callable[[int], datetime | None] = lambda lsn: None


@dataclass
class _Looked:
    """Which looks were taken, and which could not be."""

    faults: list[Fault] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def look(self, name: str, inspect: Callable[[], Iterable[Fault]]) -> list[Fault]:
        found: list[Fault] = []
        try:
            found = list(inspect())
            self.words.append(f"{name}: {len(found) or 'no'} faults")
        except Damaged as error:
            found = [Fault("page", "the database", error.message)]
        except LeewardError as error:
            self.words.append(f"{name}: could not look ({error.instance_code})")
        self.faults += found
        return found


def find_damage(search: Search, *, moment: str = "") -> Damage:
    """What was damaged, how it was found, and the target of a recovery.

    Args:
        moment: a person's override: a transaction id, an LSN, a time with its zone, or "".
    Raises:
        BadInput: the moment cannot be used.
        CheckFailed: code "no-damage-found"; nothing was found and nothing could be bisected.
    """
    suspects = _suspects(search)
    if moment:
        return _overridden(search, moment, suspects)
    if search.invalid_row:
        return _half_dropped(search, suspects)
    looked, inspector = _Looked(), search.inspector
    looked.look("relation files", inspector.missing_files)
    looked.look("checksum failures", lambda: inspector.failed_checksums(search.since))
    if looked.faults:
        return _physical(search, looked, suspects)
    looked.words.append(f"WAL: {search.activity.transactions} transactions")
    if suspects and suspects[0].strong:
        return _logical(search, looked, suspects)
    if looked.look("WAL of the slots", inspector.missing_wal):
        return _physical(search, looked, suspects)
    looked.look("every page", inspector.damaged_pages)
    looked.look("every index", inspector.damaged_indexes)
    if looked.faults:
        return _physical(search, looked, suspects)
    return _bisected(search, looked, suspects)


def _suspects(search: Search) -> tuple[Suspect, ...]:
    """What changed the schema also from before `since`: that the database looked sound afterwards
    means no more than that nobody asked for what was gone."""
    activity, relations = search.activity, search.relations
    rows = decide_suspects(activity, relations, search.thresholds, since=search.since)
    strong = [it for it in rows if it.strong]
    xids = {it.xid for it in rows}
    reshaped = find_reshaped(activity, relations, search.shapes, beside=xids)
    return (*strong, *reshaped, *(it for it in rows if not it.strong))


def _overridden(search: Search, moment: str, suspects: tuple[Suspect, ...]) -> Damage:
    named = parse_moment(moment, timeline=search.timeline, now=search.now)
    notable, oids = search.activity.notable, search.relations.oids
    drops = (it for it in notable if not oids.isdisjoint(it.dropped_databases))
    target = spare_database(place_target(named, notable), drops, search.last_commit)
    return Damage(
        kind="suspected",
        found=f"a person named the moment: {named.kind} {named.value}".rstrip(),
        how="override",
        target=target,
        detected_at=search.now,
        xid=int(named.value) if named.kind == "xid" else None,
        commit_lsn=target.lsn or None,
        alternatives=_alternatives(suspects),
    )


def _physical(search: Search, looked: _Looked, suspects: tuple[Suspect, ...]) -> Damage:
    first = looked.faults[0]
    more = f" and {len(looked.faults) - 1} more" if len(looked.faults) > 1 else ""
    return Damage(
        kind=first.kind,
        found=f"{first.where}: {first.what}{more}",
        how="; ".join(looked.words),
        target=RecoveryTarget("end", "", timeline=search.timeline),
        detected_at=search.now,
        tables=tuple(dict.fromkeys(fault.where for fault in looked.faults)),
        alternatives=_alternatives(suspects),
    )


def _logical(search: Search, looked: _Looked, suspects: tuple[Suspect, ...]) -> Damage:
    first = suspects[0]
    return Damage(
        kind=first.kind,
        found=f"transaction {first.xid}, committed {format_time(first.committed_at)} "
        f"at {format_lsn(first.commit_lsn)}: {first.why}{_tell_kept(suspects)}",
        how="; ".join(looked.words),
        target=target_before(first.xid, first.commit_lsn, first.drop_lsn, search.timeline),
        detected_at=search.now,
        damaged_at=first.committed_at,
        xid=first.xid,
        commit_lsn=first.commit_lsn,
        tables=first.tables,
        rows=first.rows,
        alternatives=_alternatives(suspects[1:]),
    )


def _half_dropped(search: Search, suspects: tuple[Suspect, ...]) -> Damage:
    """The transaction that marked the database did not commit, and may not even have ended."""
    words = f"the server has it as invalid; WAL: {search.activity.transactions} transactions"
    lsn = search.activity.marks.get(search.invalid_row)
    if lsn is None:
        raise _nothing_found(_Looked(words=[words]), suspects)
    return Damage(
        kind="drop",
        found=f"a DROP DATABASE that did not end made the database invalid at {format_lsn(lsn)}",
        how=words,
        target=RecoveryTarget("lsn", format_lsn(lsn), lsn, search.timeline),
        detected_at=search.now,
        tables=(WHOLE_DATABASE,),
        rows=search.relations.total_rows,
        alternatives=_alternatives(suspects),
    )


def _tell_kept(suspects: tuple[Suspect, ...]) -> str:
    """Going back to before the first leaves in place what a lighter one did before it."""
    first, *others = suspects
    kept = [it for it in others if it.strong and it.commit_lsn < first.commit_lsn]
    told = "; ".join(f"transaction {it.xid} {it.why}" for it in kept[:TOLD])
    return f". KEPT, though suspect: {told}" if kept else ""


def _bisected(search: Search, looked: _Looked, suspects: tuple[Suspect, ...]) -> Damage:
    commits = search.commits() if search.is_sound else []
    if search.is_sound is None or not commits:
        raise _nothing_found(looked, suspects)
    is_sound, targets = search.is_sound, [_before(commit, search.timeline) for commit in commits]
    xids = [it.xid for it in suspects[:LIKELY]]
    places = {commit.xid: place for place, commit in enumerate(commits)}
    likely = [places[xid] for xid in xids if xid in places]
    first = commits[bisect_states(targets, is_sound, likely=likely)]
    known = _described(search, first, suspects)
    return Damage(
        kind=known.kind if known else "suspected",
        found=f"transaction {first.xid}, committed {format_time(first.committed_at)}: "
        f"{known.why + '; ' if known else ''}the database is sound before it and not after it",
        how="; ".join((*looked.words, f"bisection of {len(commits)} transactions")),
        target=_before(first, search.timeline),
        detected_at=search.now,
        damaged_at=first.committed_at,
        xid=first.xid,
        commit_lsn=first.commit_lsn,
        tables=known.tables if known else _written(search, first),
        rows=known.rows if known else first.changed,
        alternatives=_alternatives(tuple(it for it in suspects if it.xid != first.xid)),
    )


def _described(
    search: Search, transaction: Transaction, suspects: tuple[Suspect, ...]
) -> Suspect | None:
    """A view or a function that is gone has left no lock to know its transaction by beforehand."""
    known = next((it for it in suspects if it.xid == transaction.xid), None)
    return known or judge_reshaped(transaction, search.relations, search.shapes)


def _written(search: Search, transaction: Transaction) -> tuple[str, ...]:
    return tuple(dict.fromkeys(search.relations.name_of(file) for file in transaction.rows))


def _nothing_found(looked: _Looked, suspects: tuple[Suspect, ...]) -> CheckFailed:
    told = "; ".join(f"transaction {it.xid} {it.why}" for it in suspects[:TOLD])
    return CheckFailed(
        f"expected to find what was damaged, found nothing ({'; '.join(looked.words)})"
        f"{f'; it may have been: {told}' if told else ''}",
        code="no-damage-found",
        hint="Name the moment to go back to: a transaction id, an LSN or a time.",
        alternatives=list(_alternatives(suspects)),
    )


def _before(commit: Transaction, timeline: int) -> RecoveryTarget:
    return target_before(commit.xid, commit.commit_lsn, commit.acts_at, timeline)


def _alternatives(suspects: tuple[Suspect, ...]) -> tuple[dict[str, object], ...]:
    return tuple(suspect.to_json() for suspect in suspects[:ALTERNATIVES])
