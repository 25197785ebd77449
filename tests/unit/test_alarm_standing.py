"""An alarm that starts nothing: told once, each day that it lasts, and at its end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.incidents.alarms import (
    OVER,
    QUIET,
    RAISED,
    Standing,
    alarm_deliveries,
    decide_standing,
)
from chalicelib.ports.alarms import Alarm
from leeward.plan_file import load_plan
from tests.scenarios.drills import PLAN

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
BEFORE = NOON - DAY
SILENT = Alarm(
    "nexus-db-wal-silent",
    "nexus-db: no WAL was fetched",
    "Threshold Crossed: 1 of [missing] breach 1",
    NOON,
    own=True,
)


def test_one_that_lasts_is_told_once_a_day() -> None:
    standing, what = decide_standing(SILENT, None, now=NOON, first_look=BEFORE)
    assert (standing, what) == (Standing(SILENT, 1, NOON), RAISED)
    told = []
    for hours in range(1, 60):
        standing, what = decide_standing(
            SILENT, standing, now=NOON + timedelta(hours=hours), first_look=BEFORE
        )
        told += [hours] if what else []
    assert told == [24, 48]


def test_nobody_looked_for_days_and_it_is_told_once() -> None:
    standing, what = decide_standing(
        SILENT, Standing(SILENT, 1, NOON), now=NOON + 3.5 * DAY, first_look=BEFORE
    )
    assert standing is not None
    assert (standing.told, what) == (4, RAISED)


def test_one_that_comes_and_goes_is_one() -> None:
    standing, _ = decide_standing(SILENT, None, now=NOON, first_look=BEFORE)
    at = NOON + QUIET - timedelta(seconds=1)
    assert decide_standing(None, standing, now=at, first_look=BEFORE) == (standing, "")
    later = Alarm(SILENT.name, SILENT.description, "", at, own=True)
    again, what = decide_standing(later, standing, now=at, first_look=BEFORE)
    assert what == ""
    assert again is not None
    assert again.alarm.raised_at == NOON, "it is the same one"
    assert decide_standing(None, again, now=at + QUIET, first_look=BEFORE) == (None, OVER)
    assert decide_standing(None, None, now=at, first_look=BEFORE) == (None, "")


def test_what_never_ran_since_the_deployment_is_told_a_day_later() -> None:
    first = NOON - timedelta(minutes=10)
    standing, what = decide_standing(SILENT, None, now=NOON, first_look=first)
    assert (standing, what) == (Standing(SILENT, 1, NOON, heard=False), "")
    assert decide_standing(None, standing, now=NOON + QUIET, first_look=first) == (None, ""), (
        "nobody knew of it"
    )
    later, what = decide_standing(SILENT, standing, now=NOON + DAY, first_look=first)
    assert what == RAISED
    assert decide_standing(None, later, now=NOON + 2 * DAY, first_look=first) == (None, OVER)
    failing = replace(SILENT, name="nexus-db-checks-unable")
    assert decide_standing(failing, None, now=NOON, first_look=first)[1] == RAISED


def test_what_is_kept_comes_back_as_it_was() -> None:
    standing = Standing(SILENT, 2, NOON + DAY)
    assert Standing.from_json(standing.to_json()) == standing


def test_words_say_what_since_when_and_what_cloudwatch_said() -> None:
    plan = load_plan(PLAN).plan
    found = alarm_deliveries(Standing(SILENT, 1, NOON), RAISED, plan=plan, at=NOON)
    by_kind = {way.kind: it.message for it in found for way in it.ways}
    assert {"pagerduty", "slack", "email"} <= by_kind.keys()
    message = by_kind["slack"]
    assert message.subject == "Raised: nexus-db-wal-silent"
    assert message.text.splitlines() == [
        "nexus-db: no WAL was fetched.",
        "It was raised 2026-11-22 12:00 UTC.",
        "CloudWatch: Threshold Crossed: 1 of [missing] breach 1",
        "No scenario starts by it: somebody must look.",
    ]
    assert (message.severity, message.incident) == ("SEV2", "alarm-nexus-db-wal-silent")
    still = alarm_deliveries(Standing(SILENT, 3, NOON), RAISED, plan=plan, at=NOON + 2 * DAY)
    assert still[0].message.subject == "Still raised: nexus-db-wal-silent"
    assert "2 days ago" in still[0].message.text
    over = alarm_deliveries(Standing(SILENT, 3, NOON), OVER, plan=plan, at=NOON + 2 * DAY)
    assert over[0].message.subject == "Over: nexus-db-wal-silent"
    ids = {it.id for messages in (found, still, over) for it in messages}
    assert len(ids) == len(found) * 3, "none is taken for another"
    again = alarm_deliveries(Standing(SILENT, 1, NOON), RAISED, plan=plan, at=NOON + DAY)
    assert {it.id for it in again} == {it.id for it in found}, "the same, told again after a crash"


@pytest.mark.parametrize(
    "name", ["nexus-db-copy-tertiary-lag-warning", "database-corruption-run-failed"]
)
def test_nobody_is_woken_for_a_warning_or_for_what_its_incident_calls_for(name: str) -> None:
    plan = load_plan(PLAN).plan
    lag = Alarm(name, "late", "", NOON, own=True)
    found = alarm_deliveries(Standing(lag, 1, NOON), RAISED, plan=plan, at=NOON)
    assert found
    assert "pagerduty" not in {way.kind for it in found for way in it.ways}
