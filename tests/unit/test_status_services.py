"""Which public services an incident concerns, what they are asked, what may be said of them."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalicelib.incidents.messages import Notice, deliveries_of, posts_of
from chalicelib.incidents.status.sources import update_of
from chalicelib.plan.model import Plan
from chalicelib.services.people.status_page import services_of, shown_of, shows_drills, targets_of
from leeward.packaging.status import status_globals, status_resources
from leeward.plan_file import load_plan
from leeward.status import example_page

PLANS = Path(__file__).parents[2] / "policies/plans"
GOLDEN = Path(__file__).parents[1] / "golden"
AT = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(PLANS / "nexus-studio.yaml").plan


@pytest.fixture(scope="module")
def artist() -> Plan:
    return load_plan(PLANS / "artist-tech.yaml").plan


def test_an_incident_concerns_what_it_is_about_restores_or_loses(plan: Plan, artist: Plan) -> None:
    def of(plan: Plan, name: str) -> tuple[str, ...]:
        return services_of(plan.scenarios[name], name, plan)

    assert of(plan, "database-corruption") == ("api",)
    assert of(plan, "regional-outage") == ("api", "assets")
    assert of(artist, "database-corruption") == ("application",)


def test_what_is_asked_is_what_has_a_health_address(plan: Plan) -> None:
    asked = {name: [it.address for it in them] for name, them in targets_of(plan).items()}
    assert asked == {
        "api": ["https://api.nexus-studio.io/health"],
        "assets": ["https://assets-recovery.nexus-studio.io/health"],
    }


def test_the_page_knows_where_it_is(plan: Plan, artist: Plan) -> None:
    assert shown_of(plan).address == "https://status.nexus-studio.io/"
    assert shown_of(artist).address == "https://status.artisttech.com/"
    assert not shows_drills(plan)


@pytest.mark.parametrize("name", ["index.html", "feed.atom"])
def test_the_example_is_the_golden_one(plan: Plan, name: str) -> None:
    """A change that is meant to show: `LEEWARD_WRITE_GOLDEN=1 pytest tests/unit -k golden`."""
    path, data = GOLDEN / f"status-{name}", example_page(plan, now=AT)[name]
    assert data == example_page(plan, now=AT)[name]
    if os.environ.get("LEEWARD_WRITE_GOLDEN"):
        path.write_bytes(data)
    assert data.decode() == path.read_text()


def notice(what: str, **facts: Any) -> Notice:
    return Notice("n", "inc-1", what, "SEV1", AT, AT, False, facts)


def test_words_of_those_inside_never_stand_on_the_page(artist: Plan) -> None:
    """Artist Tech's status page is one of its internal channels too."""
    public = ("Service disruption", "We know about it.")
    inside = ("SEV1: artist-db", "War room: https://zoom.example/j/1; leeward approve run-1 load")

    def on_page(what: str) -> list[str]:
        found = deliveries_of(notice(what), "internal", *inside, plan=artist, public=public)
        return [it.message.text for it in found if it.ways and it.ways[0].kind == "status-page"]

    for what in ("opened", "update", "recovered", "closed"):
        assert on_page(what) == ["We know about it."]
    for what in ("asked", "answered", "acknowledged", "failed"):
        assert on_page(what) == []
    told = deliveries_of(notice("asked"), "internal", *inside, plan=artist, public=public)
    assert [it.message.text for it in told if it.recipient == "slack"] == [inside[1]]


def test_a_communicators_words_go_to_the_page_alone_in_the_state_they_name(artist: Plan) -> None:
    said = notice("posted", text="We moved to <the> other site.", state="monitoring")
    [delivery] = posts_of(said, "Service disruption", plan=artist)
    assert [way.kind for way in delivery.ways] == ["status-page"]
    update = update_of(delivery.message, ("application",))
    assert (update.state, update.text) == ("monitoring", "We moved to <the> other site.")
    drill = replace(said, drill=True)
    assert posts_of(drill, "Service disruption", plan=artist)[0].message.drill


def test_readers_may_get_pages_and_nothing_that_they_are_made_from(plan: Plan) -> None:
    resources = status_resources(plan)
    statements = resources["StatusBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    [allowed] = [it for it in statements if it["Effect"] == "Allow"]
    assert allowed["Action"] == "s3:GetObject"
    given = {it["Fn::Sub"].removeprefix("${StatusBucket.Arn}/") for it in allowed["Resource"]}
    assert given == {"index.html", "history.html", "status.json", "feed.atom", "incidents/*"}
    assert "AlarmStatusPagePublishSilent" in resources


def test_a_plan_without_a_page_has_nothing_of_it(plan: Plan) -> None:
    data = plan.to_json()
    data.pop("status_page")
    data["communication"]["external"].pop("status-page")
    without = Plan.from_json(data)
    assert status_resources(without) == {}
    assert status_globals(without) == {}
