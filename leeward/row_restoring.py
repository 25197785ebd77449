"""Rows of a table taken back by hand: what `leeward restore rows` does."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.errors import BadInput, Refused
from chalicelib.evidence.text import in_units
from chalicelib.plan.records import RecoveryTarget, format_lsn
from chalicelib.ports import Catalogue, ObjectStore
from chalicelib.recover.choose_copy import CopyChoice, choose_copy
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.replay import replaying
from chalicelib.recover.database.restore import restore_and_list
from chalicelib.recover.moment import parse_moment
from chalicelib.recover.on_disk import sync_file
from chalicelib.recover.rows.gone import begins_too_late, find_transaction
from chalicelib.recover.rows.sources import Wish
from chalicelib.recover.rows.take_back import Aside, RowsBack, take_rows_back
from chalicelib.recover.window import find_window
from chalicelib.services.steps.database.wal import segments_on_disk
from chalicelib.services.steps.deletion.rows import wal_starts, wish_of, write_aside
from leeward.restoring import REPLAY_SECONDS

if TYPE_CHECKING:
    from chalicelib.services.locations import Locations

END = RecoveryTarget("end", "")


@dataclass
class RowRestorer:
    """One restore of rows. `live`: where they go. `moment`: a transaction, an LSN or a time.

    `tables`: only these; needed unless the moment is a transaction. `tell(step, found)` hears when
    a step begins (found "") and when it is done. `aside`: a file for rows that may not go in.
    """

    places: Locations
    component: str
    moment: str
    tables: tuple[str, ...]
    live: PostgresDatabases
    tell: Callable[[str, str], None]
    location: str = ""
    aside: Path | None = None
    _clock: SystemClock = field(default_factory=SystemClock)
    _found: str = ""

    def run(self, *, dry_run: bool) -> RowsBack:
        """Raises what `take_rows_back` raises, and BadInput (code "no-table")."""
        with tempfile.TemporaryDirectory(prefix="leeward-rows-") as made:
            folder = Path(made)
            folder.chmod(0o755)
            with self._step("choose"):
                choice = self._choose(END)
                target = self._target(choice, folder)
                choice = self._choose(target)
                self._found = choice.why
            then = folder / "restored"
            with (
                self._recovered(choice, target, then) as old,
                self._wish(choice, target, folder) as wish,
                self._step("take back"),
            ):
                back = take_rows_back(old, self.live, wish, keep=self._keep, dry_run=dry_run)
                would = "would come" if dry_run else "came"
                self._found = f"{back.restored:,} of {back.gone:,} rows {would} back"
        return back

    def _choose(self, target: RecoveryTarget) -> CopyChoice:
        asked = (
            (self.places.ask(self.location, self.component),)
            if self.location
            else self.places.candidates(self.component)
        )
        return choose_copy(asked, target)

    def _target(self, choice: CopyChoice, folder: Path) -> RecoveryTarget:
        """The moment, with the place of its commit when it is a transaction."""
        store, catalogue = self._ports(choice)
        inventory = catalogue.inventory()
        window = find_window(inventory.windows, END)
        target = parse_moment(self.moment, timeline=window.timeline, now=self._clock.now())
        if target.kind != "xid":
            if not self.tables:
                raise BadInput(
                    "expected a table with a moment that is no transaction, found none",
                    hint="name it with --table, or the transaction with --moment",
                    code="no-table",
                )
            return target
        start = wal_starts(inventory, window, window.start_lsn)[-1]
        with segments_on_disk(
            store, inventory, window, folder / "wal", from_lsn=start, named=None
        ) as wal:
            texts = wal.dump(window.timeline, start, window.end_lsn)
            found, whole = find_transaction(texts, int(target.value))
        if found is None or not whole:
            raise begins_too_late(target)
        return RecoveryTarget("xid", target.value, found.commit_lsn, window.timeline)

    @contextmanager
    def _wish(self, choice: CopyChoice, target: RecoveryTarget, folder: Path) -> Iterator[Wish]:
        if target.kind != "xid":
            yield Wish(tables=self.tables)
            return
        store, catalogue = self._ports(choice)
        inventory = catalogue.inventory()
        window = find_window(inventory.windows, target)
        with ExitStack() as stack:
            whole = False
            for start in wal_starts(inventory, window, target.lsn):
                stack.close()
                wal = stack.enter_context(
                    segments_on_disk(
                        store, inventory, window, folder / "wal", from_lsn=start, named=None
                    )
                )
                wish, whole = wish_of(wal, window, target, start, self.tables)
                if whole:
                    break
            if not whole:
                raise begins_too_late(target)
            yield wish

    @contextmanager
    def _recovered(
        self, choice: CopyChoice, target: RecoveryTarget, folder: Path
    ) -> Iterator[PostgresDatabases]:
        """The living database as it was, by programs of its own version."""
        means = Means(*self._ports(choice), ThrowawayServer, self._clock)
        with self._step("restore"):
            restored, wal = restore_and_list(means, target, folder)
            self._found = f"{restored.point_id}, {restored.source_bytes / 1e6:,.1f} MB"
        with ExitStack() as stack:
            with self._step("replay"):
                replayed, server = stack.enter_context(
                    replaying(means, restored, folder, timeout_seconds=REPLAY_SECONDS, wal=wal)
                )
                self._found = f"to {format_lsn(replayed.recovered_lsn)}"
            assert isinstance(server, ThrowawayServer)
            yield PostgresDatabases(server.dsn(self.live.database), server.binaries)

    def _keep(self, back: RowsBack, xid: str, aside: Aside) -> None:
        """Before the commit: what does not go in is on disk, or nothing goes in."""
        if not back.aside:
            return
        if self.aside is None:
            raise Refused(
                f"expected that every row may go in, found {back.aside:,} that may not",
                hint="name a file for them with --aside; --dry-run tells why each stays out",
                code="rows-left-out",
            )
        with self.aside.open("wb") as file:
            write_aside(file, aside)
        sync_file(self.aside)

    def _ports(self, choice: CopyChoice) -> tuple[ObjectStore, Catalogue]:
        return (
            self.places.store(choice.location, self.component),
            self.places.catalogue(
                choice.location, self.component, quarantined=dict(choice.quarantined)
            ),
        )

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self.tell(name, "")
        started = time.monotonic()
        yield
        self.tell(name, f"{self._found} in {in_units(round(time.monotonic() - started, 3))}")
