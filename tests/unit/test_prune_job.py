"""The daily prune of all locations: what stops it, what does not, and whose holds it knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.errors import Unavailable
from chalicelib.incidents.incident import INCIDENTS, Incident
from chalicelib.plan.components import Retention
from chalicelib.plan.model import Plan
from chalicelib.services import build
from chalicelib.services.jobs.pruning import prune
from chalicelib.services.locations import Locations
from leeward.plan_file import load_plan
from tests.commands import NEXUS
from tests.fakes import InMemoryObjectStore
from tests.fakes_state import InMemoryState
from tests.points import database_standing

COMPONENT, DAY = "nexus-db", timedelta(days=1)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LOCATIONS = ("primary", "secondary", "tertiary")


class Silent(InMemoryObjectStore):
    def list(self, prefix: str = ""):  # type: ignore[no-untyped-def]
        raise Unavailable("no answer")


@dataclass
class Job:
    """Ten days of a full backup a day in each location, of which the plan keeps seven."""

    plan: Plan
    state: InMemoryState = field(default_factory=InMemoryState)
    metrics: list[str] = field(default_factory=list)
    stores: dict[str, InMemoryObjectStore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ids = []
        for location in LOCATIONS:
            self.stores[location] = store = InMemoryObjectStore()
            for age in range(10):
                point = database_standing(NOW - age * DAY).point
                point = type(point).from_json(point.to_json() | {"component": COMPONENT})
                for item in point.objects:
                    store.put(item.key, b"x" * item.size_bytes)
                StoredCatalogue(store, COMPONENT).add(point)
        self.ids = sorted(it.point.id for it in self.catalogue("primary").holdings().standings)

    def now(self) -> datetime:
        return NOW

    def put(self, component: str, values: dict[str, float]) -> None:
        self.metrics += values

    def locked_until(self, key: str) -> None:
        return None

    def catalogue(self, location: str) -> StoredCatalogue:
        return StoredCatalogue(self.stores[location], COMPONENT)

    def left(self, location: str) -> list[str]:
        return sorted(it.point.id for it in self.catalogue(location).holdings().standings)

    def locations(self) -> Locations:
        places = Locations(self.plan, lambda name: {})
        places._stores |= {(COMPONENT, name): store for name, store in self.stores.items()}
        return places


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    plan = load_plan(NEXUS).plan
    database = plan.components[COMPONENT].model_copy(
        update={"retention": Retention(all=timedelta(days=7))}
    )
    made = Job(plan.model_copy(update={"components": plan.components | {COMPONENT: database}}))
    for name, value in (("plan", made.plan), ("clock", made), ("metrics", made),
                        ("state", made.state)):  # fmt: skip
        monkeypatch.setattr(build, name, lambda value=value: value)
    monkeypatch.setattr(build, "locks", lambda component: made)
    monkeypatch.setattr(build, "locations", made.locations)
    monkeypatch.setattr(build, "catalogue", lambda component: made.catalogue("primary"))
    return made


def test_what_outlived_the_plan_goes_everywhere(job: Job) -> None:
    prune(COMPONENT)
    for location in LOCATIONS:
        assert job.left(location) == job.ids[3:]
    assert job.metrics == ["Pruned"]


def test_nothing_goes_while_a_recovery_of_anything_may_read_it(job: Job) -> None:
    """The loss of a site is no incident of the database, and its recovery restores that too."""
    incident = Incident("inc-1", "primary-site", "region-failure", "SEV1", "outage", NOW, NOW)
    job.state.create(INCIDENTS, "open#primary-site", incident.to_json())
    assert "incident inc-1 of primary-site is open" in prune(COMPONENT)["found"]
    assert [job.left(it) for it in LOCATIONS] == [job.ids] * 3
    assert job.metrics == []


def test_a_silent_location_hinders_no_other_and_is_told(job: Job) -> None:
    job.stores["secondary"] = Silent()
    with pytest.raises(Unavailable, match="no answer"):
        prune(COMPONENT)
    assert job.left("primary") == job.left("tertiary") == job.ids[3:]
    assert job.metrics == []


def test_what_the_primary_location_holds_or_doubts_stays_where_no_note_came_yet(job: Job) -> None:
    held, doubted = job.ids[:2]
    job.catalogue("primary").hold(held, reason="legal case", at=NOW)
    job.catalogue("primary").quarantine(doubted, code="infected", reason="infected", at=NOW)
    prune(COMPONENT)
    for location in LOCATIONS:
        assert job.left(location) == [held, doubted, *job.ids[3:]]
