"""The outbox: what is to be told, until it was.

    kept (waiting) -> claimed, 30 seconds  -> its ways tried -> taken: told, and out of the outbox
                                                             -> not taken: waiting, later and later
                                                             -> hopeless, or too old: given up,
                                                                listed until a person sees to it

Each recipient has a worker of its own, with a limit on all of them: one that hangs delays no other.
A worker that dies leaves a claim that ends by itself. So a message arrives at least once; twice
when a worker died, or was too slow, between the receiver's answer and the note of it in the state.

    told -> noted in the state -> recorded in the evidence -> out of the outbox

What could be noted and not recorded is recorded later, and not told again: the evidence may be
silent for as long as it wants.

must: what was told is recorded before it leaves the outbox. must: what must not be told any more
(an incident that is over, a page that was acknowledged) is looked at right before each try.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from chalicelib.errors import LeewardError
from chalicelib.incidents.messages import Delivery, Way
from chalicelib.incidents.streams import people_stream
from chalicelib.plan.records import format_time, parse_time
from chalicelib.ports import Clock, Records, StateStore
from chalicelib.ports.notify import Senders

Claimed = tuple[dict[str, Any], Delivery]
"""An item of the outbox that is this worker's for a while, and what it delivers."""
OUTBOX = "outbox"
WAITING, GIVEN_UP = "waiting", "given-up"
CLAIM = timedelta(seconds=30)
RESERVED_FOR = timedelta(seconds=60)
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=30)
GIVES_UP_AFTER = timedelta(hours=24)


@dataclass(frozen=True)
class OutboxDesk:
    """What sending needs. judge: asked before each round of tries, it tells of each delivery why it
    must not be made any more, "" when it must; what it looks up may be kept for that round."""

    state: StateStore
    records: Records
    clock: Clock
    senders: Senders
    judge: Callable[[], Callable[[Delivery], str]] = lambda: lambda delivery: ""


@dataclass(frozen=True)
class Tried:
    """What came of one delivery: `way` took it, or `why` not. `again`: it may be tried later."""

    delivery: Delivery
    way: str = ""
    receipt: str = ""
    why: tuple[str, ...] = ()
    again: bool = False

    @property
    def told(self) -> bool:
        return bool(self.way)


def keep(deliveries: Iterable[Delivery], *, state: StateStore) -> None:
    """Put them into the outbox, once each: what is there, or was told, stays as it is."""
    for delivery in deliveries:
        incident, sort = delivery.message.incident, _sort(delivery)
        if state.get(told_partition(incident), delivery.id) is not None:
            continue
        item = {
            "delivery": delivery.to_json(),
            "status": WAITING,
            "attempts": 0,
            "due_at": format_time(delivery.due_at),
            "why": [],
        }
        state.create(OUTBOX, sort, item)


def reserved(delivery: Delivery) -> Delivery:
    """Left to whoever keeps it and waits for the outcome (`send_now`); to others, should it die."""
    return replace(delivery, due_at=delivery.due_at + RESERVED_FOR)


def send_now(deliveries: Iterable[Delivery], desk: OutboxDesk, *, seconds: float) -> list[Tried]:
    """Try these at once, if nobody has, though they are reserved; held ones stay held."""
    wanted = {it.id for it in deliveries if it.due_at <= desk.clock.now() + RESERVED_FOR}
    return send_due(desk, only=lambda it: it.id in wanted, seconds=seconds, early=True)


