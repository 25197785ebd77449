"""Incidents and runs: signals at least once, deaths between any two lines, one run all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.errors import BadInput, CheckFailed, Refused
from chalicelib.evidence.chain import verify_chain
from chalicelib.evidence.records import StoredRecords
from chalicelib.incidents.incident import Desk, Incident, Signal, declare, end_run, handle_signal
from chalicelib.incidents.run import Run, find_left_behind, leave_word, run_step, undo_step
from tests.fakes_records import AtomicObjectStore
from tests.fakes_state import InMemoryState, InMemoryWorkflows, ManualClock

SIGNAL = Signal("db-checks-failing", datetime(2026, 3, 1, 2, tzinfo=UTC), "1 check fails")


class Died(Exception):
    """The process ended here."""


class Mortal:
    """Wraps a fake: dies after its n-th call."""

    def __init__(self, inner: Any, calls: Iterator[int], last: int) -> None:
        self._inner, self._calls, self._last = inner, calls, last

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if next(self._calls) == self._last:
                raise Died
            return result

        return call


@pytest.fixture
def desk() -> Desk:
    clock = ManualClock()
    records = StoredRecords(AtomicObjectStore(), clock)
    return Desk(InMemoryState(), records, InMemoryWorkflows(), clock)


def raise_alarm(desk: Desk, signal: Signal = SIGNAL, scenario: str = "corruption") -> Incident:
    return handle_signal(
        signal, scenario=scenario, component="db", severity="SEV1", run_body={}, desk=desk
    )


def started(desk: Desk) -> dict[str, Any]:
    assert isinstance(desk.workflows, InMemoryWorkflows)
    return desk.workflows.started


def test_the_first_signal_opens_an_incident_and_starts_its_run(desk: Desk) -> None:
    incident = raise_alarm(desk)
    scenario, payload = started(desk)[incident.run_id]
    assert scenario == "corruption"
    assert payload["run"]["alarm_at"] == "2026-03-01T02:00:00.000000Z"
    kinds = [record.kind for record in desk.records.read(incident.id)]
    assert kinds == ["incident-opened", "run-started"]


def test_the_same_signal_again_changes_nothing(desk: Desk) -> None:
    first = raise_alarm(desk)
    desk.clock.sleep(5)
    assert raise_alarm(desk) == first
    assert len(started(desk)) == 1
    assert len(desk.records.read(first.id)) == 2


def test_another_signal_joins(desk: Desk) -> None:
    first = raise_alarm(desk)
    other = Signal("application-errors", datetime(2026, 3, 1, 2, 1, tzinfo=UTC), "503s")
    assert raise_alarm(desk, other).id == first.id
    assert len(started(desk)) == 1
    assert [r.kind for r in desk.records.read(first.id)][-1] == "alarm-joined"


def test_a_late_copy_of_a_signal_opens_nothing_after_the_end(desk: Desk) -> None:
    first = raise_alarm(desk)
    end_run(first.run_id, "recovered", desk=desk)
    desk.clock.sleep(60)
    again = raise_alarm(desk)
    assert (again.id, again.status) == (first.id, "recovered")
    assert len(started(desk)) == 1


def test_a_new_signal_after_the_end_opens_a_new_incident(desk: Desk) -> None:
    first = raise_alarm(desk)
    end_run(first.run_id, "recovered", desk=desk)
    desk.clock.sleep(60)
    later = Signal(SIGNAL.name, datetime(2026, 3, 1, 3, tzinfo=UTC), "again")
    assert raise_alarm(desk, later).id != first.id
    assert len(started(desk)) == 2


def test_a_failed_run_keeps_its_incident_open(desk: Desk) -> None:
    first = raise_alarm(desk)
    end_run(first.run_id, "failed", desk=desk)
    later = Signal(SIGNAL.name, datetime(2026, 3, 1, 3, tzinfo=UTC), "again")
    assert raise_alarm(desk, later).id == first.id


@pytest.mark.parametrize("last", range(12))
def test_a_death_after_any_call_is_healed_by_the_next_delivery(desk: Desk, last: int) -> None:
    calls = iter(range(1000))
    mortal = Desk(
        Mortal(desk.state, calls, last),
        Mortal(desk.records, calls, last),
        Mortal(desk.workflows, calls, last),
        desk.clock,
    )
    try:
        raise_alarm(mortal)
    except Died:
        desk.clock.sleep(30)
    incident = raise_alarm(desk)
    assert list(started(desk)) == [incident.run_id]
    kinds = [record.kind for record in desk.records.read(incident.id)]
    assert kinds == ["incident-opened", "run-started"]


def declare_again(desk: Desk, moment: str | None = None) -> Incident:
    at = desk.clock.now()
    return declare(
        Signal("declared by somebody", at, "it is still wrong"),
        actor="somebody",
        scenario="corruption",
        component="db",
        severity="SEV1",
        run_body={},
        desk=desk,
        moment=moment,
    )


def test_a_person_starts_the_next_run_after_a_failed_one(desk: Desk) -> None:
    first = raise_alarm(desk)
    end_run(first.run_id, "failed", desk=desk)
    desk.clock.sleep(60)
    second = declare_again(desk, moment="742")
    assert (second.id, second.run_id) == (first.id, f"{first.run_id}-2")
    assert started(desk)[second.run_id][1]["run"]["moment"] == "742"
    assert [r.actor for r in desk.records.read(first.id) if r.kind == "alarm-joined"] == [
        "somebody"
    ]


def test_a_run_that_died_unrecorded_is_followed_and_a_living_one_is_not(desk: Desk) -> None:
    first = raise_alarm(desk)
    desk.clock.sleep(60)
    with pytest.raises(Refused) as refused:
        declare_again(desk)
    assert refused.value.instance_code == "run-running"
    assert isinstance(desk.workflows, InMemoryWorkflows)
    desk.workflows.stopped.add(first.run_id)
    assert declare_again(desk).run_id == f"{first.run_id}-2"


def test_a_signal_starts_no_second_run(desk: Desk) -> None:
    first = raise_alarm(desk)
    end_run(first.run_id, "failed", desk=desk)
    desk.clock.sleep(60)
    second = declare_again(desk)
    end_run(second.run_id, "failed", desk=desk)
    raise_alarm(desk, Signal(SIGNAL.name, desk.clock.now(), "again"))
    assert len(started(desk)) == 2


def step_event(incident: Incident) -> dict[str, Any]:
    return {"run_id": incident.run_id, "step": "identify", "uses": "x", "inputs": {"n": 1}}


def test_a_step_is_done_once(desk: Desk) -> None:
    incident = raise_alarm(desk)
    done: list[Run] = []

    def work(run: Run, inputs: dict[str, Any]) -> dict[str, Any]:
        done.append(run)
        return {"found": "it", "n": inputs["n"]}

    first = run_step(step_event(incident), work, desk=desk)
    assert run_step(step_event(incident), work, desk=desk) == first == {"found": "it", "n": 1}
    assert [run.component for run in done] == ["db"]
    kinds = [record.kind for record in desk.records.read(incident.id)]
    assert kinds[2:] == ["step-started", "step-finished"]


class Counting:
    """Wraps a fake: counts the calls of each method."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._inner, name)


