"""People, their devices, and states that wait, in memory."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import pyotp

from chalicelib.errors import Damaged
from chalicelib.incidents.answer import AnswerDesk
from chalicelib.incidents.factors import (
    Enrolment,
    FactorDesk,
    keep_enrolment,
    new_enrolment,
)
from chalicelib.plan.people import Contact, Role
from tests.fakes_records import InMemoryRecords
from tests.fakes_state import InMemoryState, ManualClock


class ScrambledVault:
    """Bound to the person, as KMS's encryption context binds."""

    def close(self, secret: bytes, person: str) -> str:
        return base64.b64encode(person.encode() + b"/" + secret[::-1]).decode()

    def open(self, closed: str, person: str) -> bytes:
        owner, _, secret = base64.b64decode(closed).partition(b"/")
        if owner.decode() != person:
            raise Damaged("it does not open", code="factor-unreadable")
        return secret[::-1]


@dataclass
class WaitingStates:
    """As Step Functions: a token lets one state go on, once, while that waits."""

    waiting: set[str] = field(default_factory=set)
    ended: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def wait(self, token: str) -> None:
        self.waiting.add(token)

    def time_out(self, token: str) -> None:
        self.waiting.discard(token)

    def beat(self, token: str) -> bool:
        raise AssertionError("people have no heartbeat")

    def succeed(self, token: str, output: dict[str, str]) -> bool:
        return self._end(token, ("succeeded", output))

    def fail(self, token: str, error: str, cause: str) -> bool:
        return self._end(token, ("failed", (error, cause)))

    def _end(self, token: str, how: tuple[str, Any]) -> bool:
        if token not in self.waiting:
            return False
        self.waiting.discard(token)
        self.ended[token] = how
        return True


ROLES = {
    "commander": Role(title="Commander", may=("declare", "approve"), held_by=("ada", "bo", "cy")),
    "engineer": Role(title="Engineer", may=("execute",), held_by=("dee",), covered_by="commander"),
    "officer": Role(title="Officer", may=("approve",), held_by=("bo", "eve")),
}
PEOPLE = ("ada", "bo", "cy", "dee", "eve", "fay")


class Office:
    """A desk with people who are enrolled, all but fay."""

    def __init__(self, state: Any = None, clock: Any = None) -> None:
        self.clock = clock or ManualClock()
        self.state = state or InMemoryState()
        self.tokens = WaitingStates()
        self.records = InMemoryRecords()
        factors = FactorDesk(self.state, ScrambledVault(), self.clock)
        self.desk = AnswerDesk(
            self.state,
            self.records,
            self.clock,
            self.tokens,
            factors,
            ROLES,
            {name: Contact(title=name.title()) for name in PEOPLE},
        )
        self.enrolled = {name: self.enrol(name) for name in PEOPLE if name != "fay"}

    def enrol(self, person: str, *, replace: bool = False) -> Enrolment:
        made = new_enrolment(person, issuer="Leeward")
        keep_enrolment(made, desk=self.desk.factors, replace=replace)
        return made

    def code(self, person: str, *, steps_ago: int = 0) -> str:
        totp = pyotp.TOTP(self.enrolled[person].secret)
        return totp.at(self.clock.at, counter_offset=-steps_ago)

    def next_code(self, person: str) -> str:
        """As a person does who waits until the device shows another one."""
        self.clock.sleep(30)
        return self.code(person)

    def start_run(self, run_id: str, *, requested_by: str = "") -> None:
        run = {
            "run_id": run_id,
            "incident_id": "inc-1",
            "scenario": "loss",
            "component": "db",
            "status": "running",
            "requested_by": requested_by,
        }
        self.state.create(f"run#{run_id}", "run", run)

    def question(self, run_id: str, step: str, token: str, **more: Any) -> dict[str, Any]:
        """The event of a state that begins to wait."""
        self.tokens.wait(token)
        kind = more.pop("kind", "approve")
        asked = {"roles": ["commander"], "count": 2, "says": "Fail over", "otherwise": "stop"}
        if kind == "do":
            asked = {"role": "engineer", "says": "Move the cables", "commands": None}
        return {
            "run_id": run_id,
            "step": step,
            "uses": f"people.{kind}",
            "inputs": asked | {"within_seconds": 900} | more,
            "token": token,
        }

    def kinds(self) -> list[str]:
        return [it.kind for it in self.records.read("inc-1")]
