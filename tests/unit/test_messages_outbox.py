"""What is to be told is told once, however often it is tried; what fails delays nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.errors import LeewardError, NotReady, Refused, Unavailable
from chalicelib.incidents.messages import Delivery, Way
from chalicelib.incidents.messages_outbox import (
    GIVES_UP_AFTER,
    OUTBOX,
    OutboxDesk,
    audiences_told,
    keep,
    reserved,
    send_due,
    send_now,
    told_of,
    undelivered,
    wait_after,
)
from chalicelib.incidents.streams import people_stream
from chalicelib.ports.notify import Message, Sender
from tests.fakes_records import InMemoryRecords
from tests.fakes_state import InMemoryState, ManualClock

Behaviour = Callable[[Message, str], str]


class Post:
    """Senders by kind; what they were handed is in `sent`."""

    def __init__(self, **kinds: Behaviour) -> None:
        self.kinds = kinds
        self.sent: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def of(self, kind: str, name: str, *, drill: bool) -> Sender:
        if kind not in self.kinds:
            raise NotReady("no login", code="no-channel-login", hint="x")
        post, behaviour = self, self.kinds[kind]

        class Way_:
            def send(self, message: Message, to: str) -> str:
                receipt = behaviour(message, to)
                with post._lock:
                    post.sent.append((message.id, to))
                return receipt

        return Way_()


def fails(error: LeewardError) -> Behaviour:
    def send(message: Message, to: str) -> str:
        raise error

    return send


def takes(message: Message, to: str) -> str:
    return "receipt"


class Room:
    def __init__(self, **kinds: Behaviour) -> None:
        self.state, self.clock, self.records = InMemoryState(), ManualClock(), InMemoryRecords()
        self.post = Post(**kinds)
        self.moot: dict[str, str] = {}
        self.rounds = 0

    @property
    def desk(self) -> OutboxDesk:
        return OutboxDesk(self.state, self.records, self.clock, self.post, self.judge)

    def judge(self) -> Callable[[Delivery], str]:
        self.rounds += 1
        return lambda delivery: self.moot.get(delivery.recipient, "")

    def delivery(self, recipient: str, *kinds: str, **more: Any) -> Delivery:
        at = self.clock.now()
        message = Message(
            id="m1", incident="inc-1", what="opened", audience="internal", severity="SEV1",
            subject="S", text="T", drill=False, written_at=at,
        )  # fmt: skip
        ways = tuple(Way(kind, recipient, f"{recipient}@{kind}") for kind in kinds)
        return Delivery(message, recipient, ways, more.pop("due_at", at), **more)

    def keep(self, *deliveries: Delivery) -> None:
        keep(deliveries, state=self.state)

    def send(self, seconds: float = 2.0) -> dict[str, bool]:
        tried = send_due(self.desk, seconds=seconds)
        return {it.delivery.recipient: it.told for it in tried}

    def kinds(self) -> list[str]:
        return [it.kind for it in self.records.read(people_stream("inc-1"))]


@pytest.fixture
def room() -> Room:
    return Room(good=takes, bad=fails(Unavailable("down")), wrong=fails(Refused("no", code="r")))


def test_what_was_told_is_out_of_the_outbox_and_is_told_once(room: Room) -> None:
    one = room.delivery("ops", "good")
    room.keep(one, one)
    assert room.send() == {"ops": True}
    room.keep(one)
    assert room.send() == {}
    assert len(room.post.sent) == 1
    [told] = told_of("inc-1", state=room.state)
    assert (told["recipient"], told["way"], told["receipt"]) == ("ops", "good ops@good", "receipt")
    assert undelivered(room.state) == []
    assert room.kinds() == ["told"]


def test_the_next_way_is_tried_when_one_fails(room: Room) -> None:
    room.keep(room.delivery("ops", "wrong", "bad", "missing", "good"))
    assert room.send() == {"ops": True}
    [told] = told_of("inc-1", state=room.state)
    assert told["failed_before"] == ["wrong: no", "bad: down", "missing: no login"]


def test_what_fails_is_tried_later_and_later(room: Room) -> None:
    room.keep(room.delivery("ops", "bad"))
    waits = []
    for _ in range(6):
        assert room.send() == {"ops": False}
        assert room.send() == {}
        [item] = undelivered(room.state)
        waits.append(int(wait_after(item["attempts"]).total_seconds()))
        room.clock.sleep(waits[-1])
    assert waits == [5, 10, 20, 40, 80, 160]
    assert wait_after(400) == timedelta(minutes=30)
    assert room.kinds() == ["not-told"]
    room.post.kinds["bad"] = takes
    assert room.send() == {"ops": True}


def test_what_is_hopeless_is_given_up_listed_and_recorded(room: Room) -> None:
    room.keep(room.delivery("ops", "wrong"), room.delivery("by-hand"))
    assert room.send() == {"ops": False, "by-hand": False}
    room.clock.sleep(86400)
    assert room.send() == {}
    listed = {it["delivery"]["recipient"]: it for it in undelivered(room.state, "inc-1")}
    assert {it["status"] for it in listed.values()} == {"given-up"}
    assert listed["by-hand"]["why"] == ["a person must tell them"]
    assert room.kinds() == ["not-told", "not-told"]


def test_after_a_day_it_is_given_up(room: Room) -> None:
    room.keep(room.delivery("ops", "bad"))
    room.clock.sleep(GIVES_UP_AFTER.total_seconds() + 1)
    room.send()
    [item] = undelivered(room.state)
    assert item["status"] == "given-up"


def test_one_that_hangs_delays_no_other(room: Room) -> None:
    release = threading.Event()

    def hangs(message: Message, to: str) -> str:
        release.wait(20)
        return "late"

    room.post.kinds["slow"] = hangs
    room.keep(room.delivery("a-slow", "slow"), room.delivery("z-quick", "good"))
    began = time.monotonic()
    assert room.send(seconds=0.3) == {"z-quick": True, "a-slow": False}
    assert time.monotonic() - began < 10
    [item] = undelivered(room.state)
    assert "no answer within" in item["why"][0]
    release.set()


def test_a_recipient_reads_things_in_the_order_in_which_they_happened(room: Room) -> None:
    def takes_its_time(message: Message, to: str) -> str:
        time.sleep(0.05 if message.id == "first" else 0)
        return ""

    room.post.kinds["good"] = takes_its_time
    made = []
    for name in ("first", "second", "third"):
        room.clock.sleep(1)
        delivery = room.delivery("ops", "good")
        made.append(replace(delivery, message=replace(delivery.message, id=name)))
    room.keep(*reversed(made))
    room.send()
    assert [name for name, _ in room.post.sent] == ["first", "second", "third"]


def test_what_is_not_due_waits(room: Room) -> None:
    later = room.clock.now() + timedelta(hours=4)
    room.keep(room.delivery("press", "good", due_at=later, while_open=True))
    assert room.send() == {}
    room.clock.sleep(4 * 3600)
    assert room.send() == {"press": True}


def test_what_somebody_waits_for_is_theirs_to_send_and_another_s_when_they_die(
    room: Room,
) -> None:
    mine = reserved(room.delivery("ops", "good"))
    held = reserved(room.delivery("press", "good", due_at=room.clock.now() + timedelta(hours=4)))
    room.keep(mine, held)
    assert room.send() == {}
    assert [it.told for it in send_now([mine, held], room.desk, seconds=2)] == [True]
    room.keep(reserved(room.delivery("other", "good")))
    room.clock.sleep(61)
    assert room.send() == {"other": True}


def test_what_is_moot_is_dropped_right_before_it_would_be_sent(room: Room) -> None:
    room.keep(room.delivery("ops", "bad"))
    room.send()
    room.moot["ops"] = "it was acknowledged"
    room.clock.sleep(60)
    assert room.send() == {}
    assert undelivered(room.state) == []
    assert room.kinds() == ["not-told", "not-told"]


class SeenByAllAtOnce(InMemoryState):
    """Four workers have read the outbox before any of them claims something."""

    def __init__(self) -> None:
        super().__init__()
        self.all_have_read = threading.Barrier(4)

    def query(self, partition: str, prefix: str = "") -> Iterator[dict[str, Any]]:
        found = list(super().query(partition, prefix))
        self.all_have_read.wait(5)
        return iter(found)


def test_workers_that_see_the_same_send_it_once(room: Room) -> None:
    room.state = SeenByAllAtOnce()
    room.keep(*(room.delivery(f"r{number}", "good") for number in range(8)))
    workers = [threading.Thread(target=room.send) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(to for _, to in room.post.sent) == [f"r{n}@good" for n in range(8)]


def test_a_worker_that_died_leaves_a_claim_that_ends(room: Room) -> None:
    class Died(Exception):
        pass

    room.keep(room.delivery("ops", "good"))
    real, room.state.create = room.state.create, _raise(Died)  # type: ignore[method-assign]
    with pytest.raises(Died):
        room.send()
    room.state.create = real  # type: ignore[method-assign]
    assert room.send() == {}
    room.clock.sleep(61)
    assert room.send() == {"ops": True}
    assert len(told_of("inc-1", state=room.state)) == 1


def _raise(error: type[Exception]) -> Any:
    def append(*args: Any, **kwargs: Any) -> Any:
        raise error

    return append


class Mute:
    """Evidence that does not answer."""

    def append(self, *args: Any, **more: Any) -> None:
        raise Unavailable("the evidence does not answer")


def test_nobody_is_told_again_because_it_could_not_be_recorded(room: Room) -> None:
    """However long the evidence is silent; what comes meanwhile is told as well."""
    silent = replace(room.desk, records=Mute())
    room.keep(room.delivery("ops", "good"), room.delivery("cto", "good"))
    for _ in range(5):
        with pytest.raises(Unavailable):
            send_due(silent, seconds=2.0)
        room.clock.sleep(60)
    room.keep(room.delivery("press", "good"))
    with pytest.raises(Unavailable):
        send_due(silent, seconds=2.0)
    assert sorted(to for _, to in room.post.sent) == ["cto@good", "ops@good", "press@good"]
    assert len(undelivered(room.state)) == 3

    room.clock.sleep(60)
    assert room.send() == {}
    assert undelivered(room.state) == []
    assert room.kinds() == ["told"] * 3
    said = [it.body["receipt"] for it in room.records.read(people_stream("inc-1"))]
    assert said == ["receipt"] * 3


def test_who_has_heard_or_will(room: Room) -> None:
    room.keep(room.delivery("ops", "good"), room.delivery("late", "bad"))
    assert audiences_told("inc-1", state=room.state) == {"internal"}
    room.send()
    assert audiences_told("inc-1", state=room.state) == {"internal"}
    held = room.delivery("press", "good", due_at=room.clock.now() + GIVES_UP_AFTER, while_open=True)
    room.keep(replace(held, message=replace(held.message, id="m2", audience="press")))
    assert audiences_told("inc-1", state=room.state) == {"internal"}
    assert audiences_told("inc-2", state=room.state) == frozenset()
    assert list(room.state.query(OUTBOX, "inc-2#")) == []
