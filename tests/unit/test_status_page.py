"""The status page says what was seen and said, and nothing greener."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import LeewardError, Unavailable
from chalicelib.incidents.status.desk import StatusDesk
from chalicelib.incidents.status.page import RANK, Page, Shown, make_page
from chalicelib.incidents.status.render import PUBLIC_KEYS, render_site
from chalicelib.incidents.status.sources import (
    BAD,
    GOOD,
    MINUTES,
    UNSEEN,
    Day,
    Maintenance,
    Sources,
    Update,
    key_of_day,
    key_of_maintenance,
    key_of_update,
    minute_of,
    note_look,
)
from chalicelib.plan.records import parse_time
from tests.fakes_status import InMemoryStatusStore

NOW = datetime(2026, 11, 22, 8, 45, 20, tzinfo=UTC)
SHOWN = Shown("nexus", "Nexus Studio", {"api": "API", "web": "Site"}, "https://status.example.org/")
INCIDENT = "inc-20261122T080000Z-db"
HARMLESS = "<script>alert('x')</script>"


def seen(*looks: tuple[int, dict[str, bool]]) -> tuple[Day, ...]:
    """Looks so many minutes before NOW, on one day."""
    day = None
    for before, answers in sorted(looks, key=lambda it: -it[0]):
        day = note_look(day, answers, now=NOW - timedelta(minutes=before))
    return (day,) if day else ()


def said(
    minutes: int, state: str, *, incident: str = INCIDENT, severity: str = "SEV1", **more: Any
) -> Update:
    fields = {"title": "Service disruption", "text": f"We are {state}.", "services": ("api",)}
    identity = f"{incident}-{minutes}-{state}"
    at = NOW - timedelta(minutes=minutes)
    return Update(identity, incident, at, state, severity, **(fields | more))


def page(*updates: Update, days: tuple[Day, ...] = (), work: tuple[Maintenance, ...] = ()) -> Page:
    return make_page(SHOWN, Sources(updates, days, work))


def states(made: Page) -> dict[str, str]:
    return {it.name: it.state for it in made.services} | {"": made.state}


BOTH = {"api": True, "web": True}


def test_what_nobody_looked_at_is_not_known_and_never_working() -> None:
    assert states(page()) == {"api": "unknown", "web": "unknown", "": "unknown"}
    assert states(page(days=seen((0, {"web": True}))))[""] == "unknown"
    assert page().confirmed_at is None
    assert b"Nobody has looked at the services yet" in render_site(page())["index.html"][0]


def test_a_service_is_as_its_last_looks_were() -> None:
    good, bad = {"api": True, "web": True}, {"api": False, "web": True}
    assert states(page(days=seen((0, good))))["api"] == "operational"
    assert states(page(days=seen((1, good), (0, bad))))["api"] == "degraded"
    assert states(page(days=seen((2, bad), (1, bad), (0, bad))))["api"] == "disrupted"
    assert states(page(days=seen((2, bad), (1, bad), (0, good))))["api"] == "degraded"
    recovered = seen((3, bad), (2, good), (1, good), (0, good))
    assert states(page(days=recovered)) == {"api": "operational", "web": "operational",
                                            "": "operational"}  # fmt: skip


def test_a_look_that_is_old_counts_no_more_when_something_is_said_later() -> None:
    """Whoever looks has died; whoever tells has not."""
    old = seen((30, BOTH))
    assert states(page(days=old))["web"] == "operational"
    later = page(said(0, "identified", services=()), days=old)
    assert states(later)["web"] == "unknown"
    assert later.confirmed_at == NOW - timedelta(minutes=30)


def test_the_page_says_when_it_was_confirmed_and_until_when_that_holds() -> None:
    files = render_site(page(days=seen((0, BOTH))))
    told = json.loads(files["status.json"][0])
    confirmed, stale = parse_time(told["confirmed_at"]), parse_time(told["stale_after"])
    assert (confirmed, stale) == (NOW, NOW + timedelta(minutes=5))
    front = files["index.html"][0].decode()
    assert "All services were working" in front, "the past tense: it is of the last look"
    assert ">2026-11-22 08:45 UTC</time>" in front
    assert f'data-stale-after="{told["stale_after"]}"' in front


def test_an_open_incident_is_worse_than_a_good_answer_and_over_when_it_is_resolved() -> None:
    days = seen((1, BOTH), (0, BOTH))
    assert states(page(said(20, "investigating"), days=days))["api"] == "disrupted"
    assert states(page(said(20, "identified", severity="SEV3"), days=days))["api"] == "degraded"
    watched = page(said(20, "investigating"), said(10, "monitoring"), days=days)
    assert states(watched) == {"api": "degraded", "web": "operational", "": "degraded"}
    over = page(said(20, "investigating"), said(5, "resolved"), days=days)
    assert states(over)[""] == "operational"
    assert [it.state for it in over.past] == ["resolved"]
    [today] = [it for it in over.services[0].days if it.date == "2026-11-22"]
    assert (today.level, today.incidents) == ("some", 1)


def test_an_incident_of_no_service_is_no_good_news_either() -> None:
    made = page(said(20, "investigating", services=()), days=seen((0, BOTH)))
    assert states(made) == {"api": "operational", "web": "operational", "": "disrupted"}


def work(begin: int, end: int, **more: Any) -> Maintenance:
    """From and until so many minutes after NOW."""
    return Maintenance(
        id=f"work-{begin}", services=("api",), from_at=NOW + timedelta(minutes=begin),
        until_at=NOW + timedelta(minutes=end), says="A new disk", added_at=NOW, added_by="cto",
        **more,
    )  # fmt: skip


def test_planned_work_explains_a_failure_while_it_lasts_and_no_longer() -> None:
    down = seen((1, {"api": False}), (0, {"api": False, "web": True}))
    assert states(page(days=down, work=(work(-5, 5),)))["api"] == "maintenance"
    assert states(page(days=down, work=(work(-9, -1),)))["api"] == "disrupted"
    assert states(page(days=down, work=(work(-5, 5, cancelled_at=NOW),)))["api"] == "disrupted"
    unseen = seen((0, {"web": True}))
    assert states(page(days=unseen, work=(work(-5, 5),)))["api"] == "unknown"
    shown = page(days=down, work=(work(5, 9), work(-9, -1), work(-5, 5))).work
    assert [it.state for it in shown] == ["done", "in progress", "scheduled"]


def test_availability_counts_looks_alone_and_is_never_rounded_up() -> None:
    letters = GOOD * 500 + UNSEEN * 25 + "d"
    day = Day("2026-11-22", NOW, {"api": letters.ljust(MINUTES, UNSEEN), "web": UNSEEN * MINUTES})
    api, web = page(days=(day,)).services
    assert api.uptime == 500 / 501
    assert api.seen == pytest.approx(501 / 526)
    assert web.uptime is None
    year = Day("2026-11-21", NOW, {"api": "d" + GOOD * (MINUTES - 1)})
    almost = tuple(
        Day(f"2026-{month:02}-{on:02}", NOW, {"api": GOOD * MINUTES})
        for month in (9, 10) for on in range(1, 31)
    )  # fmt: skip
    front = render_site(page(days=(*almost, year, *seen((0, BOTH)))))["index.html"][0].decode()
    assert "Available 99.998 % of the time" in front
    assert "100.000 %" in front, "the other service never failed"


def test_a_day_that_was_mostly_not_looked_at_is_not_green() -> None:
    few = Day("2026-11-21", NOW, {"api": (GOOD * 600).ljust(MINUTES, UNSEEN)})
    many = Day("2026-11-20", NOW, {"api": (GOOD * 800).ljust(MINUTES, UNSEEN)})
    shown = {it.date: it.level for it in page(days=(few, many, *seen((0, BOTH)))).services[0].days}
    assert (shown["2026-11-21"], shown["2026-11-20"]) == ("unknown", "good")
    assert shown["2026-11-19"] == "unknown"
    assert len(shown) == 90


def test_of_two_looks_in_one_minute_the_worse_one_stays() -> None:
    for first, second in ((True, False), (False, True)):
        day = note_look(None, {"api": first}, now=NOW)
        again = note_look(day, {"api": second}, now=NOW + timedelta(seconds=30))
        assert again.minutes["api"].count("d") == 1
        assert again.minutes["api"].count("u") == 0


words = st.text(max_size=60).map(lambda it: f"{it}{HARMLESS}\x0b\u202e") | st.text(max_size=60)
updates = st.builds(
    Update,
    id=st.uuids().map(str),
    incident=st.sampled_from([INCIDENT, "inc-20261121T000000Z-web", "inc-20261120T000000Z-x"]),
    said_at=st.integers(0, 40000).map(lambda it: NOW - timedelta(minutes=it)),
    state=st.sampled_from(["investigating", "identified", "monitoring", "resolved"]),
    severity=st.sampled_from(["SEV1", "SEV2", "SEV3", "SEV4"]),
    title=words,
    text=words,
    services=st.lists(st.sampled_from(["api", "web", "gone"]), unique=True).map(tuple),
)
# Hypothesis finds bigger worlds elsewhere; here each example renders several pages.
FEW = settings(max_examples=40, deadline=None)


class Scripts(HTMLParser):
    """What a browser would run, and the text that it would show."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.handlers: list[str] = []
        self.inside = ""
        self.feed(text.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.inside = tag

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)
        self.inside = ""


