"""What a bisection asks: the transactions in question, and whether the state before one is sound.

A state is restored, replayed and judged by the plan's assertions, here and nowhere else. Each
answer is kept with the run: an attempt that died goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from chalicelib.adapters.postgres.inspect import PostgresInspector
from chalicelib.evidence.entries import Entry, decision
from chalicelib.incidents.run import Run
from chalicelib.plan.components import DatabaseChecks
from chalicelib.plan.records import CheckResult, RecoveryTarget, Window
from chalicelib.ports import WalText
from chalicelib.recover.database.changes import ChangeScan, Transaction
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.recovered import recovered
from chalicelib.recover.moment import target_before
from chalicelib.recover.window import describe
from chalicelib.services import build
from chalicelib.services.steps.database.rebuild import databases_of, server_of
from chalicelib.services.steps.said import say
from chalicelib.services.steps.sources import Source
from chalicelib.verify.database import verify_database


@dataclass(frozen=True)
class Bisection:
    """Over the stored WAL of a window. `since`: until when everything looked sound, if known."""

    run: Run
    component: str
    source: Source
    wal: WalText
    window: Window
    since: datetime | None

    def commits(self, start_lsn: int) -> list[Transaction]:
        """The transactions one of which made the database unsound, in the order of their commits.

        Empty when there is nothing to bisect: the end is sound, or the beginning is not.
        """
        if self.is_sound(RecoveryTarget("end", "", timeline=self.window.timeline)):
            return []
        for since in dict.fromkeys((self.since, None)):
            commits = list(self._read_commits(start_lsn, since))
            if commits and self.is_sound(before(commits[0], self.window.timeline)):
                return commits
        return []

    def is_sound(self, target: RecoveryTarget) -> bool:
        """Whether the plan's assertions hold at a moment; asked of a restored server once."""
        state = build.state()
        partition, sort = f"run#{self.run.run_id}", f"probe#{target.kind}#{target.value}"
        kept = state.get(partition, sort)
        if kept is not None:
            return bool(kept["sound"])
        checks = self._judge(target)
        sound = all(check.ok for check in checks)
        say(self.run, _decided(target, checks, sound=sound), about=sort)
        state.create(partition, sort, {"sound": sound})
        return sound

    def _read_commits(self, start_lsn: int, since: datetime | None) -> Iterator[Transaction]:
        """Those that changed rows, files or sequences, and that a backup of the window lies
        before."""
        window = self.window
        value_at = partial(self.wal.sequence_value, window.timeline)
        scan = ChangeScan(sequence_value=value_at)
        for chunk in self.wal.dump(window.timeline, start_lsn, window.end_lsn):
            for it in scan.feed(chunk):
                reachable = it.commit_lsn >= window.start_lsn
                later = since is None or it.committed_at > since
                if (it.rows or it.dropped or it.sequences) and reachable and later:
                    yield it

    def _judge(self, target: RecoveryTarget) -> tuple[CheckResult, ...]:
        folder = build.environment().work_dir / self.run.run_id / "bisect"
        clock = build.clock()
        means = Means(self.source.store, self.source.catalogue, server_of, clock)
        try:
            with recovered(means, target, folder) as found:
                server = found.server
                databases = databases_of(server, build.operator(self.component).database)
                return verify_database(
                    databases,
                    PostgresInspector(server.dsn(databases.database), databases),
                    assertions_of(build.database(self.component).checks),
                    moment=found.replayed.last_commit_at or clock.now(),
                    clock=clock,
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def before(commit: Transaction, timeline: int) -> RecoveryTarget:
    return target_before(commit.xid, commit.commit_lsn, commit.acts_at, timeline)


def assertions_of(checks: DatabaseChecks) -> DatabaseChecks:
    """The plan's assertions alone: the rest was looked for at the source, or may fail and hold
    again (a schema before the watch saw it, rows of a quiet night), which no bisection survives."""
    return DatabaseChecks(
        assertions=checks.assertions, amcheck=False, page_checksums=False, schema_digest=False
    )


def _decided(target: RecoveryTarget, checks: tuple[CheckResult, ...], *, sound: bool) -> Entry:
    where = "at" if target.kind == "end" else "before"
    return decision(
        what=f"the state {where} {describe(target)} is {'sound' if sound else 'not sound'}",
        why="; ".join(f"{it.name}: {it.found}" for it in checks if it.ok == sound),
    )
