"""A database at a lost site: it takes no writes when nothing of it answers, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.errors import LeewardError
from chalicelib.incidents.run import Run
from chalicelib.services import build
from chalicelib.services.steps.database import target
from leeward.plan_file import load_plan
from tests.commands import NEXUS
from tests.fakes_state import InMemoryState, ManualClock
from tests.servers import RealServer, running_server

COMPONENT, NOW = "nexus-db", datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with running_server() as found:
        yield found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    plan, state = load_plan(NEXUS).plan, InMemoryState()
    monkeypatch.setattr(build, "plan", lambda: plan)
    monkeypatch.setattr(build, "state", lambda: state)
    monkeypatch.setattr(build, "clock", ManualClock)
    monkeypatch.setattr(target, "say", lambda *_: None)
    return Run("run-a", "promote", "inc-a", "regional-outage", "primary", NOW, None, site="dr")


def fence(run: Run, monkeypatch: pytest.MonkeyPatch, dsn: str) -> str:
    monkeypatch.setattr(build, "operator", lambda name: PostgresDatabases(dsn, None))
    return str(target.fence_step(run, {"component": COMPONENT})["found"])


def test_one_that_does_not_answer_is_fenced_by_its_loss(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fence(run, monkeypatch, "host=127.0.0.1 port=1 user=operator")
    assert "does not answer (no-connection)" in found


def test_one_that_answers_is_not_taken_for_lost(
    run: Run, monkeypatch: pytest.MonkeyPatch, server: RealServer
) -> None:
    with pytest.raises(LeewardError) as caught:
        fence(run, monkeypatch, server.dsn(password="another"))
    assert caught.value.instance_code == "wrong-password"
    server.run("create role weak login password 'secret'", "create role nexus_app login")
    with pytest.raises(LeewardError) as caught:
        fence(run, monkeypatch, server.dsn(user="weak"))
    assert caught.value.instance_code == "missing-right"


def test_what_was_not_closed_to_the_end_is_not_said_to_be_open(
    run: Run, monkeypatch: pytest.MonkeyPatch, server: RealServer
) -> None:
    fence(run, monkeypatch, "host=127.0.0.1 port=1 user=operator")
    found = target.undo_fence(run, {"component": COMPONENT})["found"]
    assert "should nexus_app be refused there, leeward unfence" in str(found)
    refused = PostgresDatabases(server.dsn(password="another"), None)
    monkeypatch.setattr(build, "operator", lambda name: refused)
    with pytest.raises(LeewardError) as caught:
        target.undo_fence(run, {"component": COMPONENT})
    assert caught.value.instance_code == "wrong-password"
