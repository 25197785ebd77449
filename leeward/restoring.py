"""A component brought back from whichever location is best: what `leeward restore point` does."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.postgres.binaries import account_of
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.errors import BadInput, CheckFailed, Damaged, LeewardError
from chalicelib.evidence.text import in_units
from chalicelib.plan.components import BaseComponent, Files, Git, Postgres, Redis
from chalicelib.plan.records import CheckResult, Proof, RecoveryTarget, format_lsn
from chalicelib.ports import Catalogue, ObjectStore
from chalicelib.recover.choose_copy import Candidate, CopyChoice, choose_copy
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.replay import replaying
from chalicelib.recover.database.restore import restore_and_list
from chalicelib.recover.on_disk import named_when_whole, sync_folder
from chalicelib.services.locations import Locations
from chalicelib.verify.database import verify_promises
from chalicelib.verify.schema import Schema, read_schema
from leeward.prove import verify_all

REPLAY_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Restored:
    """What was brought back. `folder`: where it lies, None when it was only tried. `next_step`:
    what a person does with it. `point_id`: which point it came from, where a damaged one was
    passed over."""

    choice: CopyChoice
    found: str
    checks: tuple[CheckResult, ...]
    not_checked: tuple[str, ...] = ()
    folder: Path | None = None
    next_step: str = ""
    point_id: str = ""

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "location": self.choice.location,
            "point": self.point_id or self.choice.point_id,
            "why": self.choice.why,
            "others": [{"location": it, "why_not": why} for it, why in self.choice.others],
            "found": self.found,
            "checks": [check.to_json() for check in self.checks],
            "not_checked": list(self.not_checked),
            "folder": str(self.folder) if self.folder else None,
            "next_step": self.next_step,
        }


@dataclass
class Restorer:
    """One restore. `tell(step, found)` hears when a step begins (found "") and when it is done.

    `location`: use no other. `redis_url`: the server that keys are restored into.
    """

    places: Locations
    component: str
    target: RecoveryTarget
    tell: Callable[[str, str], None]
    location: str = ""
    redis_url: str = ""
    _clock: SystemClock = field(default_factory=SystemClock)
    _found: str = ""
    _damaged: dict[str, str] = field(default_factory=dict)

    def choose(self) -> CopyChoice:
        """Ask every location, and take the best of those of which nothing turned out damaged.

        Raises as `choose_copy`, and BadInput.
        """
        with self._step("choose"):
            if self.location:
                candidates: tuple[Candidate, ...] = (
                    self.places.ask(self.location, self.component),
                )
            else:
                without = frozenset(self._damaged)
                candidates = self.places.candidates(self.component, without=without)
            choice = choose_copy(candidates, self.target)
            self._found = choice.why
        return replace(choice, others=(*self._damaged.items(), *choice.others))

    def prove(self, choice: CopyChoice) -> Restored:
        """Into a folder or server that is gone afterwards; a proof when all checks passed."""
        ports = self._ports(choice)
        if not isinstance(self._kind, Postgres):
            restored = self._try(choice, *ports)
        else:
            with tempfile.TemporaryDirectory(prefix="leeward-restore-") as made:
                restored = self._database(choice, Path(made) / "restored", *ports)
        self._note(restored)
        return restored

    def bring_back_best(self, folder: Path | None) -> Restored:
        """As `bring_back`, from the next best location where what one holds turns out damaged."""
        choice = self.choose()
        while True:
            try:
                return self.bring_back(choice, folder)
            except Damaged as error:
                choice = self._next_best(choice, error)

    def _next_best(self, choice: CopyChoice, error: Damaged) -> CopyChoice:
        """Raises `error` where no other location has a copy."""
        if self.location:
            raise error
        self._damaged[choice.location] = f"{error.instance_code}: {error.message}"
        self.tell("choose", f"not {choice.location}: {error.message}")
        try:
            return self.choose()
        except LeewardError as none:
            raise error from none

    def bring_back(self, choice: CopyChoice, folder: Path | None) -> Restored:
        """Into the folder, or keys into the server.

        Raises BadInput (code "no-folder", "no-redis-url", "not-restorable").
        """
        ports = self._ports(choice)
        if isinstance(self._kind, Redis):
            return self._keys(choice, *ports)
        if folder is None:
            raise BadInput(
                f"expected a folder for {self.component}, found none",
                hint="name it with --out",
                code="no-folder",
            )
        if isinstance(self._kind, Postgres):
            return self._data_folder(choice, folder, *ports)
        if isinstance(self._kind, Files):
            return self._files(choice, folder, *ports)
        if isinstance(self._kind, Git):
            return self._repository(choice, folder, *ports)
        raise BadInput(
            f"expected a component that can be restored from a point, found {self.component}",
            hint="`leeward restore bucket` takes a bucket back to a moment",
            code="not-restorable",
        )

    def _ports(self, choice: CopyChoice) -> tuple[ObjectStore, Catalogue]:
        return (
            self.places.store(choice.location, self.component),
            self.places.catalogue(
                choice.location, self.component, quarantined=dict(choice.quarantined)
            ),
        )

    @property
    def _kind(self) -> BaseComponent:
        return self.places.plan.components[self.component]

    def _data_folder(
        self, choice: CopyChoice, folder: Path, store: ObjectStore, catalogue: Catalogue
    ) -> Restored:
        """On the disk before it has its name: our server syncs nothing, and PostgreSQL takes a
        folder that was shut down in order for one that is there."""
        _require_empty(folder)
        with named_when_whole(folder) as made:
            restored = self._database(choice, made, store, catalogue)
            account_of(folder).own(made)
            with self._step("sync"):
                sync_folder(made)
                self._found = "on the disk"
        start = (
            f"put your configuration in place, then as {folder.owner()}: pg_ctl -D {folder} start"
        )
        return replace(restored, folder=folder, next_step=start)

    def _database(
        self, choice: CopyChoice, folder: Path, store: ObjectStore, catalogue: Catalogue
    ) -> Restored:
        means = Means(store, catalogue, ThrowawayServer, self._clock)
        with self._step("restore"):
            restored, wal = restore_and_list(means, self.target, folder)
            self._found = f"{restored.point_id}, {restored.source_bytes / 1e6:,.1f} MB"
        with ExitStack() as stack:
            with self._step("replay"):
                replayed, server = stack.enter_context(
                    replaying(means, restored, folder, timeout_seconds=REPLAY_SECONDS, wal=wal)
                )
                self._found = f"to {format_lsn(replayed.recovered_lsn)}"
            with self._step("verify"):
                assert isinstance(server, ThrowawayServer)
                moment = replayed.last_commit_at or self._clock.now()
                promised, unread = self._promises(server, store, moment)
                found, not_checked = verify_all(server, self._clock)
                checks = (*promised, *found)
                self._found = f"{len(checks)} checks, {sum(not it.ok for it in checks)} failed"
        at = replayed.last_commit_at
        last = f"last commit {at:%Y-%m-%d %H:%M:%S.%f} UTC" if at else "no commit was replayed"
        return Restored(
            choice,
            f"recovered to {format_lsn(replayed.recovered_lsn)}, {last}",
            checks,
            (*unread, *not_checked),
            point_id=restored.point_id,
        )

    def _promises(
        self, server: ThrowawayServer, store: ObjectStore, moment: datetime
    ) -> tuple[tuple[CheckResult, ...], tuple[str, ...]]:
        """What the plan asks of the component's own database; and what of it cannot be asked."""
        from chalicelib.services import build

        kind = self._kind
        assert isinstance(kind, Postgres)
        deployed = self.places.deployed
        name = build.database_name(self.component) if deployed else kind.database
        databases, wanted = PostgresDatabases(server.dsn(name), server.binaries), kind.checks
        schema, why = _schema_near(store, databases, moment) if wanted.schema_digest else (None, "")
        if why:
            wanted = wanted.model_copy(update={"schema_digest": False})
        checks = verify_promises(databases, wanted, moment=moment, clock=self._clock, schema=schema)
        return checks, (f"schema of {name}: {why}",) if why else ()

    def _try(self, choice: CopyChoice, store: ObjectStore, catalogue: Catalogue) -> Restored:
        from chalicelib.services.jobs.taking import prove_point

        points = {it.point.id: it.point for it in catalogue.holdings().standings}
        with self._step("prove"):
            proof = prove_point(self._kind, points[choice.point_id], store, clock=self._clock)
            self._found = f"{len(proof.checks)} checks"
        return Restored(choice, f"{choice.point_id} was tried and thrown away", proof.checks)

    def _files(
        self, choice: CopyChoice, folder: Path, store: ObjectStore, catalogue: Catalogue
    ) -> Restored:
        from chalicelib.recover.folder.restore import restore_files

        with self._step("restore"):
            made = restore_files(
                store, catalogue, folder, clock=self._clock, point_id=choice.point_id
            )
            self._found = f"{made.entries:,} entries, {made.bytes / 1e6:,.1f} MB"
        check = CheckResult("files", True, "every file has the SHA-256 it was stored with")
        return Restored(choice, self._found, (check,), folder=folder)

    def _repository(
        self, choice: CopyChoice, folder: Path, store: ObjectStore, catalogue: Catalogue
    ) -> Restored:
        from chalicelib.adapters.git.bundle import GitBundles
        from chalicelib.recover.restore_git import restore_git

        with self._step("restore"):
            made = restore_git(
                store, catalogue, GitBundles(), folder, clock=self._clock, point_id=choice.point_id
            )
            self._found = f"commit {made.commit}, {made.refs} refs"
        missing = (made.missing,) if made.missing else ()
        return Restored(choice, self._found, (), missing, folder)

    def _keys(self, choice: CopyChoice, store: ObjectStore, catalogue: Catalogue) -> Restored:
        from chalicelib.adapters.redis.source import RedisServer
        from chalicelib.recover.restore_redis import restore_redis

        if not self.redis_url:
            raise BadInput(
                "expected a server to restore the keys into, found none",
                hint="name it with --redis, or try the point with --prove",
                code="no-redis-url",
            )
        with self._step("restore"), RedisServer(self.redis_url) as server:
            made = restore_redis(
                store, catalogue, server, clock=self._clock, point_id=choice.point_id
            )
            self._found = f"{made.keys:,} keys"
        return Restored(choice, self._found, ())

    def _note(self, restored: Restored) -> None:
        """A restore that was only tried, and that went well, is a proof of its point: of the one
        that it came from, and only when all was looked at that the plan and the daily test do.

        Without the deployment nothing is written down: a note could be sealed for the offline key
        alone, and nobody else could read it.
        """
        if not restored.checks or not restored.ok or restored.not_checked:
            return
        if not self.places.deployed:
            return
        point_id = restored.point_id or restored.choice.point_id
        catalogue = self.places.catalogue(restored.choice.location, self.component)
        catalogue.note_proof(
            point_id,
            Proof(
                component=self.component,
                point_id=point_id,
                proven_at=self._clock.now(),
                target=self.target,
                recovered_lsn=0,
                last_commit_at=None,
                checks=restored.checks,
            ),
        )

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self.tell(name, "")
        started = time.monotonic()
        yield
        self.tell(name, f"{self._found} in {in_units(round(time.monotonic() - started, 3))}")


def _schema_near(
    store: ObjectStore, databases: PostgresDatabases, moment: datetime
) -> tuple[Schema | None, str]:
    """What the database should have; or why nobody can tell."""
    from chalicelib.services.jobs.schemas import schema_near

    try:
        with databases.session(read_only=True) as session:
            found = schema_near(store, moment, read_schema(session))
    except LeewardError as error:
        return None, error.message
    return found, "" if found else "none was recorded there"


def _require_empty(folder: Path) -> None:
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckFailed(
            f"expected no folder {folder} or an empty one, found something in it",
            hint="name another folder",
            code="folder-not-empty",
        )
