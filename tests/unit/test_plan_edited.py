"""A plan that was deployed anew while something of the one before goes on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.errors import BadInput
from chalicelib.evidence.bundle import BUNDLE_NAME
from chalicelib.incidents.incident import Desk, Signal, open_incident, start_run
from chalicelib.incidents.messages_outbox import OutboxDesk, told_of
from chalicelib.incidents.run import run_step
from chalicelib.plan.exercises import ComponentTest, Occasion, ScenarioResult
from chalicelib.plan.model import Plan
from chalicelib.ports.notify import Message
from chalicelib.services import build
from chalicelib.services.jobs import exercises
from chalicelib.services.people import messages
from chalicelib.services.people.notices import notify
from chalicelib.services.steps.closing import close_run
from chalicelib.services.steps.code import work_of
from chalicelib.services.views import copies
from leeward.plan_file import load_plan
from tests.commands import NEXUS
from tests.fakes_records import InMemoryRecords, KeySigner
from tests.fakes_state import InMemoryState, InMemoryWorkflows, ManualClock

GONE, LEFT = "database-corruption", "ransomware"
AT = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)


class Everybody:
    """Channels that take whatever they are given."""

    def of(self, kind: str, name: str, *, drill: bool) -> Everybody:
        return self

    def send(self, message: Message, to: str) -> str:
        return "taken"


class Silent:
    """Functions that are never started, figures that nobody reads."""

    def start(self, name: str, event: dict[str, Any]) -> None: ...

    def put(self, subject: str, figures: dict[str, float]) -> None: ...


class Stack:
    """The services over memory, with the plan of Nexus."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.clock = InMemoryState(), ManualClock(AT)
        self.records = InMemoryRecords()
        self.plan = load_plan(NEXUS).plan
        self.desk = Desk(self.state, self.records, InMemoryWorkflows(), self.clock)  # type: ignore[arg-type]
        outbox = OutboxDesk(self.state, self.records, self.clock, Everybody())  # type: ignore[arg-type]
        made: dict[str, Any] = {
            "state": self.state, "clock": self.clock, "records": self.records, "desk": self.desk,
            "evidence_store": self.records.store, "signer": KeySigner(), "metrics": Silent(),
            "functions": Silent(),
        }  # fmt: skip
        for name, it in made.items():
            monkeypatch.setattr(build, name, lambda it=it: it)
        monkeypatch.setattr(build, "plan", lambda: self.plan)
        monkeypatch.setattr(messages, "outbox_desk", lambda: outbox)

    def open(self, scenario: str, component: str) -> str:
        incident = open_incident(
            Signal(f"{component}-broken", AT, "found"), scenario=scenario, component=component,
            severity="SEV1", desk=self.desk,
        )  # fmt: skip
        start_run(incident, run_body={}, desk=self.desk)
        return incident.id

    def take_out(self, scenario: str) -> None:
        """As an edit of the plan does, and a deployment after it."""
        data = self.plan.to_json()
        del data["scenarios"][scenario]
        data["testing"] = []
        self.plan = Plan.from_json(data)

    def rename(self, component: str) -> None:
        """And all that names it."""
        text = json.dumps(self.plan.to_json()).replace(f'"{component}"', f'"{component}-anew"')
        self.plan = Plan.from_json(json.loads(text))

    def step(self, incident: str, uses: str, inputs: dict[str, Any]) -> None:
        run_id = incident.replace("inc-", "run-")
        event = {"run_id": run_id, "step": "do", "uses": uses, "does": "do it", "inputs": inputs}
        run_step(event, work_of(uses), desk=self.desk)

    def failed(self, incident: str) -> dict[str, Any]:
        """What the record has of the step, after the machine has closed the run for it."""
        run_id = incident.replace("inc-", "run-")
        failure = {"Error": "BadInput", "Cause": ""}
        close_run({"run_id": run_id, "uses": "run.fail", "inputs": {"failure": failure}})
        assert (self.state.get(f"run#{run_id}", "run") or {}).get("status") == "failed"
        [body] = [it.body for it in self.records.read(incident) if it.kind == "step-failed"]
        return body


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Stack:
    return Stack(monkeypatch)


def told(stack: Stack, incident: str) -> set[str]:
    return {it["what"] for it in told_of(incident, state=stack.state)}


def test_people_are_told_of_incidents_whose_scenario_was_taken_out(stack: Stack) -> None:
    old, other = stack.open(GONE, "nexus-db"), stack.open(LEFT, "nexus-uploads")
    for incident in (old, other):
        notify("opened", incident)
    stack.take_out(GONE)
    messages.tell({})
    assert told(stack, old) == told(stack, other) == {"opened"}
    assert GONE in told_of(old, state=stack.state)[0]["text"]


