"""Rows of a restored database by lot, compared with the living one.

Both directions: rows of the restored server are looked up in the living one, and rows of the living
one in the restored server, so that what a restore left out is met as well as what it made up. What
each pair must be is the rule of row_versions.py. Contents never leave their server: digests do.

The living server is read by one connection that cannot write, a statement at a time, each with a
time limit and none in a transaction, with pauses at least as long as the statements took; of its
tables only rows that were named, and pages by lot. It is never read as a whole.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from chalicelib.errors import BadInput, CheckFailed
from chalicelib.ports import Clock, Databases, Session
from chalicelib.verify.rows.tables import (
    Side,
    Table,
    draw_rows,
    find_rows,
    read_tables,
    shared_columns,
    show_row,
)
from chalicelib.verify.rows.versions import (
    VERDICTS,
    WRONG,
    Horizon,
    Verdict,
    Version,
    judge_row,
)

# Of the living server.
STATEMENT_SECONDS = 15
LOCK_SECONDS = 2
LONGEST_PAUSE_SECONDS = 5.0
READ_SECONDS = 120
NAMED = 5


@dataclass(frozen=True)
class SamplePolicy:
    """How many tables by lot, how many rows of each in each direction, and of how many pages of a
    living table these come."""

    tables: int = 20
    rows: int = 25
    pages: int = 20


@dataclass(frozen=True)
class GoneRow:
    """Where a row lay that is there no longer: file and page of its database, line pointer."""

    database: int
    file: int
    page: int
    line: int


# Which of them the WAL since deleted or replaced; None: there is too much of it to read, and in
# words why. Raises a LeewardError when it cannot be read.
LeftSince = Callable[[frozenset[GoneRow]], tuple[frozenset[GoneRow] | None, str]]


@dataclass
class _Tally:
    """What was found so far. `gone`: by where it lay, in words."""

    seen: Counter[Verdict] = field(default_factory=Counter)
    tables: int = 0
    unexplained: list[str] = field(default_factory=list)
    gone: dict[GoneRow, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def compare_rows(
    then: Databases,
    now: Databases,
    left_since: LeftSince,
    *,
    seed: int,
    clock: Clock,
    until: datetime,
    policy: SamplePolicy | None = None,
) -> str:
    """What was compared, in words.

    Args:
        then: the restored server, as a superuser, on which nothing was done since it was opened:
            a transaction of its own would be taken for one of its source.
        now: the living one; nothing is written there.
        seed: the same one draws the same tables and rows of the restored server again.
        until: no table is begun after it; those left are told.
    Raises:
        CheckFailed: code "rows-differ", naming tables and rows; "another-database", when the
            living one is no continuation of what was backed up; "no-rows-compared".
        As Session.query, when either does not answer.
    """
    with (
        then.session(timeout_seconds=READ_SECONDS, read_only=True) as old,
        now.session(timeout_seconds=STATEMENT_SECONDS, read_only=True) as living,
    ):
        paced = _Paced(living, clock)
        for session in (old, living):
            _prepare(session)
        work = _Comparison(old, paced, seed, policy or SamplePolicy())
        told = work.run(clock, until)
    return _conclude(work.tally, left_since, f"{told}, seed {seed}")


class _Paced:
    """Gives a session out, and rests as long as it was used."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session, self._clock = session, clock

    @contextmanager
    def turn(self) -> Iterator[Session]:
        started = self._clock.now()
        yield self._session
        worked = (self._clock.now() - started).total_seconds()
        self._clock.sleep(min(max(worked, 0.0), LONGEST_PAUSE_SECONDS))