def test_the_records_of_a_new_incident_are_begun_without_looking_for_others(desk: Desk) -> None:
    store: Any = Counting(desk.records._store)  # type: ignore[attr-defined]
    new = Desk(desk.state, StoredRecords(store, desk.clock), desk.workflows, desk.clock)
    incident = raise_alarm(new)
    assert store.calls == {"put": 2}
    kinds = [record.kind for record in desk.records.read(incident.id)]
    assert kinds == ["incident-opened", "run-started"]


def test_what_was_recorded_of_an_incident_of_that_name_stays(desk: Desk) -> None:
    """Two of a component in one second have one name: the first ended, the second is opened."""
    first = raise_alarm(desk)
    end_run(first.run_id, "recovered", desk=desk)
    records = StoredRecords(desk.records._store, desk.clock)  # type: ignore[attr-defined]
    again = Desk(desk.state, records, desk.workflows, desk.clock)
    second = raise_alarm(again, replace(SIGNAL, name="another"))
    assert second.id == first.id
    chain = StoredRecords(records._store, desk.clock).read(first.id)
    assert verify_chain(first.id, chain) == []
    assert [it.body.get("alarm") for it in chain if it.kind == "incident-opened"] == [
        SIGNAL.name,
        "another",
    ]


def test_a_step_in_a_new_worker_asks_for_little(desk: Desk) -> None:
    """One request for the state of the run, none for the records that were written before it."""
    incident = raise_alarm(desk)
    for step in ("identify", "restore"):
        state: Any = Counting(desk.state)
        store: Any = Counting(desk.records._store)  # type: ignore[attr-defined]
        new = Desk(state, StoredRecords(store, desk.clock), desk.workflows, desk.clock)
        run_step(step_event(incident) | {"step": step}, lambda *_: {"found": "it"}, desk=new)
        assert state.calls == {"query": 1, "create": 2}
        assert store.calls == {"put": 2}
    kinds = [record.kind for record in desk.records.read(incident.id)]
    assert kinds[2:] == ["step-started", "step-finished"] * 2


