"""What the views tell of copies, out of a real store's and CloudWatch's answers."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from chalicelib.adapters.cloudwatch import CloudWatchMetrics
from chalicelib.adapters.metric_history import CloudWatchHistory
from chalicelib.errors import Damaged, NotReady, Unavailable
from chalicelib.incidents.incident import INCIDENTS, Incident
from chalicelib.plan.exercises import Occasion, ScenarioResult
from chalicelib.plan.manifest import PROOF, point_key
from chalicelib.plan.records import (
    CheckResult,
    Proof,
    RecoveryPoint,
    RecoveryTarget,
    StoredObject,
    format_time,
)
from chalicelib.services import build, showing
from chalicelib.services.jobs import checking, exercises, restore_tests
from chalicelib.services.jobs.proving import note_failure
from chalicelib.services.people import answers as people
from chalicelib.services.views.copies import PATIENCE_SECONDS
from chalicelib.verify.copies.findings import Finding
from leeward.plan_file import load_plan
from tests.contract.test_people_door import NAMES
from tests.s3_servers import S3Server, moto_server

PLAN = Path(__file__).parents[2] / "policies" / "plans" / "nexus-studio.yaml"
COMPONENT = "nexus-config"
CACHED = [
    it for it in (*vars(build).values(), *vars(people).values()) if hasattr(it, "cache_clear")
]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with moto_server() as running:
        yield running


@pytest.fixture(autouse=True)
def deployment(tmp_path: Path, s3: S3Server) -> Iterator[None]:
    """The services as the function `show` has them, over empty stores."""
    before = dict(os.environ)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(load_plan(PLAN).plan.to_json()))
    os.environ.pop("AWS_ENDPOINT_URL", None)
    os.environ |= NAMES | {"LEEWARD_PLAN": str(plan)}
    with mock_aws():
        # Objects are asked for over the wire; the rest never leaves boto3.
        os.environ["AWS_ENDPOINT_URL_S3"] = s3.url
        keys = [{"AttributeName": name, "KeyType": kind}
                for name, kind in (("pk", "HASH"), ("sk", "RANGE"))]  # fmt: skip
        boto3.client("dynamodb").create_table(
            TableName="state", BillingMode="PAY_PER_REQUEST", KeySchema=keys,
            AttributeDefinitions=[
                {"AttributeName": it["AttributeName"], "AttributeType": "S"} for it in keys
            ],
        )  # fmt: skip
        for bucket in ("backups", "evidence"):
            boto3.client("s3").create_bucket(Bucket=bucket)
        for it in CACHED:
            it.cache_clear()
        yield
    for it in CACHED:
        it.cache_clear()
    os.environ.clear()
    os.environ |= before


def take(at: datetime) -> str:
    """A point whose one object is there."""
    name = f"{at:%Y%m%dT%H%M%SZ}-archive"
    key = point_key(name, "files.tar.zst")
    build.backups(COMPONENT).put(key, b"files")
    point = RecoveryPoint(
        id=name, component=COMPONENT, kind="archive", taken_at=at, finished_at=at,
        objects=(StoredObject(key, 5, "0" * 64),), source_bytes=5, encryption="",
    )  # fmt: skip
    build.catalogue(COMPONENT).add(point)
    return name


def prove(point: str, at: datetime, *, ok: bool = True) -> None:
    checks = (CheckResult("files", ok, "5 bytes"),)
    proof = Proof(COMPONENT, point, at, RecoveryTarget("end", ""), 0, None, checks)
    text = json.dumps(proof.to_json()).encode()
    build.backups(COMPONENT).put(point_key(point, PROOF), text)


def told(verb: str, **more: str) -> dict[str, Any]:
    answer = showing.show({"verb": verb, **more})
    assert "error" not in answer, answer
    return answer


def component(verb: str) -> dict[str, Any]:
    [found] = [it for it in told(verb)["components"] if it["component"] == COMPONENT]
    return dict(found)


def test_nothing_is_ready_that_was_not_proven() -> None:
    now = datetime.now(UTC)
    assert component("readiness")["why"] == "there is no recovery point"
    point = take(now - timedelta(hours=2))
    assert component("readiness")["level"] == "not-ready"
    prove(point, now - timedelta(hours=1), ok=False)
    assert component("readiness")["level"] == "not-ready"
    prove(point, now - timedelta(hours=1))
    ready = component("readiness")
    assert (ready["level"], ready["proof"]["point"]) == ("ready", point)
    build.backups(COMPONENT).put(point_key(point, PROOF), b"{torn")
    torn = component("readiness")
    assert (torn["level"], torn["why"]) == ("not-ready", f"the proof of {point} cannot be read")


def test_a_restore_test_that_failed_since_the_proof_counts_against_it() -> None:
    """Also one that could not be tried, and only until the next one was sound."""
    now = datetime.now(UTC)
    point = take(now - timedelta(hours=9))
    prove(point, now - timedelta(hours=3))
    assert component("readiness")["level"] == "ready"
    for location, level in (("gcp", "ready"), (build.locations().primary, "not-ready")):
        note_failure(COMPONENT, location, Damaged("what came back is torn", hint="look"))
        assert component("readiness")["level"] == level, location
    assert component("readiness")["why"] == "its last restore test ended as failed"
    prove(point, datetime.now(UTC))
    assert component("readiness")["level"] == "ready"
    note_failure(COMPONENT, build.locations().primary, NotReady("no redis-server", hint="add it"))
    assert component("readiness")["why"] == "its last restore test ended as not tried"


def test_a_point_that_lost_an_object_is_none() -> None:
    point = take(datetime.now(UTC))
    prove(point, datetime.now(UTC))
    build.backups(COMPONENT).delete(point_key(point, "files.tar.zst"))
    found = component("readiness")
    assert found["level"] == "not-ready"
    assert "no recovery point is whole" in found["why"]


def test_a_store_that_does_not_answer_is_not_green() -> None:
    take(datetime.now(UTC))
    s3 = boto3.resource("s3").Bucket("backups")
    s3.objects.delete()
    s3.delete()
    found = component("readiness")
    assert found["level"] == "not-ready"
    assert "cannot be read" in found["why"]
    assert component("rpo")["level"] == "unknown"


def test_a_location_that_hangs_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        began = time.monotonic()
        found = component("readiness")
        listed = showing.show({"verb": "calendar", "component": COMPONENT})
        assert time.monotonic() - began < 2 * PATIENCE_SECONDS + 12, "API Gateway waits for 29 s"
    assert listed["error"]["code"] == "copies-silent"
    assert found["level"] == "not-ready"
    assert "did not answer within 8 s" in found["why"]


def test_the_age_counts_from_the_newest_point_that_may_be_used() -> None:
    now = datetime.now(UTC)
    take(now - timedelta(hours=30))
    newest = take(now - timedelta(minutes=20))
    assert component("rpo")["age_seconds"] == pytest.approx(1200, abs=60)
    build.catalogue(COMPONENT).quarantine(newest, code="x", reason="virus", at=now)
    assert component("rpo")["age_seconds"] == pytest.approx(108_000, abs=60)


def test_a_day_is_told_by_the_metrics_of_the_jobs() -> None:
    CloudWatchMetrics(build.client("cloudwatch")).put(COMPONENT, {"Taken.commits": 1.0})
    CloudWatchMetrics(build.client("cloudwatch")).put("other", {"Taken.wal": 1.0})
    now = datetime.now(UTC)
    history = CloudWatchHistory(build.client("cloudwatch"))
    wanted = {COMPONENT: ["Taken.commits", "Taken.full"], "idle": ["Taken.full"]}
    found = history.moments(wanted, start=now - timedelta(hours=1), end=now + timedelta(minutes=1))
    [at] = found[COMPONENT]
    assert timedelta(0) <= now - at < timedelta(minutes=2)
    assert found["idle"] == ()


def test_the_calendar_says_of_each_point_whether_it_stays_and_why() -> None:
    now = datetime.now(UTC)
    for days in range(40):
        take(now - timedelta(days=days, minutes=5))
    seen = told("calendar", component=COMPONENT)
    assert len(seen["points"]) == seen["stay"] + seen["go"] == 40
    assert all(it["why"] for it in seen["points"])
    if seen["calendar"]:
        days = [cell for week in seen["calendar"]["weeks"] for cell in week["days"] if cell]
        assert sum(it["stay"] + it["go"] for it in days) >= 36


def test_what_is_no_component_is_refused_with_those_that_are() -> None:
    error = showing.show({"verb": "calendar", "component": "<b>"})["error"]
    assert error["code"] == "unknown-component"
    assert COMPONENT in error["hint"]


def test_findings_and_exercises_are_the_deployed_plans() -> None:
    rules = {it["rule"] for it in told("findings")["findings"]}
    assert "LW001" in rules
    assert {it["name"] for it in told("exercises")["exercises"]}


def test_an_exercise_with_a_rate_becomes_due_however_often_somebody_looks() -> None:
    """Counted from the last look, which comes each quarter of an hour, it never would."""
    path = Path(os.environ["LEEWARD_PLAN"])
    plan = json.loads(path.read_text())
    plan["testing"][0]["when"] = "rate(7 days)"
    path.write_text(json.dumps(plan))
    build.plan.cache_clear()
    began = datetime(2026, 11, 22, 12, tzinfo=UTC)
    [rated] = [it for it in exercises.planned_exercises(build.plan()) if it.when.is_rate]
    for hours in range(0, 24 * 22, 6):
        exercises._create_due(began + timedelta(hours=hours))
    found = [it.due_at - began for it in exercises._occasions() if it.exercise == rated.name]
    assert found == [timedelta(days=7), timedelta(days=14), timedelta(days=21)]


def test_a_repair_of_what_does_not_answer_is_not_told_as_done() -> None:
    found = (Finding("missing", "wal/00000001.history", "", "5 bytes", "none"),)
    _, *others = build.locations().of("nexus-db")
    with pytest.raises(Unavailable) as silent:  # no login is stored for it
        checking.repair("nexus-db", others[0], found)
    assert silent.value.instance_code == "location-silent"
    metrics = boto3.client("cloudwatch").list_metrics(MetricName="Unrepaired")["Metrics"]
    assert metrics == [], "nothing is known, so that nothing is told"


def test_the_first_answer_of_a_restore_test_counts() -> None:
    """Lambda may deliver an event twice, and the second attempt draws another sample."""
    key = f"{restore_tests.PREFIX}weekly/2026-11-22T12:00:00Z/{COMPONENT}.json"
    assert restore_tests.prove_for("weekly/2026-11-22T12:00:00Z", COMPONENT, "")["outcome"] == (
        "failed"
    )
    first = build.evidence_store().get(key)
    take(datetime.now(UTC))
    again = restore_tests.prove_for("weekly/2026-11-22T12:00:00Z", COMPONENT, "")
    assert json.dumps(again, indent=1).encode() != first
    assert build.evidence_store().get(key) == first


def asked_of_the_state() -> int:
    """How many requests to the state the first page is made of."""
    asked: list[str] = []

    def note(model: Any, **_: Any) -> None:
        asked.append(model.name)

    events = build.client("dynamodb").meta.events
    events.register("after-call.dynamodb", note)
    try:
        told("overview")
    finally:
        events.unregister("after-call.dynamodb", note)
    return len(asked)


def test_the_first_page_asks_no_more_of_the_state_after_a_year_of_drills() -> None:
    before, now = asked_of_the_state(), datetime.now(UTC)
    for number in range(60):
        at = now - timedelta(days=6 * number + 1)
        one = Incident(
            f"inc-{at:%Y%m%dT%H%M%SZ}-c{number}-drill", f"c{number}-drill", "ransomware", "SEV1",
            "exercise", at, at, status="recovered",
        )  # fmt: skip
        build.state().create(INCIDENTS, one.id, one.to_json())
        run = {"run_id": one.run_id, "incident_id": one.id, "status": "recovered"}
        build.state().create(f"run#{one.run_id}", "run", run)
        asked = {"role": "cto", "says": "x", "within_seconds": 900}
        item = {"kind": "do", "step": "s", "question": asked, "asked_at": format_time(at)}
        build.state().create(f"run#{one.run_id}", "question#do#s", item)
        result = ScenarioResult("ransomware", one.id, one.run_id, "recovered")
        occasion = Occasion("full-dr-drill", at, "done", at, at, (result,))
        exercises._create(occasion)
    ended = told("overview")["ended"]
    assert [it["waits_for"] for it in ended] == [[]] * 6
    assert ended[0]["opened_at"] > ended[5]["opened_at"]
    # The run of each of the six that are shown.
    assert asked_of_the_state() <= before + 6
