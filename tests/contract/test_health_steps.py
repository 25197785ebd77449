"""The steps that ask services for their health, against real servers: whom, and when red."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from chalicelib.adapters.http.probe import HttpProber
from chalicelib.errors import BadInput, CheckFailed, NotReady, StillRunning
from chalicelib.incidents.run import Run
from chalicelib.plan.model import Plan
from chalicelib.ports.health import Answer
from chalicelib.services import build
from chalicelib.services.steps.sites import health
from leeward.plan_file import load_plan
from tests.answering import Answering, answering
from tests.fakes_state import InMemoryState

PLAN = Path(__file__).parents[2] / "policies/plans/nexus-studio.yaml"
OUTAGE = "regional-outage"
RUN = Run(
    run_id="run-1",
    step="verify",
    incident_id="inc-1",
    scenario=OUTAGE,
    component="primary",
    alarm_at=datetime(2026, 11, 22, tzinfo=UTC),
    moment=None,
    site="dr",
)
DRILL = replace(RUN, drill=True)


class QuickClock:
    """Real time between two looks at it, and sleeping costs a tenth."""

    def __init__(self) -> None:
        self.slept = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += timedelta(seconds=seconds)


@pytest.fixture
def servers() -> Iterator[dict[str, Answering]]:
    with answering() as api, answering() as dr, answering() as staging:
        yield {"nexus-api": api, "nexus-api-dr": dr, "nexus-api-dr-drill": staging}


@pytest.fixture
def plan(servers: dict[str, Answering], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plan as it lies beside the functions, with servers of this machine, and no databases."""
    data = load_plan(PLAN).plan.to_json()
    for name, server in servers.items():
        data["components"][name]["health"] = server.address
    data["scenarios"][OUTAGE]["restores"] = ["nexus-api", "nexus-uploads"]
    steps = data["scenarios"][OUTAGE]["steps"]
    data["scenarios"][OUTAGE]["steps"] = [it for it in steps if it["uses"].startswith("health.")]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(data))
    for name in ("STATE_TABLE", "BACKUP_BUCKET", "EVIDENCE_BUCKET", "STATE_MACHINE_PREFIX",
                 "FUNCTION_PREFIX", "DATA_KEY", "ENVELOPE_KEYS", "SIGNING_KEY", "STACK",
                 "REGION"):  # fmt: skip
        monkeypatch.setenv(f"LEEWARD_{name}", "unused")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    monkeypatch.setenv("LEEWARD_REPLICA_BUCKETS", "{}")
    monkeypatch.setenv("LEEWARD_PLAN", str(path))
    clock, state = QuickClock(), InMemoryState()
    monkeypatch.setattr(build, "clock", lambda: clock)
    monkeypatch.setattr(build, "state", lambda: state)
    monkeypatch.setattr(build, "prober", HttpProber)
    build.environment.cache_clear()
    build.plan.cache_clear()
    yield path  # type: ignore[misc]
    build.environment.cache_clear()
    build.plan.cache_clear()


def change(path: Path, edit: Any) -> None:
    data = json.loads(path.read_text())
    edit(data)
    Plan.from_json(data)
    path.write_text(json.dumps(data))
    build.plan.cache_clear()


@pytest.mark.usefixtures("plan")
def test_a_run_asks_what_takes_the_place_of_the_lost(servers: dict[str, Answering]) -> None:
    servers["nexus-api"].status = servers["nexus-api-dr-drill"].status = 500
    done = health.verify_step(RUN, {})
    [asked] = done["services"]
    assert (asked["component"], asked["ok"]) == ("nexus-api", True)
    assert asked["address"] == servers["nexus-api-dr"].address
    assert "not recovered: nexus-uploads, no copy outside the lost region" in done["found"]


def test_a_drill_asks_what_stands_in_for_drills(plan: Path, servers: dict[str, Answering]) -> None:
    change(plan, lambda data: data["scenarios"][OUTAGE].update(restores=["nexus-api"]))
    servers["nexus-api"].status = servers["nexus-api-dr"].status = 500
    [asked] = health.verify_step(DRILL, {})["services"]
    assert (asked["ok"], asked["address"]) == (True, servers["nexus-api-dr-drill"].address)