def test_a_step_that_is_repeated_in_a_new_worker_says_nothing_twice(desk: Desk) -> None:
    """Its worker died before it kept the result; the steps before it left a mark."""
    incident = raise_alarm(desk)
    run_step(step_event(incident), lambda *_: {"found": "it"}, desk=desk)
    event = step_event(incident) | {"step": "restore"}
    for _ in range(2):
        records = StoredRecords(desk.records._store, desk.clock)  # type: ignore[attr-defined]
        worker = Desk(desk.state, records, desk.workflows, desk.clock)
        run_step(event, lambda *_: {"found": "it"}, desk=worker)
        desk.state.remove(f"run#{incident.run_id}", "step#restore", expected={})
    told = [(it.kind, it.step) for it in desk.records.read(incident.id) if it.step == "restore"]
    assert told == [(f"step-{it}", "restore") for it in ("started", "finished", "started")]


def test_a_step_that_goes_on_unanswered_says_so_once(desk: Desk) -> None:
    """It is begun without a verdict: a plan may say `otherwise: proceed`."""
    incident = raise_alarm(desk)
    partition, question = f"run#{incident.run_id}", {"question": {"within_seconds": 900}}
    desk.state.create(partition, "question#approve#identify", question)
    with pytest.raises(CheckFailed):
        run_step(step_event(incident), lambda *_: raise_(CheckFailed("no")), desk=desk)
    run_step(step_event(incident), lambda *_: {"found": "it"}, desk=desk)
    told = [it.body for it in desk.records.read(incident.id) if it.kind == "decision"]
    assert [it["why"] for it in told] == [
        "not enough people answered in 900 s, and the plan says to proceed"
    ]


def test_a_step_that_was_approved_says_nothing_of_it(desk: Desk) -> None:
    incident = raise_alarm(desk)
    partition, question = f"run#{incident.run_id}", {"question": {"within_seconds": 900}}
    desk.state.create(partition, "question#approve#identify", question)
    desk.state.create(partition, "verdict#approve#identify", {"outcome": "approved"})
    run_step(step_event(incident), lambda *_: {"found": "it"}, desk=desk)
    assert [it for it in desk.records.read(incident.id) if it.kind == "decision"] == []


def raise_(error: Exception) -> dict[str, Any]:
    raise error


def test_a_failed_step_is_recorded_and_tried_again(desk: Desk) -> None:
    incident = raise_alarm(desk)
    outcomes: list[Any] = [CheckFailed("two rows expected, none found"), {"found": "two"}]

    def work(run: Run, inputs: dict[str, Any]) -> dict[str, Any]:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return dict(outcome)

    with pytest.raises(CheckFailed):
        run_step(step_event(incident), work, desk=desk)
    desk.clock.sleep(1)
    assert run_step(step_event(incident), work, desk=desk) == {"found": "two"}
    attempts = [
        r.body["attempt"]
        for r in desk.records.read(incident.id)
        if r.kind[-7:] == "started" and r.step
    ]
    assert attempts == [1, 2]
    kinds = [record.kind for record in desk.records.read(incident.id)]
    assert kinds[2:] == ["step-started", "step-failed", "step-started", "step-finished"]


class Made:
    """What a step makes in the world, and its undo takes out of it; both may be repeated."""

    def __init__(self) -> None:
        self.there: set[str] = set()

    def make(self, run: Run, inputs: dict[str, Any]) -> dict[str, Any]:
        self.there.add(run.step)
        return {"found": "it is there"}

    def take_back(self, run: Run, inputs: dict[str, Any]) -> dict[str, Any]:
        self.there.discard(run.step)
        return {"found": "it is gone"}