def test_a_notice_that_cannot_be_told_holds_no_other_up(stack: Stack) -> None:
    notify("opened", "inc-0-of-nobody")
    other = stack.open(LEFT, "nexus-uploads")
    notify("opened", other)
    with pytest.raises(BadInput) as caught:
        messages.tell({})
    assert caught.value.instance_code == "unknown-incident"
    assert told(stack, other) == {"opened"}


def test_a_run_whose_scenario_was_taken_out_is_closed_sealed_and_not_whole(stack: Stack) -> None:
    incident = stack.open(GONE, "nexus-db")
    stack.take_out(GONE)
    run_id = incident.replace("inc-", "run-")
    done = close_run({"run_id": run_id, "uses": "run.close", "inputs": {}})
    assert done["found"].startswith(f"partial: the plan names {GONE} no more")
    kept = stack.state.get(f"run#{run_id}", "run")
    assert (kept or {}).get("status") == "partial"
    report = stack.records.store.get(f"{incident}/report.md").decode()
    assert "what is lost is not known" in report
    assert stack.records.store.get(f"{incident}/{BUNDLE_NAME}")


@pytest.mark.parametrize("uses", ["database.find-damage", "infrastructure.assess", "failback.plan"])
def test_a_step_whose_scenario_was_taken_out_says_so_and_its_run_ends(
    stack: Stack, uses: str
) -> None:
    incident = stack.open(GONE, "nexus-db")
    stack.take_out(GONE)
    with pytest.raises(BadInput):
        stack.step(incident, uses, {"component": "nexus-db"})
    body = stack.failed(incident)
    assert body["code"] == "unknown-scenario"
    assert GONE in body["message"]
    assert LEFT in body["message"], "what the plan has instead"
    assert "renamed" in body["hint"]


@pytest.mark.parametrize("uses", ["access.tighten", "health.verify"])
def test_a_step_whose_component_was_renamed_says_so_and_its_run_ends(
    stack: Stack, uses: str
) -> None:
    incident = stack.open(GONE, "nexus-db")
    stack.rename("nexus-db")
    with pytest.raises(BadInput):
        stack.step(
            incident, uses, {"component": "nexus-db", "target": "end", "scope": ["nexus-db"]}
        )
    body = stack.failed(incident)
    assert body["code"] == "unknown-component"
    assert "nexus-db-anew" in body["message"] + body["hint"]


def test_a_drill_whose_component_was_renamed_closes_and_says_what_it_may_have_left(
    stack: Stack,
) -> None:
    incident = stack.open(GONE, "nexus-db")
    run_id = incident.replace("inc-", "run-")
    run = stack.state.get(f"run#{run_id}", "run") or {}
    stack.state.replace(f"run#{run_id}", "run", {**run, "drill": True}, expected={})
    [step, *_] = [
        it for it in stack.plan.scenarios[GONE].all_steps() if it.uses == "database.fence"
    ]
    stack.state.create(f"run#{run_id}", f"attempts#{step.name}", {"count": 1})
    stack.plan = Plan.from_json(_without_component(stack.plan, "nexus-db", kept=GONE))
    close_run({"run_id": run_id, "uses": "run.fail", "inputs": {}})
    [left] = [it.body for it in stack.records.read(incident) if it.kind == "left-behind"]
    assert left["left"] == step.name
    assert "what stood in for nexus-db" in left["what"]


def _without_component(plan: Plan, name: str, *, kept: str) -> dict[str, Any]:
    """The scenario's steps name it still, as `leeward check` would tell."""
    data = plan.to_json()
    data["components"][f"{name}-anew"] = data["components"].pop(name)
    data["scenarios"] = {kept: data["scenarios"][kept]}
    data["testing"] = []
    return data


def test_drills_of_a_scenario_that_was_taken_out_do_not_stop_the_page(stack: Stack) -> None:
    result = ScenarioResult(GONE, "inc-1", "run-1", outcome="partial")
    test = ComponentTest("nexus-config", AT, "sound")
    occasion = Occasion("drills", AT, "failed", ended_at=AT, results=(result,), tests=(test,))
    stack.take_out(GONE)
    assert [it for it in copies._failed("nexus-db", [occasion]) if it.incident == "inc-1"] == []


def test_a_drill_whose_scenario_was_taken_out_is_judged(stack: Stack) -> None:
    incident = stack.open(GONE, "nexus-db")
    run_id = incident.replace("inc-", "run-")
    close_run({"run_id": run_id, "uses": "run.fail", "inputs": {}})
    stack.take_out(GONE)
    stack.clock.at += timedelta(hours=1)
    judged = exercises._result(ScenarioResult(GONE, incident, run_id))
    assert (judged.outcome, judged.estimate_seconds) == ("failed", None)