def send_due(
    desk: OutboxDesk,
    *,
    only: Callable[[Delivery], bool] = lambda delivery: True,
    seconds: float,
    early: bool = False,
) -> list[Tried]:
    """Try everything that is due, all at once, for at most `seconds`.

    Args:
        early: also what is not due and was never tried.
    """
    fresh: list[Claimed] = []
    tried: list[Tried] = []
    # All are recorded, whatever one raises.
    with ExitStack() as records:
        for item, delivery in _claim_due(desk, only, early=early):
            if desk.state.get(told_partition(delivery.message.incident), delivery.id) is None:
                fresh.append((item, delivery))
            else:
                records.callback(_record_told, item, delivery, desk)
        outcomes: queue.Queue[tuple[int, Tried]] = queue.Queue()
        for numbers in _by_recipient([delivery for _, delivery in fresh]):
            mine = [(number, fresh[number][1]) for number in numbers]
            work = _attempts_into(outcomes, mine, desk.senders)
            threading.Thread(target=work, daemon=True).start()
        for outcome, record in _note_all(fresh, outcomes, desk, seconds):
            tried.append(outcome)
            records.callback(record)
    return tried


def _claim_due(
    desk: OutboxDesk, only: Callable[[Delivery], bool], *, early: bool
) -> Iterator[Claimed]:
    now, why_moot = desk.clock.now(), desk.judge()
    for item in list(desk.state.query(OUTBOX)):
        is_due = parse_time(item["due_at"]) <= now or (early and not item["attempts"])
        if item["status"] != WAITING or not is_due:
            continue
        delivery = Delivery.from_json(item["delivery"])
        if not only(delivery):
            continue
        moot = why_moot(delivery)
        if moot:
            _drop(item, delivery, moot, desk)
            continue
        claimed = item | {
            "due_at": format_time(now + CLAIM),
            "attempts": int(item["attempts"]) + 1,
        }
        expected = {"due_at": item["due_at"], "attempts": item["attempts"]}
        if desk.state.replace(OUTBOX, item["sort"], claimed, expected=expected):
            yield claimed, delivery


def _by_recipient(deliveries: list[Delivery]) -> list[list[int]]:
    """The numbers of those for each recipient, as they were written: nobody reads the end first."""
    order = sorted(range(len(deliveries)), key=lambda it: deliveries[it].message.written_at)
    groups: dict[str, list[int]] = {}
    for number in order:
        groups.setdefault(deliveries[number].recipient, []).append(number)
    return list(groups.values())


def _attempts_into(
    outcomes: queue.Queue[tuple[int, Tried]], mine: list[tuple[int, Delivery]], senders: Senders
) -> Callable[[], None]:
    def work() -> None:
        for number, delivery in mine:
            outcomes.put((number, attempt(delivery, senders)))

    return work


def attempt(delivery: Delivery, senders: Senders) -> Tried:
    """Its ways one after the other, until one takes it."""
    why: list[str] = []
    again = False
    for way in delivery.ways:
        try:
            sender = senders.of(way.kind, way.name, drill=delivery.message.drill)
            receipt = sender.send(delivery.message, way.to)
        except LeewardError as error:
            why.append(f"{way.kind}: {error.message}")
            again = again or error.retryable
            continue
        return Tried(delivery, _shown(way), receipt, tuple(why))
    return Tried(delivery, why=tuple(why) or ("a person must tell them",), again=again)


def _note_all(
    claimed: list[Claimed],
    outcomes: queue.Queue[tuple[int, Tried]],
    desk: OutboxDesk,
    seconds: float,
) -> Iterator[tuple[Tried, Callable[[], None]]]:
    """What came of each, noted in the state, and what records it."""
    deadline, waiting = time.monotonic() + seconds, set(range(len(claimed)))
    while waiting:
        try:
            number, outcome = outcomes.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        waiting.discard(number)
        yield outcome, _note(claimed[number][0], outcome, desk)
    for number in sorted(waiting):
        slow = Tried(claimed[number][1], why=(f"no answer within {seconds:.0f} s",), again=True)
        yield slow, _note(claimed[number][0], slow, desk)


def _note(item: dict[str, Any], tried: Tried, desk: OutboxDesk) -> Callable[[], None]:
    return (_note_told if tried.told else _note_failure)(item, tried, desk)


