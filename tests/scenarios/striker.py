"""Kills the worker of each step of a drill once, whatever the machine's speed.

A worker waits while its call to AWS is judged, and dies before it takes effect: at its first call
later than KILL_AFTER_SECONDS into the step, in the middle of the work; or, when it is through
sooner, after its end was recorded and before its result is kept. What it did is done again then.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from chalicelib.errors import Truncated
from chalicelib.evidence.chain import decode_record
from chalicelib.plan.records import EvidenceRecord
from leeward.local.drill import Drill, Told
from leeward.local.runner import Call
from tests.survived import survived

KILL_AFTER_SECONDS = 0.15


class Striker:
    """`hear` is told of everything; it strikes while `active`.

    `killed`: by scenario, each step whose worker died. `said`: how steps failed, and runs ended.
    """

    def __init__(self, *, active: bool = True) -> None:
        self.active = active
        self.killed: dict[str, set[str]] = {}
        self.said: list[str] = []
        self.drill: Drill | None = None
        self._lock = threading.Lock()
        # Of each sandbox: the record that it wrote last; the step that it began, and when.
        self._written: dict[str, str] = {}
        self._begun: dict[str, tuple[str, float]] = {}

    def hear(self, told: Told) -> None:
        if told.kind == "cloud":  # the stage is set
            assert self.drill is not None
            self.drill.cloud.strike(self.strikes)
        record = told.record
        if record is not None and record.kind in ("step-failed", "run-finished"):
            self.said.append(f"{record.step} {record.body}")

    def strikes(self, call: Call, event: Any) -> bool:
        """Whether the worker dies at this call."""
        step = event.get("step") if self.active and isinstance(event, dict) else None
        if not step:
            return False
        assert self.drill is not None
        with self._lock:
            dead = self.killed.setdefault(self.drill.options.scenario, set())
            record = self._last_record(call, step)
            if step in dead or not self._is_due(call.sandbox, step, record):
                return False
            dead.add(step)
            return True

    def _is_due(self, sandbox: str, step: str, record: EvidenceRecord | None) -> bool:
        kind = record.kind if record else ""
        if kind == "step-started":
            self._begun[sandbox] = step, time.monotonic()
        begun, at = self._begun.get(sandbox, ("", 0.0))
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

    def told(self, plan: str, scenario: str) -> str:
        """For the table at the end of the tests."""
        return survived(plan, scenario, "workers killed", len(self.killed[scenario]))


def undisturbed(records: list[EvidenceRecord]) -> set[str]:
    """The steps of Leeward's own that an incident's run began once: nobody died in them."""
    begun = Counter(it.step for it in records if it.kind == "step-started")
    return {step for step, times in begun.items() if times == 1}
