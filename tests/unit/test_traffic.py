"""When names may move, and when they have."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.adapters.traffic.switch_history import StoredSwitches
from chalicelib.adapters.traffic.switch_object import SwitchObject
from chalicelib.errors import BadInput, CheckFailed, NotReady, Refused, Tampered, Unavailable
from chalicelib.plan.components import NameRecord
from chalicelib.ports.traffic import Answer, Moved, Switch
from chalicelib.recover.sites.traffic import (
    Decision,
    Wish,
    apply_switch,
    decide_switch,
    expected_values,
    look,
    require_site,
    wait_for_site,
)
from tests.fakes import InMemoryObjectStore
from tests.fakes_records import SteppingClock

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
RECORD = NameRecord(
    name="api.example.org", answers={"main": ("192.0.2.1",), "spare": ("192.0.2.2",)}
)
LIMIT = 30.0


def switched(minutes_ago: float, came_from: str, to: str, run_id: str = "run-before") -> Switch:
    return Switch(NOW - timedelta(minutes=minutes_ago), came_from, to, run_id, "names")


def decide(wish: Wish, *past: Switch, state: str = "main", stays_minutes: int = 30) -> Decision:
    stays_for = timedelta(minutes=stays_minutes)
    return decide_switch(wish, past, state=state, home="main", stays_for=stays_for, now=NOW)


def test_a_first_failover_goes_ahead() -> None:
    decided = decide(Wish("spare", "run-1", "names"))

    assert decided.acts
    assert decided.switch == Switch(NOW, "main", "spare", "run-1", "names")


def test_names_that_are_there_already_are_left_alone() -> None:
    decided = decide(Wish("spare", "run-1", "names"), state="spare")

    assert not decided.acts


def test_nobody_but_a_person_sends_names_home() -> None:
    days_ago = switched(3 * 24 * 60, "main", "spare")

    with pytest.raises(Refused) as refused:
        decide(Wish("main", "run-1", "names"), days_ago, state="spare")

    assert refused.value.instance_code == "failback-needs-a-person"
    assert decide(Wish("main", "run-1", "names", "it is well"), days_ago, state="spare").acts


@pytest.mark.parametrize(("minutes_ago", "goes"), [(0.5, False), (29.9, False), (30, True)])
def test_what_was_switched_lately_stays(minutes_ago: float, goes: bool) -> None:
    """Failed over, sent home by a person, and the alarm flaps again."""
    past = (switched(60, "main", "spare"), switched(minutes_ago, "spare", "main"))

    if goes:
        assert decide(Wish("spare", "run-2", "names"), *past).acts
        return
    with pytest.raises(Refused) as refused:
        decide(Wish("spare", "run-2", "names"), *past)
    assert refused.value.instance_code == "switched-lately"
    assert decide(Wish("spare", "run-2", "names", "it really burns"), *past).acts


def test_a_retry_of_the_same_step_is_no_flapping() -> None:
    began = switched(1, "main", "spare", run_id="run-1")

    decided = decide(Wish("spare", "run-1", "names"), began, state="main")

    assert decided.again
    assert decided.acts
    assert decided.switch.at == began.at  # the clock of the outage does not start again


class Recorder:
    """A driver that remembers, and refuses or dies when told to."""

    resolves = True

    def __init__(self, error: Exception | None = None) -> None:
        self.switched: list[str] = []
        self.error = error

    def state(self) -> str:
        return self.switched[-1] if self.switched else "main"

    def switch(self, switch: Switch) -> Moved:
        if self.error:
            raise self.error
        self.switched.append(switch.to)
        return Moved("moved", "move back")


def test_a_refused_switch_does_not_count_as_one() -> None:
    switches = StoredSwitches(InMemoryObjectStore(), "names")
    decided = decide(Wish("spare", "run-1", "names"))

    with pytest.raises(Refused):
        apply_switch(decided, Recorder(Refused("a safety rule")), switches)

    assert switches.past() == []


def test_a_switch_that_may_have_been_done_counts() -> None:
    switches = StoredSwitches(InMemoryObjectStore(), "names")
    decided = decide(Wish("spare", "run-1", "names"))

    with pytest.raises(Unavailable):
        apply_switch(decided, Recorder(Unavailable("no answer")), switches)

    assert [it.run_id for it in switches.past()] == ["run-1"]


def test_every_death_and_its_retry_end_in_one_switch_and_one_entry() -> None:
    """Dead after the entry, or after the act: the next attempt finds what is left to do."""
    for dies_after in ("entry", "act"):
        store, driver = InMemoryObjectStore(), Recorder()
        switches = StoredSwitches(store, "names")
        first = decide(Wish("spare", "run-1", "names"))
        switches.add(first.switch)
        if dies_after == "act":
            driver.switch(first.switch)

        again = decide(Wish("spare", "run-1", "names"), *switches.past(), state=driver.state())
        apply_switch(again, driver, switches)

        assert driver.switched == ["spare"], dies_after
        assert switches.past() == [first.switch]


def test_the_history_is_of_one_component_and_in_order() -> None:
    store = InMemoryObjectStore()
    mine = StoredSwitches(store, "names")
    StoredSwitches(store, "names-drill").add(switched(1, "main", "spare"))
    for switch in (switched(5, "spare", "main"), switched(60, "main", "spare")):
        mine.add(switch)
        mine.add(switch)

    assert [it.to for it in mine.past()] == ["spare", "main"]


def test_a_history_that_cannot_be_read_is_not_an_empty_one() -> None:
    store = InMemoryObjectStore()
    store.put("history/names/20261122T000000.000000Z,run,step.json", b"{}")

    with pytest.raises(Tampered):
        StoredSwitches(store, "names").past()


def test_a_switch_from_a_laptop_counts_though_it_wrote_one_object() -> None:
    store = InMemoryObjectStore()
    by_hand = switched(5, "main", "spare")
    SwitchObject(store, "names", home="main", away="spare").switch(by_hand)

    past = StoredSwitches(store, "names").past()

    assert past == [by_hand]
    StoredSwitches(store, "names").add(by_hand)
    assert StoredSwitches(store, "names").past() == [by_hand]


def test_a_switch_object_without_words_is_no_history() -> None:
    store = InMemoryObjectStore()
    store.put("switch/names", b"")

    assert StoredSwitches(store, "names").past() == []
    assert SwitchObject(store, "names", home="main", away="spare").state() == "spare"


def test_the_switch_object_is_there_exactly_while_names_are_away() -> None:
    store = InMemoryObjectStore()
    driver = SwitchObject(store, "names", home="main", away="spare")
    assert driver.state() == "main"

    driver.switch(switched(0, "main", "spare"))
    driver.switch(switched(0, "main", "spare"))
    assert driver.state() == "spare"
    assert [it.key for it in store.list()] == ["switch/names"]

    driver.switch(switched(0, "spare", "main"))
    driver.switch(switched(0, "spare", "main"))
    assert driver.state() == "main"
    assert list(store.list()) == []


def test_a_switch_object_knows_two_sites() -> None:
    driver = SwitchObject(InMemoryObjectStore(), "names", home="main", away="spare")

    with pytest.raises(BadInput):
        driver.switch(switched(0, "main", "third"))


class Servers:
    """Name servers that answer one round after another; the last round for ever."""

    def __init__(self, *rounds: list[Answer]) -> None:
        self._rounds: Iterator[list[Answer]] = iter(rounds)
        self._last: list[Answer] = []
        self.asked = 0

    def ask(self, zone: str, name: str, kind: str) -> list[Answer]:
        self.asked += 1
        self._last = next(self._rounds, self._last)
        return self._last


def says(*values: str) -> list[Answer]:
    """One server for each value."""
    return [Answer(f"ns{i}", (value,), ttl=60) for i, value in enumerate(values)]


MAIN, SPARE = "192.0.2.1", "192.0.2.2"


def wait(servers: Servers) -> datetime:
    clock = SteppingClock(NOW)
    seen = wait_for_site(
        servers, "example.org", [RECORD], "spare", clock=clock, limit_seconds=LIMIT
    )
    return seen.at


def test_names_have_moved_when_every_server_says_so_twice() -> None:
    servers = Servers(says(MAIN, MAIN), says(SPARE, MAIN), says(SPARE, SPARE))

    wait(servers)

    assert servers.asked == 4


def test_an_answer_that_flaps_is_not_yet_one() -> None:
    flapping = [says(SPARE), says(MAIN)] * 3
    steady = [says(SPARE), says(SPARE)]
    servers = Servers(*flapping, *steady)

    wait(servers)

    assert servers.asked == 8


@pytest.mark.parametrize(
    "stuck",
    [
        says(MAIN),
        says(SPARE, MAIN),
        [Answer("ns1", (SPARE, MAIN), ttl=60)],
        [Answer("ns1")],
        [Answer("ns1", problem="Timeout"), Answer("ns2", (SPARE,), ttl=60)],
        [Answer("ns1", problem="REFUSED")],
    ],
    ids=["old", "half", "both", "nothing", "half-silent", "refused"],
)
def test_what_is_not_the_answer_is_never_green(stuck: list[Answer]) -> None:
    with pytest.raises(Unavailable) as error:
        wait(Servers(stuck))

    assert error.value.instance_code == "names-not-moved"
    assert "api.example.org" in error.value.message


def test_one_silent_server_of_four_does_not_hold_names_up() -> None:
    wait(Servers([*says(SPARE, SPARE, SPARE), Answer("ns4", problem="Timeout")]))


def test_verifying_says_which_name_leads_where() -> None:
    seen = look(Servers(says(MAIN)), "example.org", [RECORD], "spare", clock=SteppingClock(NOW))

    with pytest.raises(CheckFailed, match=r"api.example.org: expected 192.0.2.2, ns0 answers"):
        require_site(seen, "spare")


def test_a_site_without_an_answer_cannot_be_waited_for() -> None:
    with pytest.raises(NotReady) as error:
        expected_values(RECORD, "third")

    assert error.value.instance_code == "no-answer-for-site"


def test_values_are_compared_however_they_are_written() -> None:
    record = NameRecord(
        name="a", type="AAAA", answers={"main": ("2001:DB8:0:0::1",), "spare": ("::2",)}
    )
    alias = NameRecord(name="a", type="CNAME", answers={"main": ("LB.Example.org.",)})

    assert expected_values(record, "main") == ("2001:db8::1",)
    assert expected_values(alias, "main") == ("lb.example.org",)