@pytest.mark.usefixtures("plan")
def test_a_service_that_does_not_answer_is_red_and_named(servers: dict[str, Answering]) -> None:
    servers["nexus-api-dr"].status = 503
    with pytest.raises(CheckFailed, match="nexus-api does not serve .*: HTTP 503"):
        health.verify_step(RUN, {})


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda data: data["components"]["nexus-api-dr"].pop("health"), "no-health-address"),
        (lambda data: data["components"]["nexus-api"].pop("stand_ins"), "no-stand-in"),
        (lambda data: data["scenarios"][OUTAGE].update(restores=["nexus-dns"]), "nothing-to-probe"),
    ],
)
def test_what_nobody_can_ask_is_an_error_and_never_left_out(
    plan: Path, edit: Any, code: str
) -> None:
    change(plan, edit)
    for step, inputs in ((health.verify_step, {}), (health.watch_step, {"for": "1m"})):
        with pytest.raises(NotReady) as error:
            step(RUN, inputs)  # type: ignore[operator]
        assert error.value.instance_code == code


def test_a_drill_without_a_stand_in_touches_nothing(plan: Path) -> None:
    change(plan, lambda data: data["components"]["nexus-api-dr"].pop("stand_ins"))
    with pytest.raises(NotReady) as error:
        health.verify_step(DRILL, {})
    assert error.value.instance_code == "no-drill-target"


@pytest.mark.usefixtures("plan")
def test_a_watch_goes_on_where_it_was_left_and_ends_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "SITTING_SECONDS", 240.0)
    for left in ("3(60|5.) s left", "1.. s left"):
        with pytest.raises(StillRunning, match=left):
            health.watch_step(RUN, {"for": "10m"})
    done = health.watch_step(RUN, {"for": "10m"})
    [watched] = done["services"]
    assert done["verdict"] == "ok"
    assert 100 <= watched["answers"] <= 121
    assert watched["availability"] == 1.0
    assert health.watch_step(RUN, {"for": "10m"})["services"] == done["services"]


class Died(BaseException):
    """The worker is no more."""


class Dying(HttpProber):
    """Dies at one of its questions."""

    left: ClassVar[int]

    def probe(self, address: str, *, says: str, within_seconds: float) -> Answer:
        Dying.left -= 1
        if not Dying.left:
            raise Died
        return super().probe(address, says=says, within_seconds=within_seconds)


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize("question", [5, 15])
def test_time_in_which_nobody_watched_is_made_up_for(
    question: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen before the death is kept each 30 s; the next worker comes after the minute."""
    monkeypatch.setattr(Dying, "left", question, raising=False)
    monkeypatch.setattr(build, "prober", Dying)
    with pytest.raises(Died):
        health.watch_step(RUN, {"for": "1m"})
    build.clock().sleep(100)
    done = health.watch_step(RUN, {"for": "1m"})
    [watched] = done["services"]
    assert done["verdict"] == "warning", "a silence is told"
    assert 18 <= watched["answers"] <= 22


@pytest.mark.usefixtures("plan")
def test_a_watch_is_red_when_the_service_is_gone_at_its_end(servers: dict[str, Answering]) -> None:
    servers["nexus-api-dr"].status = 500
    with pytest.raises(CheckFailed) as error:
        health.watch_step(RUN, {"for": "1m"})
    assert error.value.instance_code == "service-critical"
    assert "0.00% of" in error.value.message


@pytest.mark.usefixtures("plan")
def test_a_drill_watches_a_sixtieth_of_the_time() -> None:
    [watched] = health.watch_step(DRILL, {"for": "15m", "component": "nexus-api"})["services"]
    assert 10 <= watched["answers"] <= 40
    assert health.watch_seconds("15m", drill=True) == 15.0
    assert health.watch_seconds("1m", drill=True) == 5.0


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize("length", ["2h", "0s", "soon", "-5m", ""])
def test_a_time_that_cannot_be_watched_is_refused(length: str) -> None:
    with pytest.raises(BadInput, match="at most 90 minutes"):
        health.watch_step(RUN, {"for": length})


@pytest.mark.usefixtures("plan")
def test_an_unknown_component_is_refused() -> None:
    with pytest.raises(BadInput, match="no component 'nexus-apy'"):
        health.verify_step(RUN, {"component": "nexus-apy"})
