"""Kills the workers of a drill, whatever the machine's speed, and starts the same thing twice.

A worker waits while its call to AWS is judged, and dies before it takes effect:

    a step     once: at its first call later than KILL_AFTER_SECONDS into the step, in the middle of
               the work; or, when it is through sooner, after its end was recorded and before its
               result is kept. What it did is done again then.
    a question once: when it is about to be recorded.
    an undo    twice: at its first call, before its effect; and with its effect made, when that is
               about to be recorded.
    the end    three times: before the outcome is recorded, before the report is written (the way is
               free, the run has ended), and before the evidence is sealed.

While a run goes on, what started it comes twice more, and a person starts the same scenario.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chalicelib.errors import Truncated
from chalicelib.evidence.bundle import copy_evidence
from chalicelib.evidence.chain import decode_record
from chalicelib.evidence.verify import verify_evidence
from chalicelib.plan.records import EvidenceRecord, format_time
from chalicelib.services.jobs.alarms import starting_alarms
from chalicelib.services.signals import DECLARED_BY
from leeward.commands.run import event_of
from leeward.evidence_files import open_evidence
from leeward.local.drill import Drill, Told
from leeward.local.glance import is_running
from leeward.local.runner import Call
from leeward.packaging.template import machine_id
from tests.clouds import wait_for
from tests.survived import survived
from tests.survived_where import WHERE

KILL_AFTER_SECONDS = 0.15
BEFORE_EFFECT, BEFORE_RECORD = "undo, before its effect", "undo, before its record"
UNDO = (BEFORE_EFFECT, BEFORE_RECORD)
# Where the worker that ends a run dies, and at which object's writing that is.
END = {
    "end, before its outcome": "run-finished",
    "end, before its report": "report.html",
    "end, before its seal": "bundle.json",
}
ENDING = ("run.close", "run.fail")


class Striker:
    """`hear` is told of everything; it strikes while `active`.

    `steps`: at steps; without, at what takes a drill back and at its end. `whole`: at steps, at
    questions and at the end, and starts everything twice.

    `killed`: of each run, every (step, where) whose worker died. `said`: how steps failed, and runs
    ended. `wrong`: what did not survive a strike as it must.
    """

    def __init__(self, *, active: bool = True, steps: bool = True, whole: bool = False) -> None:
        self.active = active
        self.whole = whole
        self.steps = steps
        self.killed: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self.said: list[str] = []
        self.wrong: list[str] = []
        self.drill: Drill | None = None
        self._lock = threading.Lock()
        # Of each sandbox: the record that it wrote last; the step that it began, and when.
        self._written: dict[str, str] = {}
        self._begun: dict[str, tuple[str, float]] = {}
        # Of each sandbox: the run's step that it wrote last that it takes back.
        self._undoing: dict[str, tuple[str, str]] = {}
        self._scenarios: dict[str, str] = {}
        self._started_by: dict[str, Any] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def hear(self, told: Told) -> None:
        if told.kind == "cloud":  # the stage is set
            assert self.drill is not None
            self.drill.cloud.strike(self.strikes)
        record = told.record
        if record is None:
            return
        if record.kind in ("step-failed", "undo-failed", "run-finished"):
            self.said.append(f"{record.step} {record.body}")
        if record.kind == "run-started" and self.active and self.whole:
            self._start_again(record)

    def strikes(self, call: Call, event: Any) -> bool:
        """Whether the worker dies at this call."""
        if not self.active or not isinstance(event, dict):
            return False
        if call.function.endswith("-on_alarm") and self._starts_runs(event):
            self._started_by = event
        if not {"run_id", "step", "uses"} <= event.keys():
            return False
        with self._lock:
            where = self._where(call, event)
            dead = self.killed[event["run_id"]]
            if not where or (event["step"], where) in dead:
                return False
            dead.add((event["step"], where))
            self._counts[self._scenario(event["run_id"]), _column(where)] += 1
            return True

    def _starts_runs(self, event: dict[str, Any]) -> bool:
        """A declaration, or an alarm that a scenario names; others are told to people alone."""
        assert self.drill is not None
        name = event.get("detail", {}).get("alarmName")
        return event.get("source") == DECLARED_BY or name in starting_alarms(self.drill.plan)

    def _where(self, call: Call, event: Any) -> str:
        if event["uses"] in ENDING:
            return self._where_of_end(call) if self.whole or not self.steps else ""
        if event.get("undo"):
            return self._where_of_undo(call, (event["run_id"], event["step"]))
        if not self.steps:
            return ""
        if self.whole and event["uses"] in ("people.do", "people.approve"):
            return "step" if call.parameters.get("RecordKind") == "asked" else ""
        return "step" if self._step_is_due(call, event) else ""

    def _where_of_end(self, call: Call) -> str:
        about = {call.parameters.get("RecordKind"), call.parameters.get("Key", "").split("/")[-1]}
        return next((where for where, what in END.items() if what in about), "")

    def _where_of_undo(self, call: Call, undo: tuple[str, str]) -> str:
        kind = call.parameters.get("RecordKind")
        if kind == "undo-started":
            self._undoing[call.sandbox] = undo
            return ""
        if self._undoing.get(call.sandbox) != undo:
            return ""
        run_id, step = undo
        reads = call.operation.startswith("ListObjects") or "/records/" in call.parameters.get(
            "Key", ""
        )
        if kind is None and reads:  # somebody else was quicker to write a record
            return ""
        if (step, BEFORE_EFFECT) not in self.killed[run_id]:
            return BEFORE_EFFECT
        return BEFORE_RECORD if kind == "step-undone" else ""

    def _step_is_due(self, call: Call, event: Any) -> bool:
        step = event["step"]
        record = self._last_record(call, step)
        if (step, "step") in self.killed[event["run_id"]]:
            return False
        kind = record.kind if record else ""
        if kind == "step-started":
            self._begun[call.sandbox] = step, time.monotonic()
        begun, at = self._begun.get(call.sandbox, ("", 0.0))
        if begun != step or kind == "step-failed":
            return False
        return kind == "step-finished" or time.monotonic() > at + KILL_AFTER_SECONDS

    def _last_record(self, call: Call, step: str) -> EvidenceRecord | None:
        """What the sandbox wrote since its last call, None when that was no record of its step."""
        key = self._written.pop(call.sandbox, "")
        record = self._read(key) if key else None
        if key and record is None:  # another of its threads is quicker
            self._written[call.sandbox] = key
        written = call.parameters.get("Key", "")
        if call.operation == "PutObject" and "/records/" in written:
            self._written[call.sandbox] = written
        # One of another step is of somebody who was quicker to write it.
        return record if record and record.step == step else None

    def _read(self, key: str) -> EvidenceRecord | None:
        assert self.drill is not None
        try:
            return decode_record(self.drill.evidence.get(key), where=key)
        except Truncated:  # not there yet
            return None

    def _scenario(self, run_id: str) -> str:
        if run_id not in self._scenarios:
            self._scenarios[run_id] = self._kept(f"run#{run_id}", "run")["scenario"]
        return self._scenarios[run_id]

    def _kept(self, partition: str, sort: str) -> dict[str, Any]:
        assert self.drill is not None
        return self.drill.state().get(partition, sort) or {}

    def _start_again(self, started: EvidenceRecord) -> None:
        """What started the run comes twice more, at once; and a person declares the scenario."""
        assert self.drill is not None
        run, drill = started.body, self.drill
        if self._kept(f"run#{started.run_id}", "run")["status"] != "running":
            return  # heard again
        now = format_time(datetime.now(UTC))
        detail = {"scenario": run["scenario"], "reason": "at the same time", "by": "drill",
                  "at": now, "moment": None, "drill": run["drill"]}  # fmt: skip
        if self._started_by:
            with ThreadPoolExecutor(2) as at_once:
                answers = list(at_once.map(self._ask, [("on_alarm", self._started_by)] * 2))
            same = [it for it in answers if run["incident_id"] in json.dumps(it)]
        else:  # nobody declared it: by the standby's own look
            answers = same = [drill.invoke("probe", {"source": "aws.events"}) for _ in range(2)]
        if len(same) < 2:
            self.wrong.append(f"{started.run_id} was started again: {answers}")
        second = self._ask(("on_alarm", event_of(detail, now)))
        if second.get("errorType") != "Refused":
            self.wrong.append(f"{started.run_id} was not alone: {second}")
        self._started_by = {}
        self._counts[run["scenario"], "alarm again"] += len(answers)
        self._counts[run["scenario"], "two at once"] += 1
        if self.drill.cloud.faults.active:
            self._counts[run["scenario"], "region lost"] += 1

    def _ask(self, asked: tuple[str, Any]) -> dict[str, Any]:
        """The answer of a function of the run's stack, or its error."""
        assert self.drill is not None
        function, event = asked
        stage = "primary" if self.drill.region == self.drill.cloud.regions[0] else "standby"
        answer = self.drill.cloud.client("lambda", self.drill.region).invoke(
            FunctionName=f"leeward-{stage}-{function}", Payload=json.dumps(event)
        )
        found: dict[str, Any] = json.loads(answer["Payload"].read())
        return found

    def told(self, plan: str, scenario: str) -> str:
        """For the table at the end of the tests: what the scenario survived since it was last
        asked. Everything that was struck came to the end that it must."""
        if self.whole or not self.steps:
            self.wrong += [it for run in sorted(self.killed) for it in self._unsettled(run)]
            self.killed.clear()
        assert not self.wrong, "\n".join(self.wrong)
        counts = {fault: count for (name, fault), count in self._counts.items() if name == scenario}
        assert self._owed(plan, scenario) <= counts.keys()
        for fault in counts:
            del self._counts[scenario, fault]
        return "\n".join(survived(plan, scenario, it, counts[it]) for it in sorted(counts))

    def _owed(self, plan: str, scenario: str) -> set[str]:
        """What the test that strikes must tell, but for what it tells itself."""
        if not self.steps:
            return {"ends killed"}
        cells = WHERE[plan][scenario]
        here = cells["workers killed"]
        return {fault for fault, cell in cells.items() if cell == here} - {"no answer"}

    def wait(self) -> None:
        """Until the runs in which somebody died are over: they are sealed after their outcome."""
        for run in sorted(self.killed):
            wait_for(lambda run=run: self._is_over(run), f"{run} did not end", seconds=90)

    def _is_over(self, run_id: str) -> bool:
        assert self.drill is not None
        arn = self.drill.names[machine_id(self._scenario(run_id))]
        execution = arn.replace(":stateMachine:", ":execution:") + f":{run_id}"
        return not is_running(execution)

    def _unsettled(self, run_id: str) -> Iterator[str]:
        """What a run that has ended did not leave as it must."""
        assert self.drill is not None
        run = self._kept(f"run#{run_id}", "run")
        incident = run["incident_id"]
        chain = [it for it in self.drill.records.read(incident) if it.run_id == run_id]
        kinds = Counter(it.kind for it in chain)
        if (kinds["run-started"], kinds["run-finished"]) != (1, 1):
            yield f"{run_id} was not started once and ended once: {kinds}"
            return
        [ended] = [it.body["outcome"] for it in chain if it.kind == "run-finished"]
        if run["status"] != ended:
            yield f"{run_id} ended as {ended}, and is {run['status']}"
        for held in self.drill.state().query(f"run#{run_id}", "held#"):
            if self._kept(f"fence#{held['component']}", "fence").get("run_id") == run_id:
                yield f"{run_id} still holds {held['component']}"
        wanted = {(it.step, where) for it in chain if it.kind == "step-undone" for where in UNDO}
        if alive := wanted - self.killed[run_id]:
            yield f"nobody died in {run_id} at {sorted(alive)}"
        if alive := END.keys() - {where for _, where in self.killed[run_id]}:
            yield f"nobody died at {sorted(alive)} of {run_id}"
        with tempfile.TemporaryDirectory() as folder:
            copied = copy_evidence(incident, self.drill.evidence, Path(folder) / incident)
            verdict = verify_evidence(open_evidence(copied))
        if verdict.findings:
            yield f"the evidence of {incident} is not whole: {verdict.findings}"


@contextmanager
def clean_ups_struck(stage: Drill) -> Iterator[Striker]:
    """Strikes what takes the drills inside back, and their ends; nothing else strikes meanwhile."""
    striker, before = Striker(steps=False), stage.cloud.runner.strikes
    striker.drill = stage
    stage.cloud.strike(striker.strikes)
    try:
        yield striker
        striker.wait()
    finally:
        stage.cloud.runner.strikes = before


def _column(where: str) -> str:
    return {"step": "workers killed"}.get(where, where.split(",")[0] + "s killed")


def undisturbed(records: list[EvidenceRecord]) -> set[str]:
    """The steps of Leeward's own that an incident's run began once: nobody died in them."""
    begun = Counter(it.step for it in records if it.kind == "step-started")
    return {step for step, times in begun.items() if times == 1}
