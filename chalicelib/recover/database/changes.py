"""Row changes per transaction, read from the text of pg_waldump.

Records of a transaction come in any number of pieces, with other transactions in between, under
its own id and those of its savepoints; only its commit says that it counts. Memory grows with the
transactions that are open and with those worth a look, never with the length of the WAL.

Source: the record descriptions of PostgreSQL 15 to 18 (src/backend/access/rmgrdesc: heapdesc.c,
xactdesc.c, smgrdesc.c, standbydesc.c, dbasedesc.c).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from chalicelib.plan.records import parse_lsn

# A transaction that changed fewer rows of every table is only counted, not kept.
NOTABLE_ROWS = 20
# FirstNormalObjectId (PostgreSQL, access/transam.h): lower numbers are initdb's.
FIRST_USER_NUMBER = 16384
# DROP DATABASE marks a database as invalid since 15.4 (its release notes) and in all of 16.
DROPS_MARKED = 150004


class Relfile(NamedTuple):
    """A relation as WAL names it: oid of its database (0 for shared ones), file number."""

    database: int
    number: int


class Rows(NamedTuple):
    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def changed(self) -> int:
        """Rows that existed before and are not what they were."""
        return self.updated + self.deleted

    def plus(self, other: Rows) -> Rows:
        return Rows(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Shaped(NamedTuple):
    """Transactions worth a look: that lock one of `tables` (database, oid) against everybody and
    change rows of one of the `catalogues` (file numbers), or that make no file and change rows of
    one of the catalogues in `unlocked`, without new rows where a new object has one."""

    tables: frozenset[Relfile] = frozenset()
    catalogues: frozenset[int] = frozenset()
    unlocked: frozenset[Relfile] = frozenset()


NOTHING_SHAPED = Shaped()


@dataclass(frozen=True)
class CreatedFile:
    """A new file of a relation. `transient`: made with a new table, as ALTER TABLE and VACUUM
    FULL do, and not as a new file of an old one, as TRUNCATE does."""

    relfile: Relfile
    tablespace: str
    transient: bool


class SequenceSet(NamedTuple):
    """A value of a sequence that is lower than the one before, or the first that the WAL has of its
    file (`was` is None). Both run ahead of what was given out. `lsn`: of the record, which counts
    at once and whatever becomes of the transaction."""

    relfile: Relfile
    lsn: int
    was: int | None
    now: int


@dataclass(frozen=True)
class Transaction:
    """A committed transaction. `dropped` holds (file, its tablespace); `children` the ids of its
    savepoints, which its rows may carry as their xmin. `locked`: relations that it locked against
    everybody, by database and oid. One that was rolled back is like one that did nothing but set
    `sequences`: that it did.

    `drop_lsn`: where a DROP DATABASE begins to destroy, 0 without one. It marks the database as
    invalid and removes its files before it commits, and a replay up to the commit does so too.
    """

    xid: int
    commit_lsn: int
    committed_at: datetime
    rows: dict[Relfile, Rows]
    created: tuple[CreatedFile, ...] = ()
    dropped: tuple[tuple[Relfile, str], ...] = ()
    dropped_databases: tuple[int, ...] = ()
    drop_lsn: int = 0
    children: tuple[int, ...] = ()
    locked: frozenset[Relfile] = frozenset()
    sequences: tuple[SequenceSet, ...] = ()

    @property
    def changed(self) -> int:
        return sum(rows.changed for rows in self.rows.values())

    @property
    def acts_at(self) -> int:
        """The LSN from which on a replay has done what it does, commit or not; 0 when its commit
        counts."""
        if self.drop_lsn or self.rows or self.dropped:
            return self.drop_lsn
        return min((it.lsn for it in self.sequences), default=0)


@dataclass
class OpenChanges:
    """What one transaction or savepoint did so far."""

    rows: dict[Relfile, Rows] = field(default_factory=dict)
    created: list[tuple[Relfile, str]] = field(default_factory=list)
    locked: set[Relfile] = field(default_factory=set)
    dropped_databases: list[int] = field(default_factory=list)
    drop_lsn: int = 0
    sequences: list[SequenceSet] = field(default_factory=list)

    def add(self, relfile: Relfile, rows: Rows) -> None:
        before = self.rows.get(relfile)
        self.rows[relfile] = before.plus(rows) if before else rows

    def absorb(self, other: OpenChanges) -> None:
        for relfile, rows in other.rows.items():
            self.add(relfile, rows)
        self.created += other.created
        self.locked |= other.locked
        self.dropped_databases += other.dropped_databases
        self.drop_lsn = self.drop_lsn or other.drop_lsn
        self.sequences += other.sequences


@dataclass
class Activity:
    """What a stretch of WAL holds: how many transactions changed how many rows of each file,
    the notable transactions in full, in the order of their commits, and when the last committed.

    `marks`: the LSN at which a row of pg_database, by its "file/block/line", last changed in place:
    no other shared catalogue's rows do (heap_inplace_update), whatever its file is called.
    """

    usual: dict[Relfile, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    notable: list[Transaction] = field(default_factory=list)
    transactions: int = 0
    last_commit_at: datetime | None = None
    marks: dict[str, int] = field(default_factory=dict)


def drops_marked(versions: Iterable[int]) -> bool:
    """Whether each server of these versions (server_version_num) marks a database that it drops."""
    return all(version >= DROPS_MARKED for version in versions)


class ChangeScan:
    """Feed it text in the order of the WAL; `activity` and `open` are always up to date.

    `keep`: ids of transactions that count as notable whatever they did. `shaped`: which others do,
    beside those that changed many rows. `drops_marked`, as the function: the server marks a
    database before it removes its files; one that does not begins with the files, and a change in
    place of the database's row is then a VACUUM's. `sequence_value`: the value in a sequence's
    record by its LSN; without it nobody looks at sequences.
    """

    def __init__(
        self,
        open_before: dict[int, OpenChanges] | None = None,
        *,
        keep: frozenset[int] = frozenset(),
        shaped: Shaped = NOTHING_SHAPED,
        drops_marked: bool = True,
        sequence_value: Callable[[int], int] | None = None,
    ) -> None:
        self.open: dict[int, OpenChanges] = defaultdict(OpenChanges)
        self.open.update(open_before or {})
        self._keep = keep
        self._shaped = shaped
        self._drops_marked = drops_marked
        self._sequence_value = sequence_value
        self._values: dict[Relfile, int] = {}
        self.activity = Activity()

    def feed(self, text: bytes) -> Iterator[Transaction]:
        """The transactions that commit in `text` (whole lines), in order.

        A transaction's rows precede its end and no id is used twice within one piece, so all
        rows of a piece can be counted before any of its ends is looked at.
        """
        self._count_rows(text)
        if self._drops_marked and b"rel 1664/0/" in text:
            self._mark_drops(text)
        for manager, xid, lsn, what, rest in _EVENT.findall(text):
            if manager == b"Transaction":
                committed = self._end(int(xid), lsn, what, rest)
                if committed:
                    yield committed
            elif what == b"CREATE" and manager == b"Storage":
                self._create(int(xid), rest)
            elif what == b"LOCK" and manager == b"Standby":
                self._lock(rest)
            elif what == b"DROP" and manager == b"Database":
                self._drop_databases(int(xid), lsn, rest)
            elif what == b"LOG" and manager == b"Sequence" and self._sequence_value:
                self._set_sequence(int(xid), lsn, rest, self._sequence_value)

    def read(self, chunks: Iterable[bytes]) -> Activity:
        """Feed all of it and fold the transactions into `activity`."""
        for chunk in chunks:
            for transaction in self.feed(chunk):
                self.fold(transaction)
        return self.activity

    def _count_rows(self, text: bytes) -> None:
        for (xid, many, one, database, number), times in Counter(_ROW.findall(text)).items():
            rows = Rows(inserted=int(many) * times) if many else _one_row(one, times)
            self.open[int(xid)].add(Relfile(int(database), int(number)), rows)

    def _create(self, xid: int, rest: bytes) -> None:
        # The first fork of an unlogged table's file that WAL holds is the empty one.
        found = _parse_path(rest.strip().removesuffix(b"_init"))
        if found and xid:  # indexes are made before their transaction has an id
            self.open[xid].created.append(found)

    def _lock(self, rest: bytes) -> None:
        for xid, database, number in _LOCK.findall(rest):
            self.open[int(xid)].locked.add(Relfile(int(database), int(number)))

    def _set_sequence(
        self, xid: int, lsn: bytes, rest: bytes, value_at: Callable[[int], int]
    ) -> None:
        found = _SEQUENCE.match(rest)
        if found is None or not xid:  # a savepoint's bears no id
            return
        relfile, at = Relfile(int(found[1]), int(found[2])), parse_lsn(lsn.decode())
        was, now = self._values.get(relfile), value_at(at)
        self._values[relfile] = now
        if was is None or now < was:
            self.open[xid].sequences.append(SequenceSet(relfile, at, was, now))

    def _mark_drops(self, text: bytes) -> None:
        """The mark may come before the transaction has an id; the row's deletion follows it."""
        for xid, lsn, what, line, file, block in _DATABASE_ROW.findall(text):
            place = f"{int(file)}/{int(block)}/{int(line)}"
            if what == b"INPLACE":
                self.activity.marks[place] = parse_lsn(lsn.decode())
            elif place in self.activity.marks:
                self.open[int(xid)].drop_lsn = self.activity.marks[place]

    def _drop_databases(self, xid: int, lsn: bytes, rest: bytes) -> None:
        changes = self.open[xid]
        changes.drop_lsn = changes.drop_lsn or parse_lsn(lsn.decode())
        # One path a tablespace: "dir 1663/16457 1700/16457".
        oids = {int(oid) for oid in _DATABASE_DIR.findall(rest)}
        changes.dropped_databases += sorted(oids)

    def _end(self, xid: int, lsn: bytes, what: bytes, rest: bytes) -> Transaction | None:
        if what not in _ENDS:
            return None
        if what.endswith(b"_PREPARED"):
            text, _, rest = rest.partition(b": ")
            xid = int(text)
        parts = [part.strip() for part in rest.split(b";")]
        children = tuple(int(child) for child in _named(parts, b"subxacts: "))
        changes = self._close(xid)
        for child in children:
            changes.absorb(self._close(child))
        sequences = tuple(changes.sequences)
        if what.startswith(b"ABORT"):
            at = parse_lsn(lsn.decode()), _parse_time(parts[0])
            return Transaction(xid, *at, rows={}, sequences=sequences) if sequences else None
        self.activity.transactions += 1
        paths = [_parse_path(path) for path in _named(parts, b"rels: ")]
        created = tuple(
            CreatedFile(relfile, tablespace, transient=relfile in changes.locked)
            for relfile, tablespace in changes.created
        )
        return Transaction(
            xid=xid,
            commit_lsn=parse_lsn(lsn.decode()),
            committed_at=_parse_time(parts[0]),
            rows=changes.rows,
            created=created,
            dropped=tuple(path for path in paths if path),
            dropped_databases=tuple(changes.dropped_databases),
            drop_lsn=changes.drop_lsn if changes.dropped_databases else 0,
            children=children,
            locked=frozenset(changes.locked),
            sequences=sequences,
        )

    def _close(self, xid: int) -> OpenChanges:
        return self.open.pop(xid) if xid in self.open else OpenChanges()

    def fold(self, transaction: Transaction) -> None:
        """Count it among the others, or keep it as notable."""
        self.activity.last_commit_at = transaction.committed_at
        most = max((rows.changed for rows in transaction.rows.values()), default=0)
        lost = transaction.dropped or transaction.dropped_databases
        kept = transaction.xid in self._keep or self._is_shaping(transaction)
        kept = kept or bool(transaction.sequences)
        if lost or most >= NOTABLE_ROWS or kept:
            self.activity.notable.append(transaction)
            return
        for relfile, rows in transaction.rows.items():
            if rows.changed:
                self.activity.usual[relfile][rows.changed] += 1

    def _is_shaping(self, transaction: Transaction) -> bool:
        changed = {file for file, rows in transaction.rows.items() if rows.changed}
        if not self._shaped.tables.isdisjoint(transaction.locked):
            return not self._shaped.catalogues.isdisjoint(file.number for file in changed)
        return not transaction.created and any(
            rows.changed and not rows.inserted if file.database else any(rows)
            for file, rows in transaction.rows.items()
            if file in self._shaped.unlocked
        )


