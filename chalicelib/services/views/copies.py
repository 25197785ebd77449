"""What the primary location says of every component's copies; read once for each look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from chalicelib.errors import BadInput, LeewardError, Unavailable
from chalicelib.evidence.readiness import CopyFacts, FailedTest
from chalicelib.plan.exercises import Occasion, ScenarioResult
from chalicelib.plan.losses import lost_for_good
from chalicelib.plan.manifest import PROOF, point_key
from chalicelib.plan.record import has_types, read_json
from chalicelib.plan.records import PointStanding, Proof, parse_time
from chalicelib.recover.window import newest_moment
from chalicelib.services import build

if TYPE_CHECKING:
    from chalicelib.plan.components import BaseComponent

T = TypeVar("T")

# Proofs are looked at from the newest on, until one is good.
MOST_PROOFS = 3
READ_THREADS = 8
# API Gateway gives up after 29 s, a person before.
PATIENCE_SECONDS = 8.0
SILENT = f"their location did not answer within {PATIENCE_SECONDS:g} s"


@dataclass(frozen=True)
class Copies:
    """`moment`: the newest one to which the component can be taken back; None: none is known."""

    facts: CopyFacts
    moment: datetime | None = None


def protected() -> dict[str, BaseComponent]:
    """The components of the plan but for those that only take another's place, or are retired."""
    return {name: it for name, it in _kept().items() if it.retired is None}


def _kept() -> dict[str, BaseComponent]:
    plan = build.plan()
    return {name: it for name, it in plan.components.items() if name not in plan.stand_ins}


def copied(component: BaseComponent) -> bool:
    return bool(component.backups)


def read_all() -> dict[str, Copies]:
    """Of every protected component of which there are to be copies, asked side by side.

    Who looks at a page waits for it: what has not answered by then is told as such.
    """
    threads, tried = ThreadPoolExecutor(READ_THREADS), occasions()
    asked = {
        name: threads.submit(read_copies, name, tried)
        for name, it in protected().items()
        if copied(it)
    }
    wait(asked.values(), timeout=PATIENCE_SECONDS)
    found = {name: it.result() if it.done() else _silent(name) for name, it in asked.items()}
    threads.shutdown(wait=False, cancel_futures=True)
    return found


def _silent(component: str) -> Copies:
    return Copies(CopyFacts(component, problem=SILENT))


def answered_in_time(look: Callable[[], T], component: str) -> T:
    """What `look` finds at the location of a component's copies.

    Raises:
        Unavailable: code "copies-silent".
    """
    threads = ThreadPoolExecutor(1)
    asked = threads.submit(look)
    wait([asked], timeout=PATIENCE_SECONDS)
    threads.shutdown(wait=False, cancel_futures=True)
    if not asked.done():
        raise Unavailable(
            f"the copies of {component} cannot be read: {SILENT}",
            hint="a recovery takes those of another location; look again when it answers",
            code="copies-silent",
        )
    return asked.result()


def read_copies(component: str, tried: list[Occasion]) -> Copies:
    """That nothing could be read is an answer too. tried: every time that an exercise was due."""
    try:
        return _read(component, tried)
    except LeewardError as error:
        return Copies(CopyFacts(component, problem=error.message))


def require_component(component: str) -> BaseComponent:
    """Raises BadInput (code "unknown-component")."""
    found = _kept().get(component)
    if found is None:
        raise BadInput(
            f"the plan has no component {component[:100]!r}",
            hint=f"one of: {', '.join(_kept())}",
            code="unknown-component",
        )
    return found


def _read(component: str, tried: list[Occasion]) -> Copies:
    catalogue = build.catalogue(component)
    is_database = build.plan().components[component].kind == "postgres"
    known = catalogue.inventory() if is_database else None
    held = known.holdings if known else catalogue.holdings()
    proofs, unreadable = _read_proofs(component, held.standings)
    facts = CopyFacts(
        component,
        standings=held.standings,
        rejected=held.rejected,
        proofs=tuple(proofs),
        unreadable=tuple(unreadable),
        failed=tuple(_failed(component, tried)),
    )
    if known:
        return Copies(facts, newest_moment(known))
    moments = [it.point.taken_at for it in held.standings if not it.quarantined]
    return Copies(facts, max(moments, default=None))


def _read_proofs(
    component: str, standings: tuple[PointStanding, ...]
) -> tuple[list[Proof], list[str]]:
    store = build.backups(component)
    keys = {row.key for row in store.list("points/")}
    noted = [it for it in standings if point_key(it.point.id, PROOF) in keys]
    noted.sort(key=lambda it: it.proven_at or it.point.taken_at, reverse=True)
    proofs: list[Proof] = []
    unreadable: list[str] = []
    for standing in noted[:MOST_PROOFS]:
        proof = _parse(store.get(point_key(standing.point.id, PROOF)))
        if proof is None or proof.point_id != standing.point.id:
            unreadable.append(standing.point.id)
        else:
            proofs.append(proof)
    return proofs, unreadable


def _parse(note: bytes) -> Proof | None:
    try:
        proof = Proof.from_json(read_json(note))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return proof if has_types(proof) else None


def _failed(component: str, tried: list[Occasion]) -> list[FailedTest]:
    """Drills of scenarios that restore the component, and that did not recover it; restore tests
    that failed on it, or did not try it."""
    found = list(_failed_tests(component))
    for occasion in tried:
        for test in occasion.tests:
            if test.component == component and test.outcome in ("failed", "not-tried"):
                ended_at = test.begun_at + timedelta(seconds=test.seconds or 0)
                found.append(FailedTest(ended_at, occasion.exercise, "", test.outcome))
        for result in occasion.results:
            if component in _not_recovered(result):
                at = occasion.ended_at or occasion.started_at or occasion.due_at
                found.append(FailedTest(at, result.scenario, result.incident, result.outcome))
    return found


def _failed_tests(component: str) -> Iterator[FailedTest]:
    """The restore tests by themselves in the primary location that were not sound."""
    from chalicelib.services.jobs.proving import tests_of

    prefix = tests_of(component, build.locations().primary)
    for row in build.evidence_store().list(prefix):
        at, _, outcome = row.key.removeprefix(prefix).removesuffix(".json").partition(",")
        if outcome != "sound":
            yield FailedTest(parse_time(at), "restore test", "", outcome)


def _not_recovered(result: ScenarioResult) -> set[str]:
    """What a drill should have brought back and did not; of a partial one, what is lost alone."""
    if result.outcome in ("", "recovered"):
        return set()
    restored = _restored(result.scenario)
    if result.outcome == "partial":
        return restored & set(lost_for_good(build.plan(), result.scenario))
    return restored


def _restored(scenario: str) -> set[str]:
    chosen = build.plan().scenarios.get(scenario)
    if chosen is None:
        return set()
    return {*chosen.restored_components(), *([chosen.component] if chosen.component else [])}


def occasions() -> list[Occasion]:
    from chalicelib.services.jobs.exercises import OCCASION, PARTITION

    found = build.state().query(PARTITION, OCCASION)
    return [Occasion.from_json(_plain(it)) for it in found]


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "sort"}
