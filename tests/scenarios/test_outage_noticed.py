"""The deployed standby notices that the primary region is lost, and starts the scenario once."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.evidence.records import StoredRecords
from chalicelib.incidents.incident import INCIDENTS, Incident
from chalicelib.plan.model import Plan
from chalicelib.plan.records import EvidenceRecord, format_time, parse_time
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION, LocalCloud
from leeward.local.deploy import deploy
from leeward.local.health_checks import may_checker_read
from leeward.packaging.package import build_package
from leeward.packaging.template import machine_id
from leeward.plan_file import load_plan
from tests.answering import Answering, answering
from tests.clouds import wait_for
from tests.survived import survived

PLAN = Path(__file__).parents[2] / "policies/plans/nexus-studio.yaml"
OUTAGE, SITE = "regional-outage", "primary"
PAGE_TYPES = {"html": "text/html", "json": "application/json", "atom": "application/atom+xml"}
HEARTBEAT = f"heartbeat/{SITE}"


@dataclass
class Scene:
    """Both stacks, and what serves at the primary site, at the standby one, and elsewhere."""

    cloud: LocalCloud
    names: dict[str, str]
    primary_names: dict[str, str]
    here: Answering
    there: Answering
    witness: Answering

    def look(self) -> dict[str, Any]:
        """One tick of the standby's schedule."""
        found: dict[str, Any] = self.invoke("probe", {"source": "aws.events"})["decisions"][OUTAGE]
        return found

    def invoke(self, name: str, event: dict[str, Any], stack: str = "standby") -> dict[str, Any]:
        region = STANDBY_REGION if stack == "standby" else PRIMARY_REGION
        answer = self.cloud.client("lambda", region).invoke(
            FunctionName=f"leeward-{stack}-{name}", Payload=json.dumps(event)
        )
        body: dict[str, Any] = json.load(answer["Payload"])
        assert "FunctionError" not in answer, body
        return body

    def tell(self, status: str) -> None:
        """What AWS Health says of the primary region, delivered in the standby's."""
        detail = {
            "eventTypeCategory": "issue",
            "eventTypeCode": "AWS_EC2_OPERATIONAL_ISSUE",
            "eventRegion": PRIMARY_REGION,
            "statusCode": status,
        }
        self.cloud.client("events", STANDBY_REGION).put_events(
            Entries=[{"Source": "aws.health", "DetailType": "AWS Health Event",
                      "Detail": json.dumps(detail)}]
        )  # fmt: skip
        assert self.cloud.wait_idle()

    def page(self, key: str) -> str:
        """As anybody reads it, who has nothing but its address."""
        bucket = self.names["StatusBucket"]
        assert may_checker_read(bucket, key) == "", "whoever signs nothing"
        address = f"{self.cloud.url}/{bucket}/{key}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith(PAGE_TYPES[key.rpartition(".")[2]])
            return str(answer.read().decode())

    def beat(self, age: timedelta) -> None:
        """As if the last heartbeat were so old: the test does not wait for minutes."""
        at = format_time(datetime.now(UTC) - age)
        self.switches.put(HEARTBEAT, json.dumps({"site": SITE, "at": at}).encode())

    @property
    def switches(self) -> S3ObjectStore:
        client = self.cloud.outside("s3", STANDBY_REGION)
        return S3ObjectStore(client, self.names["SwitchBucket"])

    @property
    def state(self) -> DynamoDbState:
        client = self.cloud.outside("dynamodb", STANDBY_REGION)
        return DynamoDbState(client, self.names["StateTable"])

    def runs(self) -> list[dict[str, Any]]:
        client = self.cloud.outside("stepfunctions", STANDBY_REGION)
        machine = self.names[machine_id(OUTAGE)]
        found: list[dict[str, Any]] = client.list_executions(stateMachineArn=machine)["executions"]
        return found

    def records(self) -> list[EvidenceRecord]:
        client = self.cloud.outside("s3", STANDBY_REGION)
        store = S3ObjectStore(client, self.names["EvidenceBucket"])
        incidents = sorted({row.key.split("/")[0] for row in store.list("inc-")})
        records = StoredRecords(store, SystemClock())
        return [record for incident in incidents for record in records.read(incident)]


def plan_for(here: Answering, there: Answering, witness: Answering) -> Plan:
    """The plan of Nexus Studio with servers of this machine, and a scenario that only verifies."""
    data = load_plan(PLAN).plan.to_json()
    data["components"]["nexus-api"]["health"] = here.address
    data["components"]["nexus-api-dr"]["health"] = there.address
    scenario = data["scenarios"][OUTAGE]
    scenario["trigger"] |= {"lasting": 1, "witnesses": [witness.address]}
    scenario["restores"] = ["nexus-api"]
    verify = {"name": "verify", "says": "Verify all services operational", "uses": "health.verify"}
    watch = {"name": "monitor", "says": "Monitor for performance issues", "uses": "health.watch",
             "with": {"for": "4s"}}  # fmt: skip
    told = {"name": "tell", "says": "Notify customers", "uses": "people.tell",
            "with": {"audience": "customers"}}  # fmt: skip
    scenario["steps"] = [told, verify, watch]
    data["components"]["nexus-uploads"]["health"] = there.address
    return Plan.from_json(data)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with ExitStack() as stack:
        here, there, witness = (stack.enter_context(answering()) for _ in range(3))
        cloud = stack.enter_context(LocalCloud(schedules=False))
        package = build_package(plan_for(here, there, witness), cloud.folder / "package")
        deployed = deploy(cloud, package, standby=True)
        assert deployed.standby
        yield Scene(cloud, deployed.standby.names, deployed.names, here, there, witness)


