"""Restore tests of every kind of component: a recovery point brought back, and thrown away.

A day's test restores the newest point that is not proven yet, from one location, as a recovery
would, into a folder or a throw-away server of this function. What was found is kept in the evidence
(`restore-tests/<component>/<location>/<time>,<outcome>.json`), also when it was nothing good: what
was not sound since the last proof counts against it. Only what was sound is a proof and lies
beside the point. Nothing of production is touched: no database, no bucket, no
server of the plan is written to. A spot check reads rows of the living database besides.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalicelib.errors import CheckFailed, LeewardError, NotReady, Unavailable
from chalicelib.plan.components import BaseComponent, Bucket, Files, Postgres
from chalicelib.plan.records import (
    CheckResult,
    DatabasePoint,
    Proof,
    RecoveryPoint,
    RecoveryTarget,
    format_lsn,
    format_time,
)
from chalicelib.ports import Catalogue, Databases, DatabaseServer, ObjectStore
from chalicelib.services import build, environment
from chalicelib.verify.proofs import choose_point, stand_proofs

if TYPE_CHECKING:
    from chalicelib.verify.schema import Schema

END = RecoveryTarget("end", "")
# PostgreSQL's REPEATABLE and hash functions take it as well.
MOST_SEED = 2**31
# Of the function's 900 s; a sample that is not done by then counts as far as it got.
SAMPLE_TIME = timedelta(minutes=10)


@dataclass(frozen=True)
class How:
    """Which point a test brings back: any, by lot; the newest; else the one whose turn it is. Of a
    database, whether `rows` are compared with the living one. `seed`: of both lots."""

    spot: bool
    newest: bool
    rows: bool
    seed: int


def prove(
    component: str,
    location: str = "",
    *,
    spot: bool = False,
    newest: bool = False,
    rows: bool = False,
    seed: int | None = None,
) -> dict[str, Any]:
    """Restore a point of a component from one location (default: the primary one) and verify it.

    Publishes `Proven.<location>` (and `SpotChecked`), or `ProofFailures`; and however it went the
    age of the newest proof there in seconds as `ProofAge.<location>`, and whether that is none, or
    older than the plan allows, as `Unproven.<location>` (1 or 0).

    Args:
        spot: a spot check: any point, by lot, instead of the one whose turn it is.
        newest: the newest point, also when it was proven before.
        rows: of a database, compare rows with the living one; a spot check always does.
        seed: of the lot: a spot check is repeated with the one that it told.
    Raises:
        CheckFailed: code "restore-test-failed", with what was found wrong.
        OutsideWindow: code "no-point"; NotReady: a program is missing; Damaged, Unavailable.
    """
    location = location or build.locations().primary
    try:
        how = How(spot, newest, rows or spot, _seed(seed))
        proof = _restore_and_look(component, location, how)
    except LeewardError as error:
        note_failure(component, location, error)
        raise
    _catalogue(component, location).note_proof(proof.point_id, proof)
    values = {f"Proven.{location}": 1.0, "ProofFailures": 0.0}
    _publish(component, location, values | ({"SpotChecked": 1.0} if spot else {}))
    checks = "; ".join(f"{check.name}: {check.found}" for check in proof.checks)
    return {"point": proof.point_id, "found": f"{proof.point_id} from {location}: {checks}"}


def standing_of(component: str, location: str) -> dict[str, Any]:
    """How the proofs of a component stand in a location: {"proven_at", "stands"}."""
    standings = _catalogue(component, location).holdings().standings
    valid_for = build.plan().proof_valid_for
    found = stand_proofs(standings, valid_for=valid_for, now=build.clock().now())
    return {
        "proven_at": format_time(found.proven_at) if found.proven_at else None,
        "age_seconds": found.age.total_seconds() if found.age else None,
        "stands": found.stands,
    }


def _seed(given: int | None) -> int:
    return random.SystemRandom().randrange(MOST_SEED) if given is None else given


def _restore_and_look(component: str, location: str, how: How) -> Proof:
    """Raises CheckFailed when something was found wrong; it is kept all the same."""
    found = build.plan().components[component]
    store, catalogue = build.locations().store(location, component), _catalogue(component, location)
    with _folder(component) as folder:
        if isinstance(found, Postgres):
            proof = _prove_database(component, store, catalogue, folder, how)
        else:
            draw = random.Random(how.seed) if how.spot else None
            standings = catalogue.holdings().standings
            point = choose_point(standings, draw=draw, newest=how.newest).point
            proof = _proof_of(point, _checks(component, found, point, store, folder))
    outcome = "sound" if proof.ok else "failed"
    _keep(component, location, outcome, {"proof": proof.to_json(), "ok": proof.ok})
    wrong = [f"{check.name}: {check.found}" for check in proof.checks if not check.ok]
    if wrong or not proof.checks:
        raise CheckFailed(
            f"expected {proof.point_id} of {component} in {location} to restore as it was, "
            f"found {'; '.join(wrong) or 'nothing to look at'}",
            hint="`leeward verify --repair` copies damaged objects from another location",
            code="restore-test-failed",
        )
    return proof


def _checks(
    component: str, found: BaseComponent, point: RecoveryPoint, store: ObjectStore, folder: Path
) -> tuple[CheckResult, ...]:
    if isinstance(found, Bucket):
        return (asyncio.run(_prove_objects(component, point, store, folder)),)
    if isinstance(found, Files):
        from chalicelib.recover.folder.rehearse import rehearse_files

        return rehearse_files(store, point, folder, clock=build.clock())
    from chalicelib.services.jobs.taking import prove_point

    program = environment.redis_program()
    return prove_point(found, point, store, clock=build.clock(), redis_program=program).checks


def _proof_of(point: RecoveryPoint, checks: tuple[CheckResult, ...]) -> Proof:
    return Proof(
        component=point.component,
        point_id=point.id,
        proven_at=build.clock().now(),
        target=END,
        recovered_lsn=0,
        last_commit_at=None,
        checks=checks,
        seconds={check.name: round(check.seconds, 3) for check in checks},
    )


async def _prove_objects(
    component: str, point: RecoveryPoint, store: ObjectStore, folder: Path
) -> CheckResult:
    """From the replica, by the version that the inventory names."""
    from chalicelib.services.jobs.buckets import replica_of
    from chalicelib.verify.copies.replica_contents import BucketContents, inventory_entries
    from chalicelib.verify.samples import draw_sample, restore_sample

    sample = draw_sample(inventory_entries(store, point), random.Random())
    async with build.buckets() as buckets:
        contents, until = BucketContents(replica_of(buckets, component)), build.clock().now()
        return await restore_sample(
            sample, contents, folder, clock=build.clock(), until=until + SAMPLE_TIME
        )


def _prove_database(
    component: str,
    store: ObjectStore,
    catalogue: Catalogue,
    folder: Path,
    how: How,
) -> Proof:
    """A clean chain and the WAL after it up to its end, or of a spot check up to any point,
    replayed and looked at, as a recovery would."""
    from chalicelib.recover.database.means import Means
    from chalicelib.recover.database.recovered import recovered
    from chalicelib.services.steps.database.rebuild import server_of

    data, clock, started_at = folder / "data", build.clock(), build.clock().now()
    target, known_at = END, started_at
    if how.spot:
        target, known_at = _any_moment(catalogue, random.Random(how.seed))
    means = Means(store, catalogue, server_of, clock)
    with recovered(means, target, data) as found:
        restored_at, replayed, lsn = clock.now(), found.replayed, found.replayed.recovered_lsn
        compare = partial(_look_at_rows, component, target=target, lsn=lsn, how=how)
        moment = replayed.last_commit_at or known_at
        checks = _look_inside(component, store, found.server, moment=moment, compare=compare)
    return Proof(
        component=component,
        point_id=found.restored.point_id,
        proven_at=clock.now(),
        target=target,
        recovered_lsn=replayed.recovered_lsn,
        last_commit_at=replayed.last_commit_at,
        checks=checks,
        seconds={
            "restore": (restored_at - started_at).total_seconds(),
            "verify": (clock.now() - restored_at).total_seconds(),
        },
    )


def _look_at_rows(
    component: str, then: Databases, *, target: RecoveryTarget, lsn: int, how: How
) -> tuple[CheckResult, ...]:
    if not how.rows:
        return ()
    from chalicelib.services.jobs.row_checks import look_at_rows

    return (look_at_rows(component, then, target, lsn, seed=how.seed),)


def _any_moment(catalogue: Catalogue, draw: random.Random) -> tuple[RecoveryTarget, datetime]:
    """The end of a base backup, by lot, and when that was. Raises OutsideWindow ("no-point")."""
    point = choose_point(catalogue.holdings().standings, draw=draw).point
    assert isinstance(point, DatabasePoint)
    at = format_lsn(point.end_lsn)
    return RecoveryTarget("lsn", at, point.end_lsn, point.timeline), point.taken_at


def _look_inside(
    component: str,
    store: ObjectStore,
    server: DatabaseServer,
    *,
    moment: datetime,
    compare: Callable[[Databases], tuple[CheckResult, ...]],
) -> tuple[CheckResult, ...]:
    """What the plan asserts, every table, index and page; first of all what `compare` finds, for
    which nothing may have been done on the server."""
    from chalicelib.adapters.postgres.inspect import PostgresInspector
    from chalicelib.services.steps.database.rebuild import databases_of
    from chalicelib.verify.database import verify_database, verify_pages

    wanted, clock = build.database(component).checks, build.clock()
    databases = databases_of(server, build.database_name(component))
    rows = compare(databases)
    inspector = PostgresInspector(server.dsn(databases.database), databases, may_install=True)
    schema = _schema_near(store, databases, moment) if wanted.schema_digest else None
    checks = verify_database(
        databases, inspector, wanted, moment=moment, clock=clock, schema=schema
    )
    pages = (verify_pages(server, clock=clock),) if wanted.page_checksums else ()
    return (*rows, *checks, *pages)


def _schema_near(store: ObjectStore, databases: Databases, moment: datetime) -> Schema | None:
    from chalicelib.services.jobs.schemas import schema_near
    from chalicelib.verify.schema import read_schema

    with databases.session(read_only=True) as session:
        return schema_near(store, moment, read_schema(session))


def _catalogue(component: str, location: str) -> Catalogue:
    return build.locations().catalogue(location, component)


@contextmanager
def _folder(component: str) -> Iterator[Path]:
    """Empty, whatever an earlier test left that died; gone afterwards."""
    folder = build.environment().work_dir / f"restore-test-{component}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def note_failure(component: str, location: str, error: LeewardError) -> None:
    """That nothing is proven must be seen, whatever else fails."""
    if error.instance_code != "restore-test-failed":
        outcome = "not-tried" if isinstance(error, (NotReady, Unavailable)) else "failed"
        _keep(component, location, outcome, {"ok": False, "error": error.to_json()})
    _publish(component, location, {"ProofFailures": 1.0})


def tests_of(component: str, location: str) -> str:
    """The prefix of what the restore tests of a component in a location came to; the rest of a key
    is "<time>,<outcome>.json", so that a listing tells how they stand."""
    return f"restore-tests/{component}/{location}/"


def _keep(component: str, location: str, outcome: str, content: dict[str, Any]) -> None:
    at = format_time(build.clock().now())
    told = {"component": component, "location": location, "at": at, **content}
    key = f"{tests_of(component, location)}{at},{outcome}.json"
    build.evidence_store().put(key, json.dumps(told, indent=1, default=str).encode())


def _publish(component: str, location: str, values: dict[str, float]) -> None:
    """A location that does not answer has no proof that anybody could use now."""
    try:
        found = standing_of(component, location)
    except LeewardError:
        found = {"age_seconds": None, "stands": False}
    values = {**values, f"Unproven.{location}": float(not found["stands"])}
    if found["age_seconds"] is not None:
        values[f"ProofAge.{location}"] = found["age_seconds"]
    build.metrics().put(component, values)