@FEW
@given(st.lists(updates, max_size=5), words)
def test_no_word_of_anybody_becomes_markup(made: list[Update], name: str) -> None:
    shown = Shown("plan", name, {"api": name}, "https://status.example.org/")
    sources = Sources(tuple(made), seen((0, {"api": True})), ())
    files = render_site(make_page(shown, sources))
    for key, (data, media_type) in files.items():
        if not key.endswith(".html"):
            continue
        assert media_type.startswith("text/html")
        found = Scripts(data)
        assert not any("alert" in it for it in found.scripts), key
        assert found.handlers == []
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", data.decode())
    json.loads(files["status.json"][0])
    ElementTree.fromstring(files["feed.atom"][0])


@FEW
@given(st.lists(updates, max_size=6), st.randoms())
def test_the_order_of_reading_changes_nothing(made: list[Update], random: Any) -> None:
    days = seen((0, BOTH))
    shuffled = [*made, *made]
    random.shuffle(shuffled)
    first, second = (render_site(page(*it, days=days)) for it in (made, shuffled))
    assert first == second


@FEW
@given(st.lists(updates, max_size=6))
def test_nothing_is_better_than_the_worst_that_is_known(made: list[Update]) -> None:
    shown = page(*made, days=seen((0, BOTH)))
    worst = min((it.state for it in shown.services), key=RANK.index)
    assert RANK.index(shown.state) <= RANK.index(worst)
    if shown.open:
        assert shown.state in ("disrupted", "degraded")