@pytest.fixture(autouse=True)
def as_before(scene: Scene) -> None:
    scene.cloud.heal()
    scene.here.status = scene.there.status = scene.witness.status = 200
    scene.beat(timedelta(0))
    for kind in ("probe", "heartbeat", "aws-health", "alarm", "latch"):
        found = scene.state.get(f"outage#{SITE}", kind)
        if found:
            scene.state.remove(f"outage#{SITE}", kind, expected={})


def test_the_primary_tells_the_standby_that_it_works_and_stops_when_it_does_not(
    scene: Scene,
) -> None:
    scene.beat(timedelta(hours=1))
    scene.invoke("heartbeat", {}, stack="primary")
    assert "votes" not in {it["standing"] for it in scene.look()["votes"]}
    [beat] = [it for it in scene.look()["votes"] if it["kind"] == "heartbeat"]
    assert beat["standing"] == "good"

    scene.beat(timedelta(hours=1))
    before = scene.switches.get(HEARTBEAT)
    scene.cloud.fail(region=PRIMARY_REGION, services=("dynamodb",), how="error")
    scene.cloud.fire("heartbeat")
    assert scene.cloud.wait_idle(60)
    assert scene.switches.get(HEARTBEAT) == before
    [beat] = [it for it in scene.look()["votes"] if it["kind"] == "heartbeat"]
    assert beat["standing"] == "too-short"
    assert beat["says"].startswith("since 0 s: the last one is 36")


def test_one_bad_probe_or_a_flapping_one_starts_nothing(
    scene: Scene, record_property: Callable[[str, object], None]
) -> None:
    flaps = (500, 200, 500, 200, 500)
    for status in flaps:
        scene.here.status = status
        assert not scene.look()["go"]
    time.sleep(1.1)
    scene.tell("open")
    assert not scene.look()["go"]
    assert scene.runs() == []
    told = survived("nexus-studio", OUTAGE, "flapping", flaps.count(500))
    record_property("survived", told)


def test_apis_that_fail_while_services_answer_start_nothing(scene: Scene) -> None:
    scene.cloud.fail(region=PRIMARY_REGION)
    scene.beat(timedelta(minutes=9))
    scene.tell("open")
    for _ in range(3):
        decision = scene.look()
        time.sleep(0.6)
    assert [it["kind"] for it in decision["votes"] if it["standing"] == "votes"] == [
        "heartbeat",
        "aws-health",
    ]
    assert "the services: 1 of 1 answer" in decision["why"]
    assert not decision["go"]


def test_a_standby_that_is_cut_off_itself_starts_nothing(scene: Scene) -> None:
    """No witness answers either: nobody listens at its address while it is away."""
    scene.here.status = 503
    scene.beat(timedelta(minutes=9))
    with scene.witness.away():
        for _ in range(3):
            decision = scene.look()
            time.sleep(0.6)
    assert "the standby is cut off itself" in decision["why"]
    assert not decision["go"]


def test_a_lost_region_starts_the_scenario_once_in_the_standby_and_it_is_recovered(
    scene: Scene,
) -> None:
    scene.cloud.fail(region=PRIMARY_REGION, how="hang")
    scene.here.status = 503
    scene.beat(timedelta(minutes=9))
    looks = []
    while not looks or not looks[-1]["go"]:
        assert len(looks) < 10, looks
        looks.append(scene.look())
        time.sleep(0.4)
    assert len(looks) >= 2, "one look is nothing that lasts"
    again = scene.look()
    assert not again["go"]
    assert again["why"].startswith("decided already at")

    [run] = wait_for(scene.runs, "no run was started", seconds=10)
    ended = wait_for(lambda: _ended(scene), "the run did not end", seconds=60)
    records = scene.records()
    assert ended["status"] == "SUCCEEDED", [it.body for it in records if "failed" in it.kind]
    opened, *_ = records
    assert opened.kind == "incident-opened"
    assert opened.body["alarm"] == "quorum"
    assert "probe: nexus-api: HTTP 503; heartbeat: the last one is" in opened.body["reason"]
    told, *verified = [it.body["found"] for it in records if it.kind == "step-finished"]
    assert told.startswith("customers told by status-page")
    assert re.match(r"nexus-api answers in \d", verified[0])
    assert "nexus-api: 100.00% of" in verified[1]
    assert len(scene.runs()) == 1
    denied = {
        name: rights.denied
        for name, rights in scene.cloud.rights().items()
        if rights.denied and "standby" in name
    }
    assert denied == {}
    assert run["name"].endswith(f"-{SITE}")