def _note_told(item: dict[str, Any], tried: Tried, desk: OutboxDesk) -> Callable[[], None]:
    delivery, message = tried.delivery, tried.delivery.message
    body = {
        "what": message.what,
        "audience": message.audience,
        "recipient": delivery.recipient,
        "way": tried.way,
        "receipt": tried.receipt,
        "attempts": int(item["attempts"]),
        "failed_before": [*item["why"], *tried.why],
        "subject": message.subject,
        "text": message.text,
        "drill": message.drill,
    }
    at = format_time(desk.clock.now())
    desk.state.create(told_partition(message.incident), delivery.id, body | {"told_at": at})
    return partial(_record_told, item, delivery, desk)


def _record_told(item: dict[str, Any], delivery: Delivery, desk: OutboxDesk) -> None:
    kept = desk.state.get(told_partition(delivery.message.incident), delivery.id) or {}
    body = {name: value for name, value in kept.items() if name not in ("told_at", "sort")}
    _record(delivery, "told", body, desk)
    desk.state.remove(OUTBOX, item["sort"], expected={})


def _note_failure(item: dict[str, Any], tried: Tried, desk: OutboxDesk) -> Callable[[], None]:
    now, delivery = desk.clock.now(), tried.delivery
    attempts = int(item["attempts"])
    too_old = now - delivery.due_at > GIVES_UP_AFTER
    status = WAITING if tried.again and not too_old else GIVEN_UP
    changed = item | {
        "status": status,
        "due_at": format_time(now + wait_after(attempts)),
        "why": list(tried.why),
    }
    expected = {"due_at": item["due_at"], "attempts": item["attempts"]}
    desk.state.replace(OUTBOX, item["sort"], changed, expected=expected)
    if attempts > 1 and status != GIVEN_UP:
        return lambda: None
    body = {
        "what": delivery.message.what,
        "audience": delivery.message.audience,
        "recipient": delivery.recipient,
        "why": list(tried.why),
        "given_up": status == GIVEN_UP,
        "subject": delivery.message.subject,
        "text": delivery.message.text,
    }
    return partial(_record, delivery, "not-told", body, desk, about=status)


def wait_after(attempts: int) -> timedelta:
    """5 s, 10 s, 20 s, ... at most half an hour."""
    return min(FIRST_WAIT * (1 << min(attempts - 1, 20)), LONGEST_WAIT)


def _drop(item: dict[str, Any], delivery: Delivery, why: str, desk: OutboxDesk) -> None:
    body = {"recipient": delivery.recipient, "why": [why]}
    _record(delivery, "not-told", body, desk, about="moot")
    desk.state.remove(OUTBOX, item["sort"], expected={})


def told_of(incident: str, *, state: StateStore) -> list[dict[str, Any]]:
    """What was told of an incident, to whom, by which way, when."""
    return sorted(state.query(told_partition(incident)), key=lambda item: item["told_at"])


def audiences_told(incident: str, *, state: StateStore) -> frozenset[str]:
    """Who has heard of the incident, or will, even if it is over by then."""
    waiting = (it["delivery"] for it in undelivered(state, incident))
    will = [it["message"]["audience"] for it in waiting if not it["while_open"]]
    told = (item["audience"] for item in state.query(told_partition(incident)))
    return frozenset([*told, *will])


def undelivered(state: StateStore, incident: str = "") -> list[dict[str, Any]]:
    """What waits in the outbox, and what was given up; of all incidents, or of one."""
    return list(state.query(OUTBOX, f"{incident}#" if incident else ""))


def told_partition(incident: str) -> str:
    return f"told#{incident}"


def _sort(delivery: Delivery) -> str:
    return f"{delivery.message.incident}#{delivery.id}"


def _shown(way: Way) -> str:
    return f"{way.kind} {way.to}".strip()


def _record(
    delivery: Delivery, kind: str, body: dict[str, Any], desk: OutboxDesk, *, about: str = ""
) -> None:
    desk.records.append(
        people_stream(delivery.message.incident),
        kind,
        body,
        actor="leeward",
        key=f"{kind}/{delivery.id}/{about}",
    )
