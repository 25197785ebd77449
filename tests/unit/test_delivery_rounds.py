"""What is still to be told is judged by how its incident stands, which is read once a round."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from chalicelib.incidents.incident import INCIDENTS, Incident
from chalicelib.incidents.messages import Delivery, Way
from chalicelib.incidents.register import OPEN, close_incident
from chalicelib.ports.notify import Message
from chalicelib.services import build
from chalicelib.services.people.escalation import judge_deliveries
from tests.fakes_state import InMemoryState, ManualClock


class CountingState(InMemoryState):
    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def get(self, partition: str, sort: str) -> dict[str, Any] | None:
        self.asked["get"] += 1
        return super().get(partition, sort)

    def query(self, partition: str, prefix: str = "") -> Any:
        self.asked["query"] += 1
        return super().query(partition, prefix)


def test_an_incident_is_read_once_a_round_and_anew_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state, at = CountingState(), ManualClock().now()
    monkeypatch.setattr(build, "state", lambda: state)
    incident = Incident("inc-1", "db", "corruption", "SEV1", "alarm", at, at)
    state.create(INCIDENTS, f"{OPEN}db", incident.to_json())
    message = Message(
        id="m1", incident="inc-1", what="opened", audience="internal", severity="SEV1",
        subject="S", text="T", drill=False, written_at=at,
    )  # fmt: skip
    told = [
        Delivery(message, name, (Way("slack", name, name),), at, while_open=True)
        for name in ("ops", "lead", "press")
    ]
    judge = judge_deliveries()
    assert [judge(one) for one in told] == ["", "", ""]
    assert state.asked == {"get": 1, "query": 1}
    close_incident(incident, state=state)
    judge = judge_deliveries()
    assert [judge(one) for one in told] == ["the incident is closed"] * 3
