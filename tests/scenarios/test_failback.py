"""The way back after a failover by the deployed package, from a region that came back old.

Refused while the region fails or flaps, while the failover is young, when its window is over, and
when everything is home; in between it brings every row home, and keeps what the region committed
and nobody else had. A second loss right after it is a person's to declare, and is recovered too.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.plan.records import EvidenceRecord, format_time, parse_time
from chalicelib.recover.sites.failback import EARLY
from leeward.commands.drill import load_runnable
from leeward.local.cloud import PRIMARY_REGION
from leeward.local.drill import DrillOptions
from leeward.local.stages.failback import FailbackDrill
from tests.scenarios.drills import PLAN
from tests.scenarios.striker import Striker, undisturbed
from tests.survived import survived

SCENARIO = "failback"
FLAP_SECONDS = 3.0


class Returning(FailbackDrill):
    """Whose person names another window when asked about the rows that were set aside."""

    another = ""

    def answer(self, asked: EvidenceRecord) -> None:
        if asked.step != "decide":
            super().answer(asked)
            return
        kept = self.state().get(f"run#{asked.run_id}", f"question#do#{asked.step}")
        assert kept
        begins = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
        self.another = window(begins)
        output = {"found": "left set aside", "answer": self.another, "by": "technical-lead"}
        self.cloud.client("stepfunctions", self.region).send_task_success(
            taskToken=kept["token"], output=json.dumps(output)
        )

    def flap(self) -> None:
        """The database at home is away for a moment, in the middle of the first look."""
        time.sleep(0.7)
        self.home.stop()
        time.sleep(FLAP_SECONDS)
        self.home.resume()


def window(begins: datetime, lasts: timedelta = timedelta(hours=1)) -> str:
    return f"{format_time(begins)}/{format_time(begins + lasts)}"


@pytest.fixture(scope="module")
def striker() -> Striker:
    return Striker(active=False)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, striker: Striker) -> Iterator[Returning]:
    plan, stage = load_runnable(PLAN, SCENARIO)
    assert stage is FailbackDrill
    out = tmp_path_factory.mktemp("failback")
    options = DrillOptions(SCENARIO, "", "region-refuses", out, projects=300, rate=30)
    made = striker.drill = Returning(plan, options, striker.hear)
    with ExitStack() as stack:
        made.set_stage(stack)
        made.prepare()
        made.lose()
        striker.active = True
        made.take_over()
        striker.active = False
        yield made


def tried(
    here: Returning, reason: str, moment: str | None = None
) -> tuple[str, list[EvidenceRecord]]:
    """The outcome of a failback, and the records of its run."""
    incident = here.declare(reason, moment=moment)
    score = here.follow(incident)
    assert score.outcome is not None
    return score.outcome, [it for it in here.records.read(incident) if it.run_id == score.run_id]


def refusal(here: Returning, reason: str, moment: str | None = None) -> str:
    """Why it was refused, by its code; nothing was changed."""
    before = here.led_to(), here.clusters.of("nexus-api-dr").pods()
    outcome, records = tried(here, reason, moment)
    assert outcome == "failed"
    assert {it.step for it in records if it.kind == "step-finished"} <= {"look"}
    assert (here.led_to(), here.clusters.of("nexus-api-dr").pods()) == before
    [failed] = [it.body for it in records if it.kind == "step-failed"]
    assert failed["hint"]
    return f"{failed['code']}"


def test_a_region_that_still_fails_is_not_gone_back_to(here: Returning) -> None:
    assert refusal(here, "early: too early") == "primary-still-failing"


def test_a_failover_is_not_taken_back_at_once(here: Returning) -> None:
    here.come_back()
    assert refusal(here, "it is back, is it not") == "failed-over-lately"


def test_a_window_that_is_over_is_refused(here: Returning) -> None:
    over = window(datetime.now(UTC) - timedelta(hours=2))
    assert refusal(here, "early: too late", over) == "window-over"


def test_a_region_that_flaps_while_it_is_looked_at_is_not_gone_back_to(
    here: Returning, record_property: Callable[[str, object], None]
) -> None:
    """Healthy, unhealthy, healthy: all within one look."""
    flapping = threading.Thread(target=here.flap)
    flapping.start()
    try:
        assert refusal(here, "early: it is back") == "primary-still-failing"
    finally:
        flapping.join()
    record_property("survived", survived("nexus-studio", SCENARIO, "flapping", 1))


def test_everything_goes_home_in_its_window_though_workers_die(
    here: Returning, striker: Striker, record_property: Callable[[str, object], None]
) -> None:
    """The worker of each step once; and nothing is lost."""
    old = here.home_database()
    begins = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=15)
    striker.active = True
    incident = here.declare(f"{EARLY} mended", moment=window(begins))
    score = here.follow(incident)
    striker.active = False
    records = [it for it in here.records.read(incident) if it.run_id == score.run_id]
    for one in (here.failover, score):
        assert undisturbed(here.records.read(one.incident)) == set()
    result = here._result(score, (), 0.0)
    assert result.problems == []
    facts = {fact.name: fact for fact in result.facts}
    assert [fact for fact in result.facts if fact.met is False] == []
    done = {it.step: it.body["outputs"] for it in records if it.kind == "step-finished"}
    # The machine waited for the window, and then for the other one that was answered.
    started = {it.step: it.at for it in reversed(records) if it.kind == "step-started"}
    assert begins <= started["stop-home"]
    assert parse_time(here.another.partition("/")[0]) <= started["look-again"]
    record_property("survived", striker.told("nexus-studio", SCENARIO))
    record_property("survived", striker.told("nexus-studio", here.lost))
    # What the region wrote after it came back is counted, written down and kept.
    assert done["compare"]["rows"] > 0
    assert not done["compare"]["nothing"]
    lines = here.evidence.get(done["compare"]["object"]).splitlines()
    assert len(lines) == done["compare"]["rows"]
    assert json.loads(lines[0])["table"].startswith("public.")
    assert facts["set aside, kept at home"].measured != "0 rows"
    assert here.home_database() != old
    # It is protected again, by the primary stack, and a failover may be decided again.
    assert "-full" in done["protect"]["backup"]
    assert done["protect"]["released"]
    rights = result.rights["leeward-standby-fail_back"]
    assert not rights.denied
    # Servers of other plans are asked with a right that this one does not need.
    assert set(rights.unused) <= {"ec2:DescribeInstances"}


def test_nobody_goes_back_twice(here: Returning) -> None:
    assert refusal(here, "early: once more") == "already-home"


def test_a_second_loss_right_after_is_a_persons_to_declare_and_survives_deaths_too(
    here: Returning, striker: Striker, record_property: Callable[[str, object], None]
) -> None:
    """It does not start by itself, so that what flaps moves names once; and when a person says so,
    what was brought home is there again: its copies had been taken elsewhere."""
    there = here._assets(here.spare_database())
    # As its schedule does each few minutes: what the database is like now is what it is held to.
    here.invoke("watch", {"component": "nexus-db"}, region=PRIMARY_REGION)
    here.options = replace(here.options, scenario=here.lost)
    here.lose()
    for _ in range(4):
        decision = here.look()
        time.sleep(1)
    assert not decision["go"]
    assert "the site was gone back to lately" in decision["why"]
    assert "a person declares it" in decision["why"]
    record_property("survived", survived("nexus-studio", here.lost, "flapping", 1))

    striker.active = True
    incident = here.declare("lost again, right after it came back")
    score = here.follow(incident)
    striker.active = False
    records = [it for it in here.records.read(incident) if it.run_id == score.run_id]
    failed = [f"{it.step}: {it.body['message']}" for it in records if it.kind == "step-failed"]
    assert failed == []
    assert undisturbed(records) == set()
    record_property("survived", striker.told("nexus-studio", here.lost))
    assert score.serves
    assert here._answers("nexus-names") == here._wanted("nexus-names", "dr")
    assert there - here._assets(here.spare_database()) == set()
