"""Locations that do not answer: known once for a whole command, and never taken to be empty."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.errors import Throttled, Unavailable
from chalicelib.plan.model import Plan
from chalicelib.ports import Listed
from chalicelib.ports.health import Answer
from chalicelib.services import locations as module
from chalicelib.services.locations import Locations
from leeward.break_glass import BreakGlass, Means, Request
from leeward.plan_file import load_plan
from tests.fakes import InMemoryObjectStore

PLANS = Path(__file__).parents[2] / "policies" / "plans"
PLAN = load_plan(PLANS / "artist-tech.yaml").plan
AT = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)
DATABASE = next(name for name, it in PLAN.components.items() if it.kind == "postgres")


class Failing(InMemoryObjectStore):
    """A location that answers every listing with an error, after `until`."""

    def __init__(self, error: Exception, until: threading.Event | None = None) -> None:
        super().__init__()
        self.error, self.until, self.asked = error, until, 0

    def list(self, prefix: str = "") -> Iterator[Listed]:
        self.asked += 1
        if self.until:
            self.until.wait(30)
        raise self.error


class Places(Locations):
    """Whose stores are these, by location; the others hold nothing and answer."""

    def __init__(self, stores: dict[str, Any], plan: Plan = PLAN, **rest: Any) -> None:
        super().__init__(plan, lambda name: {}, deployed=False, **rest)
        self.stores = stores

    def _open(self, name: str, component: str) -> Any:
        return self.stores.get(name) or InMemoryObjectStore()


def others() -> list[str]:
    return [name for name in PLAN.locations if name != Places({}).primary]


def test_a_location_that_does_not_answer_is_asked_once_and_stays_unknown() -> None:
    dead = Failing(Unavailable("nobody is there"))
    places = Places({others()[0]: dead})
    copies = [(component, name) for component in PLAN.components for name in PLAN.locations]
    places.find_silent(copies)
    assert dead.asked == 1
    for component in PLAN.components:
        with pytest.raises(Unavailable, match="nobody is there"):
            places.store(others()[0], component)
        places.store(places.primary, component)
    assert dead.asked == 1


def test_one_that_answers_and_has_too_much_to_do_is_not_dead() -> None:
    busy = Failing(Throttled("slow down"))
    places = Places({others()[0]: busy})
    places.find_silent([(DATABASE, others()[0])])
    assert places.store(others()[0], DATABASE) is busy


def test_whoever_waits_is_told_for_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow one answers after that, and counts as it answers."""
    monkeypatch.setattr(module, "TELL_AFTER_SECONDS", 0.0)
    told, heard = threading.Event(), []

    def tell(text: str) -> None:
        heard.append(text)
        told.set()

    slow = Failing(Unavailable("it was slow"), told)
    Places({others()[0]: slow}, tell=tell).find_silent([(DATABASE, others()[0])])
    assert heard == [f"no answer yet from {others()[0]}: it is given up after 5 minutes at most"]


def test_nothing_to_ask_asks_nobody() -> None:
    Places({}).find_silent([])


class NobodyAnswers:
    def probe(self, address: str, *, says: str, within_seconds: float) -> Answer:
        return Answer(AT, 0.0, problem="no answer")


def test_a_failover_from_a_laptop_waits_for_a_dead_location_once(tmp_path: Path) -> None:
    found = load_plan(PLANS / "nexus-studio.yaml").plan
    # A second component with the database's copies.
    both = {"backups": found.components["nexus-db"].backups}
    config = found.components["nexus-config"].model_copy(update=both)
    plan = found.model_copy(update={"components": found.components | {"nexus-config": config}})
    dead = Failing(Unavailable("nobody is there"))
    places = Places({"secondary": dead}, plan)
    means: Any = Means(InMemoryObjectStore(), NobodyAnswers(), None, places, SystemClock())
    request = Request("regional-outage", "gone", "me", tmp_path, insist=True, dry_run=True)
    told = BreakGlass(plan, request, means, lambda step, text: None).run().copies
    assert sorted(told) == ["nexus-config", "nexus-db"]
    assert all("nobody is there" in it for it in told.values())
    assert dead.asked == 1
