"""The primary region is lost while a person looks at the standby's dashboard, in a real browser.

One story, in the order of this file. Every call to the primary region hangs from its beginning on.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pyotp
import pytest

from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.plan.model import Plan
from chalicelib.plan.records import format_time
from leeward.cli import main
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION, LocalCloud
from leeward.local.deploy import Deployed, deploy
from leeward.packaging.package import build_package
from leeward.plan_file import load_plan
from tests.answering import Answering, answering
from tests.browsers import judge_page, overflow
from tests.clouds import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PLAN = Path(__file__).parents[2] / "policies/plans/nexus-studio.yaml"
OUTAGE, PERSON = "regional-outage", "cto"
STEPS = ("Verify all services operational", "Monitor for performance issues")


@dataclass
class Scene:
    """What is left: the standby's stack, and the services there."""

    cloud: LocalCloud
    standby: Deployed
    here: Answering
    device: str

    @property
    def url(self) -> str:
        """The first page. Nothing on it is made anew in the middle of a test."""
        return f"{self.standby.outputs['EndpointURL']}?still=1"

    def lose_primary(self) -> None:
        """Its APIs hang, its service answers badly, and its heartbeat is nine minutes old."""
        self.cloud.fail(region=PRIMARY_REGION, how="hang")
        self.here.status = 503
        client = self.cloud.outside("s3", STANDBY_REGION)
        at = format_time(datetime.now(UTC) - timedelta(minutes=9))
        beat = json.dumps({"site": "primary", "at": at}).encode()
        switches = S3ObjectStore(client, self.standby.names["SwitchBucket"])
        switches.put("heartbeat/primary", beat)

    def looks(self) -> bool:
        """One tick of the schedule by which the standby looks; whether it has decided."""
        answer = self.cloud.client("lambda", STANDBY_REGION).invoke(
            FunctionName="leeward-standby-probe", Payload=b'{"source": "aws.events"}'
        )
        return bool(json.load(answer["Payload"])["decisions"][OUTAGE]["go"])


def plan_for(here: Answering, there: Answering, witness: Answering) -> Plan:
    """Nexus Studio's, with servers of this machine; one of two people agrees before it verifies."""
    data = load_plan(PLAN).plan.to_json()
    data["components"]["nexus-api"]["health"] = here.address
    data["components"]["nexus-api-dr"]["health"] = there.address
    data["components"]["nexus-uploads"]["health"] = there.address
    data["roles"]["incident-commander"]["held_by"] = [PERSON, "security-lead"]
    scenario = data["scenarios"][OUTAGE]
    scenario["trigger"] |= {"lasting": 1, "witnesses": [witness.address]}
    scenario["restores"] = ["nexus-api"]
    asked = {"by": ["incident-commander"], "count": 1, "within": 900, "otherwise": "stop"}
    verify = {"name": "verify", "says": STEPS[0], "uses": "health.verify", "approve": asked}
    watch = {"name": "monitor", "says": STEPS[1], "uses": "health.watch", "with": {"for": "4s"}}
    scenario["steps"] = [verify, watch]
    return Plan.from_json(data)


def leeward(*words: str) -> Any:
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit):
        main([*words, "--format", "json"])
    return json.loads(said.getvalue())


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    before = dict(os.environ)
    with ExitStack() as stack:
        here, there, witness = (stack.enter_context(answering()) for _ in range(3))
        cloud = stack.enter_context(LocalCloud(schedules=False))
        package = build_package(plan_for(here, there, witness), cloud.folder / "package")
        deployed = deploy(cloud, package, standby=True)
        assert deployed.standby
        os.environ |= cloud.environment()
        boto3.DEFAULT_SESSION = None
        try:
            made = leeward("people", "enrol", PERSON, "--plan", str(PLAN))
            device = pyotp.parse_uri(made["address"]).secret
            yield Scene(cloud, deployed.standby, here, device)
        finally:
            os.environ.clear()
            os.environ |= before
            boto3.DEFAULT_SESSION = None


def test_who_signs_in_at_the_standby_sees_what_it_knows_though_the_primary_hangs(
    scene: Scene, page: Page
) -> None:
    scene.lose_primary()
    link = leeward("dashboard", "--by", PERSON, "--standby", STANDBY_REGION)["address"]
    assert link.startswith(scene.standby.outputs["EndpointURL"])
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    assert "None open" in page.locator(".heads").inner_text()


def test_the_outage_that_the_standby_noticed_is_open_and_waits_for_the_person(
    scene: Scene, page: Page
) -> None:
    wait_for(lambda: scene.looks() or time.sleep(0.5), "nothing was decided", seconds=120)
    wait_for(lambda: _asked(page, scene), "nothing was asked", seconds=120)
    heads = page.locator(".heads").inner_text()
    assert "1 open" in heads
    assert "1 answer" in heads
    page.locator("#waiting a").click()
    assert STEPS[0] in page.locator(".ask h2").inner_text()
    assert "Waits for people" in page.locator(".steps li.waiting").inner_text()
    states = page.locator(".steps .how").all_inner_texts()
    assert len(states) == 2
    assert "Regional" in page.locator("h1").inner_text()


def _asked(page: Page, scene: Scene) -> bool | None:
    page.goto(scene.url)
    return page.locator("#waiting a").count() == 1 or None


def test_the_pages_of_a_lost_region_are_usable_too(page: Page, browser: Browser) -> None:
    with browser.new_context(storage_state=page.context.storage_state()) as context:
        judged = context.new_page()
        judged.goto(page.url)
        assert judge_page(judged) == []
        judged.set_viewport_size({"width": 360, "height": 700})
        assert overflow(judged) <= 0


def test_it_is_approved_and_the_steps_are_watched_to_their_end(scene: Scene, page: Page) -> None:
    page.get_by_label("One-time code").fill(pyotp.TOTP(scene.device).now())
    page.get_by_label("Reason").fill("the region is lost")
    page.get_by_role("button", name="Approve").click()
    assert "Your answer counts" in page.get_by_role("status").inner_text()
    # It is made anew by itself; nothing is pressed.
    wait_for(
        lambda: "Recovered" in page.locator(".title").inner_text() or None,
        "the page never said that it has recovered", seconds=120,
    )  # fmt: skip
    states = page.locator(".steps .how").all_inner_texts()
    assert [it.startswith("Done") for it in states] == [True, True]


def test_the_other_pages_are_there_while_the_region_hangs(scene: Scene, page: Page) -> None:
    incident = page.url.rpartition("/")[2]
    for path in (f"incidents/{incident}", "exercises", "findings", "actions"):
        answer = page.goto(scene.standby.outputs["EndpointURL"] + path)
        assert answer is not None
        assert answer.status == 200, path


def test_copies_that_cannot_be_asked_are_said_to_be_so_and_never_green(
    scene: Scene, page: Page
) -> None:
    page.goto(scene.url)
    card = page.locator(".card", has_text="nexus-db").inner_text()
    assert "Not ready" in card
    assert "their location did not answer within 8 s" in card
    assert "0 of 4 proven" in page.locator(".heads").inner_text()
    answer = page.goto(scene.standby.outputs["EndpointURL"] + "backups/nexus-db")
    assert answer is not None
    assert answer.status == 503
    assert "their location did not answer within 8 s" in page.inner_text("main")