def note(store: InMemoryStatusStore, update: Update, *, drill: bool = False) -> None:
    store.note(key_of_update(update, drill=drill), json.dumps(update.to_json()).encode())


def test_two_writers_reach_the_same_page_whoever_is_last() -> None:
    """The second one is done between the first one's reading and its last writing."""
    store = InMemoryStatusStore()
    primary, standby = StatusDesk(store, SHOWN), StatusDesk(store, SHOWN)
    primary.look(BOTH, now=NOW)
    late = said(1, "identified", text="It is the disk.")

    def meanwhile(key: str) -> None:
        if key == "index.html" and key_of_update(late, drill=False) not in store.objects:
            note(store, late)
            standby.publish()

    note(store, said(5, "investigating"))
    store.before_show = meanwhile
    primary.publish()
    after = store.pages()
    assert b"It is the disk." in after["index.html"]
    standby.publish()
    assert store.pages() == after
    alone = render_site(make_page(SHOWN, StatusDesk(store, SHOWN).sources()))
    assert after == {key: data for key, (data, _) in alone.items()}


def test_a_look_takes_in_another_one_that_was_faster() -> None:
    store, day = InMemoryStatusStore(), key_of_day(NOW)
    slow, fast = StatusDesk(store, SHOWN), StatusDesk(store, SHOWN)
    slow.look(BOTH, now=NOW - timedelta(minutes=2))

    def meanwhile(key: str) -> None:
        store.before_replace = lambda key: None
        fast.look({"web": False}, now=NOW)

    store.before_replace = meanwhile
    slow.look({"api": True}, now=NOW)
    seen_now = {
        service: letters[minute_of(NOW)]
        for service, letters in json.loads(store.objects[day])["minutes"].items()
    }
    assert seen_now == {"api": GOOD, "web": BAD}
    store.before_replace = lambda key: store.note(key, store.objects[key] + b" ")
    with pytest.raises(Unavailable) as late:
        slow.look(BOTH, now=NOW)
    assert late.value.instance_code == "status-page-moving"