def test_what_was_too_long_for_one_attempt_is_not_begun_again(desk: Desk) -> None:
    incident, made = raise_alarm(desk), Made()
    event = step_event(incident) | {"within": 60}
    leave_word(event, desk=desk)
    with pytest.raises(CheckFailed) as refused:
        run_step(event, made.make, desk=desk)
    assert (refused.value.instance_code, made.there) == ("step-late", set())
    [told] = [it for it in desk.records.read(incident.id) if it.kind == "step-failed"]
    assert "within 60 s" in told.body["message"]
    undoing = event | {"undo": True}
    assert undo_step(undoing, made.take_back, desk=desk) == {"found": "it is gone"}


def test_a_task_has_time_for_what_was_too_long_for_a_lambda(desk: Desk) -> None:
    incident, made = raise_alarm(desk), Made()
    leave_word(step_event(incident) | {"within": 60}, desk=desk)
    assert run_step(step_event(incident), made.make, desk=desk) == {"found": "it is there"}


def test_a_late_attempt_that_came_to_its_end_all_the_same_counts(desk: Desk) -> None:
    incident, made = raise_alarm(desk), Made()
    event = step_event(incident) | {"within": 60}
    run_step(event, made.make, desk=desk)
    leave_word(event, desk=desk)
    assert run_step(event, made.make, desk=desk) == {"found": "it is there"}


def test_an_undo_that_was_late_leaves_something_behind(desk: Desk) -> None:
    incident, made = raise_alarm(desk), Made()
    event = step_event(incident) | {"within": 60}
    run_step(event, made.make, desk=desk)
    undoing = event | {"undo": True}
    leave_word(undoing, desk=desk)
    with pytest.raises(CheckFailed, match="within 60 s"):
        undo_step(undoing, made.take_back, desk=desk)
    assert find_left_behind(incident.run_id, [event["step"]], desk=desk) == [event["step"]]


@pytest.mark.parametrize("last", range(8))
def test_a_death_after_any_call_of_an_undo_is_healed_by_the_next_one(desk: Desk, last: int) -> None:
    incident, made, calls = raise_alarm(desk), Made(), iter(range(1000))
    run_step(step_event(incident), made.make, desk=desk)
    mortal = Desk(
        Mortal(desk.state, calls, last), Mortal(desk.records, calls, last), desk.workflows,
        desk.clock,
    )  # fmt: skip
    for of in (mortal, desk, desk):
        try:
            undone = undo_step(step_event(incident), made.take_back, desk=of)
        except Died:
            desk.clock.sleep(30)
    assert (undone, made.there) == ({"found": "it is gone"}, set())
    told = [it for it in desk.records.read(incident.id) if it.kind == "step-undone"]
    assert [it.body["found"] for it in told] == ["it is gone"]
    assert find_left_behind(incident.run_id, ["identify"], desk=desk) == []


def test_a_step_that_began_and_was_not_taken_back_is_left_behind(desk: Desk) -> None:
    """Whether its undo failed, or died each time and could say nothing."""
    incident, made = raise_alarm(desk), Made()
    steps = ["identify", "load", "never-begun"]
    for name in steps[:2]:
        run_step(step_event(incident) | {"step": name}, made.make, desk=desk)
    assert find_left_behind(incident.run_id, steps, desk=desk) == ["identify", "load"]

    def fail(run: Run, inputs: dict[str, Any]) -> dict[str, Any]:
        raise CheckFailed("it stays")

    with pytest.raises(CheckFailed):
        undo_step(step_event(incident), fail, desk=desk)
    undo_step(step_event(incident) | {"step": "load"}, made.take_back, desk=desk)
    assert undo_step(step_event(incident) | {"step": "never-begun"}, fail, desk=desk) == {
        "found": "it never began"
    }
    assert find_left_behind(incident.run_id, steps, desk=desk) == ["identify"]
    said = [(it.kind, it.body.get("attempt")) for it in desk.records.read(incident.id)]
    assert said[-4:] == [
        ("undo-started", 1), ("undo-failed", 1), ("undo-started", 1), ("step-undone", 1),
    ]  # fmt: skip


def test_a_step_of_no_run_is_refused(desk: Desk) -> None:
    with pytest.raises(BadInput) as refused:
        run_step({"run_id": "run-x", "step": "s", "inputs": {}}, lambda *_: {}, desk=desk)
    assert refused.value.instance_code == "unknown-run"
