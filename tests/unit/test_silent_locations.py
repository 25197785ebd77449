"""Locations that do not answer: known once for a whole command, and never taken to be empty."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.errors import Throttled, Unavailable
from chalicelib.ports import Listed
from chalicelib.services import locations as module
from chalicelib.services.locations import Locations
from leeward.plan_file import load_plan
from tests.fakes import InMemoryObjectStore

PLAN = load_plan(Path(__file__).parents[2] / "policies" / "plans" / "artist-tech.yaml").plan
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

    def __init__(self, stores: dict[str, Any], **rest: Any) -> None:
        super().__init__(PLAN, lambda name: {}, deployed=False, **rest)
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