@pytest.mark.parametrize("dies_at", range(5))
def test_a_writer_that_died_is_healed_by_the_next_look(dies_at: int) -> None:
    store = InMemoryStatusStore()
    desk = StatusDesk(store, SHOWN)
    left = [dies_at]

    def die(key: str) -> None:
        if left[0] == 0:
            raise Unavailable("died", hint="look")
        left[0] -= 1

    desk.look(BOTH, now=NOW)
    desk.publish()
    note(store, said(5, "investigating"))
    store.before_show = die
    if dies_at < 4:
        with pytest.raises(LeewardError):
            desk.publish()
        assert b"We are investigating" not in store.objects["index.html"]
    store.before_show = lambda key: None
    StatusDesk(store, SHOWN).publish()
    assert b"We are investigating" in store.objects["index.html"]


def test_what_the_front_page_leads_to_is_written_before_it_and_what_is_right_not_again() -> None:
    store = InMemoryStatusStore()
    desk = StatusDesk(store, SHOWN)
    note(store, said(5, "investigating"))
    desk.publish()
    assert store.shown[-1] == "index.html"
    assert store.shown[0] == f"incidents/{INCIDENT}.html"
    before = len(store.shown)
    desk.publish()
    assert len(store.shown) == before


def test_drills_are_on_a_page_of_their_own_that_nobody_outside_can_read() -> None:
    store = InMemoryStatusStore()
    desk = StatusDesk(store, SHOWN)
    desk.look(BOTH, now=NOW)
    note(store, said(5, "investigating", text="DRILL: all is lost"), drill=True)
    desk.publish()
    assert all(b"DRILL" not in data for data in store.pages().values())
    desk.publish(drill=True)
    assert b"DRILL. Nothing is wrong" in store.objects["drill/index.html"]
    assert json.loads(store.objects["drill/status.json"])["drill"] is True
    for key in (*store.keys("drill"), *store.keys("observed"), *store.keys("said")):
        assert not any(key == it or key.startswith(it.rstrip("*") + "/") for it in PUBLIC_KEYS)


def test_work_that_was_called_off_is_kept_beside_and_shown_as_such() -> None:
    store = InMemoryStatusStore()
    planned = work(5, 9)
    store.note(key_of_maintenance(planned.id), json.dumps(planned.to_json()).encode())
    desk = StatusDesk(store, SHOWN)
    desk.look(BOTH, now=NOW)
    assert [it.state for it in desk.publish().work] == ["scheduled"]
    ended = {"cancelled_at": "2026-11-22T08:44:00Z", "by": "cto"}
    store.note(f"maintenance/{planned.id}.cancelled.json", json.dumps(ended).encode())
    assert [it.state for it in desk.publish().work] == ["cancelled"]


ATOM = "{http://www.w3.org/2005/Atom}"


def test_the_feed_has_what_rfc_4287_demands_and_stays_the_same() -> None:
    made = page(said(20, "investigating"), said(5, "resolved"), days=seen((0, BOTH)))
    feed = ElementTree.fromstring(render_site(made)["feed.atom"][0])
    entries = feed.findall(f"{ATOM}entry")
    for element in (feed, *entries):
        for name in ("id", "title", "updated"):
            assert len(element.findall(f"{ATOM}{name}")) == 1
        assert element.findtext(f"{ATOM}id", "").startswith("urn:uuid:")
        parse_time(element.findtext(f"{ATOM}updated", ""))
    assert feed.find(f"{ATOM}author/{ATOM}name") is not None
    assert [it.get("rel") for it in feed.findall(f"{ATOM}link")] == ["self", "alternate"]
    assert [it.findtext(f"{ATOM}content") for it in entries] == [
        "We are resolved.", "We are investigating.",
    ]  # fmt: skip
    assert len({it.findtext(f"{ATOM}id") for it in entries}) == 2
    assert entries[0].find(f"{ATOM}link").get("href") == (  # type: ignore[union-attr]
        f"https://status.example.org/incidents/{INCIDENT}.html"
    )
    later = page(said(20, "investigating"), said(5, "resolved"), days=seen((1, BOTH), (0, BOTH)))
    assert render_site(later)["feed.atom"] == render_site(made)["feed.atom"]


def test_a_page_needs_nothing_but_itself() -> None:
    made = page(said(5, "investigating"), days=seen((0, BOTH)), work=(work(1, 2),))
    for key, (data, _) in render_site(made).items():
        if key.endswith(".html"):
            text = data.decode()
            assert "default-src 'none'" in text
            assert not re.search(r"<(img|iframe|object|script\s+src)", text)
            assert "stylesheet" not in text
            assert not re.findall(r'(?:src|href)="https?:', text)
