"""Which barriers are raised for a component, what is left to a person, what lifting waits for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chalicelib.errors import Refused
from chalicelib.plan.components import Bucket, Server, Service
from chalicelib.recover.attack.isolate import (
    Cut,
    Isolator,
    decide_barriers,
    forget_left,
    read_cuts,
    require_attack_cut_off,
)
from tests.fakes_state import InMemoryState, ManualClock

UPLOADER, API = "user/uploader", "role/api"
BUCKET = Bucket(kind="bucket", bucket="assets", identities=(UPLOADER, API))


def planned(barriers: tuple[object, ...]) -> list[tuple[str, str]]:
    return [(it.kind, it.target) for it in barriers]  # type: ignore[attr-defined]


def test_a_bucket_is_closed_before_keys_and_sessions_are_cut() -> None:
    found = decide_barriers(BUCKET, known={UPLOADER, API})
    assert planned(found.raised) == [
        ("bucket-policy", "assets"),
        ("bucket-history", "assets"),
        ("access-keys", "uploader"),
        ("sessions", "user/uploader"),
        ("sessions", "role/api"),
    ]
    assert found.left == ()
    assert all(it.why and it.undo for it in found.raised)


def test_a_server_is_closed_before_its_volumes_are_kept() -> None:
    server = Server(kind="server", instance="node", quarantine_group="sg-1", region="us-west-2")
    found = decide_barriers(server)
    assert planned(found.raised) == [("network", "node"), ("snapshots", "node")]
    assert {it.region for it in found.raised} == {"us-west-2"}


def test_what_leeward_may_not_do_is_left_to_a_person_by_name() -> None:
    server = Server(kind="server", instance="node")
    assert planned(decide_barriers(server).left) == [("network", "node")]
    service = Service(kind="service", identities=(API,))
    found = decide_barriers(service, identities=["user/ghost", API], known={API})
    assert planned(found.raised) == [("sessions", "role/api")]
    assert planned(found.left) == [("access-keys", "ghost")]


def test_nothing_is_opened_while_a_part_of_the_attack_is_left() -> None:
    state, clock = InMemoryState(), ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
    told: list[Cut] = []
    isolator = Isolator(
        "uploads", "run-1", lambda _: pytest.fail("none"), state, clock, told.append
    )
    isolator.raise_all(decide_barriers(Service(kind="service"), identities=["user/ghost"]))
    with pytest.raises(Refused) as caught:
        require_attack_cut_off("uploads", read_cuts(state, "uploads"))
    assert caught.value.instance_code == "attack-not-cut-off"
    assert "ghost" in caught.value.message
    forget_left("uploads", state)
    require_attack_cut_off("uploads", read_cuts(state, "uploads"))