_ROW = re.compile(
    rb"tx: +(\d+), lsn: [0-9A-F/]+, prev [0-9A-F/]+, desc: "
    rb"(?:MULTI_INSERT(?:\+INIT)? (?:ntuples: )?(\d+),?|"
    rb"(INSERT|UPDATE|HOT_UPDATE|DELETE)(?:\+INIT)?) "
    rb"[^#\n]*#0: rel \d+/(\d+)/(\d+) "
)
_EVENT = re.compile(
    rb"rmgr: (Transaction|Storage|Standby|Database|Sequence) +len [^,]+, tx: +(\d+), lsn: ([^,]+), "
    rb"prev [^,]+, desc: (\w+) ?([^\n]*)"
)
# DROP DATABASE changes a row of pg_database in place, then deletes it (dbcommands.c, dropdb).
_DATABASE_ROW = re.compile(
    rb"rmgr: Heap +len [^,]+, tx: +(\d+), lsn: ([^,]+), prev [^,]+, "
    rb"desc: (INPLACE|DELETE) (?:xmax: \d+, )?off:? (\d+)[^#\n]*#0: "
    rb"rel 1664/0/(\d+) blk (\d+)"
)
_SEQUENCE = re.compile(rb"rel \d+/(\d+)/(\d+)")
_LOCK = re.compile(rb"xid (\d+) db (\d+) rel (\d+)")
_DATABASE_DIR = re.compile(rb"\d+/(\d+)")
_PATH = re.compile(rb"(?:(base|pg_tblspc/\d+/[^/ ]+)/(\d+)|(global))/(\d+)$")
_ENDS = {b"COMMIT", b"ABORT", b"COMMIT_PREPARED", b"ABORT_PREPARED"}


def _one_row(what: bytes, times: int) -> Rows:
    if what == b"INSERT":
        return Rows(inserted=times)
    return Rows(deleted=times) if what == b"DELETE" else Rows(updated=times)


def _named(parts: list[bytes], name: bytes) -> list[bytes]:
    for part in parts:
        if part.startswith(name):
            return part[len(name) :].split()
    return []


def _parse_path(path: bytes) -> tuple[Relfile, str] | None:
    """ "base/5/16385" -> its file and tablespace; None for another fork or a temporary table."""
    found = _PATH.match(path)
    if not found:
        return None
    tablespace, database, shared, number = found.groups()
    return Relfile(int(database or 0), int(number)), (tablespace or shared).decode()


def _parse_time(text: bytes) -> datetime:
    """ "2026-11-22 08:50:36.155409 UTC": pg_waldump was told to print UTC."""
    return datetime.fromisoformat(text.decode().removesuffix(" UTC")).replace(tzinfo=UTC)