class _Comparison:
    def __init__(self, old: Session, living: _Paced, seed: int, policy: SamplePolicy) -> None:
        self._old, self._living, self._seed, self._policy = old, living, seed, policy
        self.tally = _Tally()
        self._then = _next_xid(old)
        self._database = _identity(old)
        self._committed: dict[int, bool] = {}
        with living.turn() as session:
            _require_same(self._database, _identity(session))

    def run(self, clock: Clock, until: datetime) -> str:
        """How much was looked at, in words."""
        there = read_tables(self._old)
        with self._living.turn() as session:
            here = read_tables(session)
            horizon = self._horizon(session)
        self._look_at_tables(there, here, horizon)
        filled = sorted(it for it in there.keys() & here.keys() if there[it].pages + here[it].pages)
        chosen = random.Random(self._seed).sample(filled, min(self._policy.tables, len(filled)))
        for oid in chosen:
            if clock.now() >= until:
                break
            self._compare(there[oid], here[oid])
        return f"{self.tally.tables} of {len(filled)} tables by lot"

    def _look_at_tables(
        self, there: dict[int, Table], here: dict[int, Table], horizon: Horizon
    ) -> None:
        """A table that the living server had by then must have been restored, empty or not."""
        for oid in sorted(here.keys() - there.keys()):
            version = Version(here[oid].xmin, "")
            if judge_row(None, version, horizon, partial(self._is_committed, horizon)) == "missing":
                self.tally.unexplained.append(f"table {here[oid].name}: missing")
        dropped = len(there.keys() - here.keys())
        self.tally.notes += [f"{dropped} tables dropped since"] if dropped else []

    def _compare(self, there: Table, here: Table) -> None:
        rewritten = there.file != here.file
        by_key = bool(there.key) and there.key == here.key
        columns = shared_columns(there, here)
        if (rewritten and not by_key) or not columns:
            self.tally.notes.append(f"{here.name} was written anew since and cannot be compared")
            return
        try:
            self._compare_as(Side(there, columns, by_key, "send"), here, rewritten)
        except BadInput:
            # A type without a binary form.
            self._compare_as(Side(there, columns, by_key, "text"), here, rewritten)
        self.tally.tables += 1

    def _compare_as(self, then: Side, here: Table, rewritten: bool) -> None:
        now = Side(here, then.columns, then.by_key, then.form)
        ours = draw_rows(self._old, then, seed=self._seed, rows=self._policy.rows)
        with self._living.turn() as session:
            found = find_rows(session, now, [key for key, _ in ours])
        with self._living.turn() as session:
            theirs = draw_rows(
                session, now, seed=self._seed, rows=self._policy.rows, percent=self._percent(here)
            )
            horizon = self._horizon(session)
        kept = find_rows(self._old, then, [key for key, _ in theirs])
        pairs: dict[tuple[str, ...], tuple[Version | None, Version | None]] = {
            key: (version, found.get(key)) for key, version in ours
        }
        pairs |= {key: (kept.get(key), version) for key, version in theirs if key not in pairs}
        for key, (before, after) in pairs.items():
            self._judge(then, key, before, after, horizon, rewritten)

    def _judge(
        self,
        side: Side,
        key: tuple[str, ...],
        then: Version | None,
        now: Version | None,
        horizon: Horizon,
        rewritten: bool,
    ) -> None:
        if not side.by_key and then and now and then.xmin != now.xmin:
            # Another row lies there now; what was there is gone, or never was.
            then, now = (then, None) if horizon.is_newer(now.xmin) else (None, now)
        committed = partial(self._is_committed, horizon)
        verdict = judge_row(then, now, horizon, committed)
        self.tally.seen[verdict] += 1
        if then and not committed(then.xmin):
            self.tally.unexplained.append(f"{show_row(side, key)}: by an uncommitted transaction")
        if verdict in WRONG:
            self.tally.unexplained.append(f"{show_row(side, key)}: {verdict}")
        if verdict == "gone" and then and not rewritten:
            in_flight = then.xmax != 0 and not committed(then.xmax)
            if not in_flight:
                self.tally.gone[self._where(side, then)] = show_row(side, key)

    def _where(self, side: Side, version: Version) -> GoneRow:
        page, line = version.place.strip("()").split(",")
        return GoneRow(self._database.oid, side.table.file, int(page), int(line))

    def _percent(self, table: Table) -> float:
        return min(100.0, 100.0 * self._policy.pages / max(table.pages, 1))

    def _horizon(self, session: Session) -> Horizon:
        return Horizon(self._then, _next_xid(session))

    def _is_committed(self, horizon: Horizon, xid: int) -> bool:
        """In the restored state; one that is too old to be known there has committed."""
        if xid not in self._committed:
            full = horizon.full(xid)
            asked = "SELECT pg_xact_status(%s::text::xid8)"
            known = full > 2 and xid > 2
            state = self._old.query(asked, (str(full),))[0][0] if known else None
            self._committed[xid] = state in (None, "committed")
        return self._committed[xid]


def _conclude(tally: _Tally, left_since: LeftSince, told: str) -> str:
    counts = (f"{tally.seen[verdict]} {verdict}" for verdict in VERDICTS if tally.seen[verdict])
    told = f"{told}: {', '.join(counts) or 'no row'}"
    unexplained, notes = list(tally.unexplained), list(tally.notes)
    if tally.gone:
        left, why = left_since(frozenset(tally.gone))
        if left is None:
            notes.append(f"{len(tally.gone)} gone rows were not looked up: {why}")
        else:
            unexplained += [f"{name}: gone" for row, name in tally.gone.items() if row not in left]
    told += "".join(f"; {note}" for note in notes)
    if unexplained:
        raise CheckFailed(
            f"rows differ and nothing since explains it: {_few(unexplained)}; {told}",
            code="rows-differ",
            hint="restore that point with `leeward restore point` and compare these rows",
        )
    if not tally.seen["equal"]:
        raise CheckFailed(
            f"expected rows that are unchanged since to compare, found none: {told}",
            code="no-rows-compared",
            hint="compare a younger point",
        )
    return told


@dataclass(frozen=True)
class _Identity:
    system: str
    oid: int


def _identity(session: Session) -> _Identity:
    [(system, oid)] = session.query(
        "SELECT system_identifier::text, (SELECT oid::bigint FROM pg_database"
        " WHERE datname = current_database()) FROM pg_control_system()"
    )
    return _Identity(str(system), int(oid))


def _require_same(then: _Identity, now: _Identity) -> None:
    if then != now:
        raise CheckFailed(
            f"expected database {then.oid} of system {then.system}, "
            f"found {now.oid} of {now.system}",
            code="another-database",
            hint="it was loaded anew since that point: rows of younger points can be compared",
        )


def _next_xid(session: Session) -> int:
    """Above every transaction that has ended: what a row shows is below it."""
    [(following,)] = session.query("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    return int(following)


def _prepare(session: Session) -> None:
    """Rows that are named are looked up, and never met by reading the table."""
    for name, value in (
        ("lock_timeout", f"{LOCK_SECONDS}s"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("max_parallel_workers_per_gather", "0"),
        ("client_encoding", "UTF8"),
    ):
        session.execute(f"SET {name} = '{value}'")


def _few(found: list[str]) -> str:
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more