def test_the_status_page_said_so_while_the_region_was_lost_and_remembers(scene: Scene) -> None:
    """Read as anybody reads it: one plain GET, no signature, no call of AWS."""
    scene.cloud.fail(region=PRIMARY_REGION, how="hang")
    assert scene.cloud.wait_idle()
    scene.here.status = 503
    scene.invoke("publish", {})
    told = json.loads(scene.page("status.json"))
    [over] = told["past_incidents"]
    assert [it["state"] for it in over["updates"]] == ["resolved", "identified"]
    assert over["services"] == ["api", "assets"]
    assert told["incidents"] == []
    states = {it["name"]: (it["state"], it["why"]) for it in told["services"]}
    assert states["api"] == ("disrupted", "it does not answer")
    assert states["assets"] == ("operational", "it answers")
    assert datetime.now(UTC) - parse_time(told["confirmed_at"]) < timedelta(seconds=60)

    front = scene.page("index.html")
    assert "A disruption was going on" in front
    assert "Nexus Studio: service disruption" in front
    assert "nexus-api" not in front, "the public names are not the plan's"
    story = scene.page(f"incidents/{over['id']}.html")
    assert "We know about it and are restoring it." in story
    assert story.index("Resolved") < story.index("Identified")
    assert over["title"] in scene.page("history.html")
    assert ElementTree.fromstring(scene.page("feed.atom"))[0].tag.endswith("}id")


def test_an_incident_that_goes_on_stands_on_the_page_of_either_stack(scene: Scene) -> None:
    """Told by the primary's stack, which then dies; the standby goes on saying it."""
    at = datetime.now(UTC)
    incident = Incident(
        f"inc-{at:%Y%m%dT%H%M%SZ}-nexus-uploads", "nexus-uploads", "ransomware", "SEV1", "a test",
        at, at,
    )  # fmt: skip
    client = scene.cloud.outside("dynamodb", PRIMARY_REGION)
    state = DynamoDbState(client, scene.primary_names["StateTable"])
    state.create(INCIDENTS, "open#nexus-uploads", incident.to_json())
    notice = {"what": "posted", "incident": incident.id, "run_id": "", "about": "cto/1",
              "facts": {"text": "We <b>stopped</b> uploads.", "state": "identified"},
              "noticed_at": format_time(at)}  # fmt: skip
    state.create("notices", f"{incident.id}#posted#cto/1", notice)
    scene.invoke("tell", {}, stack="primary")
    assert "We &lt;b&gt;stopped&lt;/b&gt; uploads." in scene.page("index.html")

    scene.cloud.fail(region=PRIMARY_REGION, how="hang")
    scene.invoke("publish", {})
    told = json.loads(scene.page("status.json"))
    assert [it["id"] for it in told["incidents"]] == [incident.id]
    assert {it["name"]: it["state"] for it in told["services"]}["assets"] == "disrupted"
    assert "We &lt;b&gt;stopped&lt;/b&gt; uploads." in scene.page("index.html")


def test_nobody_outside_reads_what_the_page_is_made_from(scene: Scene) -> None:
    bucket = scene.names["StatusBucket"]
    client = scene.cloud.outside("s3", STANDBY_REGION)
    keys = {it["Key"] for it in client.list_objects_v2(Bucket=bucket)["Contents"]}
    readable = {key for key in keys if may_checker_read(bucket, key) == ""}
    assert {key.partition("/")[0] for key in keys - readable} == {"said", "observed"}
    assert {key for key in readable if not key.startswith("incidents/")} == {
        "feed.atom", "history.html", "index.html", "status.json",
    }  # fmt: skip


def test_what_keeps_the_page_may_do_that_and_nothing_more(scene: Scene) -> None:
    rights = scene.cloud.rights()
    publish = rights["leeward-standby-publish"]
    assert (list(publish.denied), list(publish.unused)) == ([], [])
    for stack in ("primary", "standby"):
        unused = rights[f"leeward-{stack}-tell"].unused
        assert not [it for it in unused if "status" in str(it)], unused


def test_a_death_between_the_latch_and_the_incident_is_healed_once(scene: Scene) -> None:
    before = len(scene.runs())
    latch = {"at": format_time(datetime.now(UTC)), "why": "told", "scenario": OUTAGE}
    scene.state.create(f"outage#{SITE}", "latch", latch | {"started": False})
    for _ in range(2):
        assert not scene.look()["go"]
        assert len(scene.runs()) == before + 1
    kept = scene.state.get(f"outage#{SITE}", "latch")
    assert kept
    assert kept["started"]


def _ended(scene: Scene) -> Any:
    [run] = scene.runs()
    return run if run["status"] != "RUNNING" else None
