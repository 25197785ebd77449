"""A whole incident driven by people from a terminal, by the deployed package."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyotp
from moto.cloudwatch.models import cloudwatch_backends
from moto.sns.models import sns_backends

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.evidence.records import StoredRecords
from chalicelib.incidents.streams import people_stream
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION
from leeward.local.iam import ACCOUNT
from leeward.packaging.template import SIGN_OF_LAG
from tests.clouds import wait_for
from tests.grants import RECORDS_READ
from tests.scenarios.drills import PLAN
from tests.scenarios.people import SCENARIO, Stage
from tests.scenarios.people import stage as stage

# Not needed here, and why it is granted all the same.
RARE_OF = {
    "ask": {
        "states:SendTaskFailure": "a state is tried again after it was answered",
        "states:SendTaskSuccess": "the same",
    },
    "answer": {
        "states:DescribeExecution": "does the last run of the incident still run?",
        "kms:GenerateMac": "people who sign in: tests/contract/test_api.py",
    },
    "on_alarm": {
        "states:DescribeExecution": "a person's next run asks whether the last one still runs",
        **dict.fromkeys(RECORDS_READ, "an alarm that joins reads the records"),
    },
    "tell": {"sns:Publish": "people with a phone"},
    "escalate": {
        "sns:Publish": "the same",
        "ses:SendEmail": "people with an address",
        "dynamodb:DeleteItem": "a page that is over before it was sent",
        "lambda:InvokeFunction": "an answer whose taker died before the run was told",
    },
}


def test_people_are_enrolled_in_both_regions(stage: Stage) -> None:
    plan = ("--plan", str(PLAN))
    for person in ("cto", "vp-engineering", "security-lead", "dba-lead"):
        made = stage.leeward("people", "enrol", person, *plan)
        stage.secrets[person] = pyotp.parse_uri(made["address"]).secret
        assert len(made["recovery"]) == 8
    refused = stage.leeward("people", "enrol", "cto", *plan, status=1)
    assert refused["error"]["code"] == "already-enrolled"
    listed = {
        it["person"]: it["enrolled"] for it in stage.leeward("people", "list", *plan)["people"]
    }
    assert all(listed["cto"].values())
    assert set(listed["cto"]) == {"primary", "standby"}
    assert not any(listed["insurance"].values())


def test_an_incident_is_driven_from_the_terminal(stage: Stage) -> None:
    said = stage.leeward(
        "incident", "declare", SCENARIO, "--by", "cto", "--code", stage.code("cto"),
        "--reason", "smoke in the rack",
    )  # fmt: skip
    incident, run = said["incident"], said["run"]
    question = stage.waits(incident, "tell")
    assert (question["count"], question["roles"]) == (2, ["incident-commander"])

    def approve(by: str, code: str, status: int = 0) -> Any:
        words = ("approve", run, "tell", "--by", by, "--code", code)
        return stage.leeward(*words, status=status)

    assert approve("cto", "123456", 1)["error"]["code"] == "own-request"
    assert approve("dba-lead", "123456", 1)["error"]["code"] == "not-entitled"
    assert approve("vp-engineering", "000000", 1)["error"]["code"] == "wrong-code"
    code = stage.code("vp-engineering")
    assert approve("vp-engineering", code)["outcome"] == "waiting"
    assert approve("vp-engineering", code, 1)["error"]["code"] == "voted-already"
    approved = approve("security-lead", stage.code("security-lead"))
    assert (approved["outcome"], approved["told"]) == ("approved", True)

    assert stage.waits(incident, "cables")["kind"] == "do"
    assert approve("vp-engineering", "123456", 1)["error"]["code"] == "already-answered"
    done = stage.leeward(
        "done", run, "cables", "--by", "dba-lead", "--code", stage.code("dba-lead"),
        "--reason", "moved",
    )  # fmt: skip
    assert done["outcome"] == "done"
    assert stage.ended(SCENARIO, run) == "SUCCEEDED"
    assert stage.cloud.wait_idle()
    stage.tick()
    over = approve("cto", "123456", 1)
    assert over["error"]["code"] == "run-over"

    shown = stage.leeward("incident", "show", incident)
    assert shown["status"] == "recovered"
    assert [it["answered"] for it in shown["questions"]] == ["approved", "done"]
    assert shown["regulators_by"] is not None
    heard = stage.inbox.slack("#incident-response")
    assert any(text.startswith("*SEV1: Fire drill (nexus-db)*") for text in heard)
    assert any("Move &lt;the&gt; cables" in text for text in heard)
    assert any(text.startswith("*Recovered: Fire drill") for text in heard)
    # Somebody whom no way reached is an alarm of its own, which lasts.
    assert stage.alert("people-untold") == "triggered"
    assert stage.inbox.alerts()[f"leeward/{incident}"] == "resolved"
    assert len(stage.inbox.alerts()) == 2
    told = {(it["what"], it["to"]) for it in shown["told"]}
    assert {("opened", "email"), ("update", "customers"), ("recovered", "customers")} <= told
    untold = {(it["to"], it["status"]) for it in shown["untold"]}
    assert ("twitter", "given-up") in untold
    assert ("legal-counsel", "given-up") in untold
    stopped = stage.leeward("incident", "ack", incident, "--by", "cto", status=1)
    assert stopped["error"]["code"] == "already-closed"


def test_a_communicator_writes_on_the_status_page_and_announces_work(stage: Stage) -> None:
    [incident] = [
        it["incident"] for it in stage.leeward("incident", "list", "--ended")["incidents"]
    ]
    stage.cloud.fire("status-page-publish", region=STANDBY_REGION)
    assert stage.cloud.wait_idle()
    words = ("status", "post", incident, "--text", "It was <the> rack.", "--state", "resolved")
    for by, code in (("dba-lead", "not-entitled"), ("nobody", "unknown-person")):
        refused = stage.leeward(*words, "--by", by, "--code", "123456", status=1 + (by == "nobody"))
        assert refused["error"]["code"] == code
    empty = stage.leeward("status", "post", incident, "--text", " ", "--by", "cto", "--code", "1",
                          status=2)  # fmt: skip
    assert empty["error"]["code"] == "bad-post", "before a code is used up"
    stage.leeward(*words, "--by", "security-lead", "--code", stage.code("security-lead"))
    assert stage.cloud.wait_idle()

    shown = stage.leeward("status", "show", status=1)
    assert not shown["stale"]
    [over] = shown["past_incidents"]
    assert [it["text"] for it in over["updates"] if it["state"] == "resolved"][0] == (
        "It was <the> rack."
    )
    assert "War room" not in json.dumps(shown), "words of those inside"

    again = ("status", "post", incident, "--text", "It is over.", "--state", "resolved")
    by_hand = ("--own-rights", "--standby", STANDBY_REGION, "--by", "cto")
    stage.leeward(*again, *by_hand)
    assert stage.deployed.standby is not None
    left = stage.deployed.standby.names["EvidenceBucket"]
    store = S3ObjectStore(stage.cloud.client("s3", STANDBY_REGION), left)
    [record] = StoredRecords(store, SystemClock()).read(people_stream(incident))
    assert (record.kind, record.actor) == ("status-posted", "cto")
    assert record.body["identity"].startswith("arn:aws:")

    span = ("--from", "2030-01-01T10:00+01:00", "--until", "2030-01-01T11:00+01:00")
    plan = ("--plan", str(PLAN), "--says", "New disks", "--by", "cto")
    add = ("status", "maintenance", "add")
    assert stage.leeward(*add, "--service", "shop", *span, *plan, status=2)["error"]["code"] == (
        "unknown-service"
    )
    made = stage.leeward(*add, "--service", "api", *span, *plan)
    assert made["from_at"] == "2030-01-01T09:00:00.000000Z"
    stage.cloud.fire("status-page-publish", region=STANDBY_REGION)
    assert stage.cloud.wait_idle()
    shown = stage.leeward("status", "show", status=1)
    assert [(it["id"], it["state"]) for it in shown["maintenance"]] == [(made["id"], "scheduled")]
    stage.leeward("status", "maintenance", "cancel", made["id"], "--by", "cto")
    listed = stage.leeward("status", "maintenance", "list")["maintenance"]
    assert [it["state"] for it in listed] == ["cancelled"]


def test_who_cannot_be_reached_is_passed_over_and_an_acknowledgement_stops_the_calls(
    stage: Stage,
) -> None:
    said = stage.leeward(
        "incident", "declare", "hurry", "--by", "vp-engineering",
        "--code", stage.code("vp-engineering"), "--reason", "nobody answers",
    )  # fmt: skip
    incident, run = said["incident"], said["run"]
    stage.waits(incident, "hurry")

    def called() -> Any:
        shown = stage.leeward("incident", "show", incident)
        found = [(it["who"], it["reached"]) for it in shown["called"]]
        return found if len(found) >= 4 else None

    found = wait_for(called, "nobody was called", seconds=90)
    assert sorted(set(found)) == [("Lead", True), ("On call", False)]
    assert any(
        "you are needed: Decide at once" in it for it in stage.inbox.slack("@vp-engineering")
    )
    stage.leeward("incident", "ack", incident, "--by", "cto")
    assert stage.ended("hurry", run) == "FAILED"
    assert stage.cloud.wait_idle()
    assert stage.inbox.slack("@cto") == []
    assert any("NOT RECOVERED" in it for it in stage.inbox.slack("#incident-response"))
    late = stage.leeward("approve", run, "hurry", "--by", "cto", "--code", "123456", status=1)
    assert late["error"]["code"] == "run-over"
    closed = stage.leeward(
        "incident", "close", incident, "--by", "security-lead",
        "--code", stage.code("security-lead"), "--reason", "a rehearsal",
    )  # fmt: skip
    assert closed["found"] == "closed by security-lead: a rehearsal"
    assert stage.leeward("incident", "list")["incidents"] == []


def test_a_channel_that_fails_is_tried_again_and_delays_nothing(stage: Stage) -> None:
    stage.inbox.refusing.add("slack")
    said = stage.leeward(
        "incident", "declare", SCENARIO, "--by", "cto", "--code", stage.code("cto"),
        "--reason", "again",
    )  # fmt: skip
    incident = said["incident"]
    stage.waits(incident, "tell")
    assert stage.cloud.wait_idle()
    shown = stage.leeward("incident", "show", incident)
    assert ("opened", "email") in {(it["what"], it["to"]) for it in shown["told"]}
    waiting = [it for it in shown["untold"] if it["to"] == "slack"]
    assert waiting
    assert all(it["status"] == "waiting" and "503" in it["why"][0] for it in waiting)
    stage.inbox.refusing.clear()
    time.sleep(5)
    stage.tick()
    shown = stage.leeward("incident", "show", incident)
    assert [it for it in shown["untold"] if it["to"] == "slack" and it["what"] == "opened"] == []
    declined = stage.leeward(
        "decline", said["run"], "tell", "--by", "dba-lead", "--code", "1", "--reason", "no",
        status=1,
    )  # fmt: skip
    assert declined["error"]["code"] == "not-entitled"
    stage.leeward(
        "decline", said["run"], "tell", "--by", "security-lead",
        "--code", stage.code("security-lead"), "--reason", "a false alarm",
    )  # fmt: skip
    assert stage.ended(SCENARIO, said["run"]) == "FAILED"


def test_the_path_is_followed_in_less_time_and_ends_with_the_incident(stage: Stage) -> None:
    """The incident of the test before is open still: its path again, an hour in some seconds."""
    [incident] = [it["incident"] for it in stage.leeward("incident", "list")["incidents"]]
    client = stage.cloud.client("stepfunctions")
    started = client.start_execution(
        stateMachineArn=stage.deployed.names["Escalation"],
        name="in-less-time",
        input=json.dumps({"incident": incident, "subject": "incident", "factor": 0.001}),
    )

    def pages() -> int:
        return sum("you are needed" in it for it in stage.inbox.slack("@cto"))

    wait_for(lambda: pages() or None, "the CTO was never called", seconds=90)
    stage.leeward("incident", "ack", incident, "--by", "cto")
    stage.leeward(
        "incident", "close", incident, "--by", "security-lead",
        "--code", stage.code("security-lead"), "--reason", "enough",
    )  # fmt: skip
    execution = started["executionArn"]

    def over() -> str | None:
        status = str(client.describe_execution(executionArn=execution)["status"])
        return None if status == "RUNNING" else status

    assert wait_for(over, "the escalation did not end", seconds=90) == "SUCCEEDED"
    called = pages()
    time.sleep(5)
    assert pages() == called


def test_a_drill_is_told_where_drills_are_read_and_nowhere_else(stage: Stage) -> None:
    said = stage.leeward(
        "incident", "declare", SCENARIO, "--drill", "--by", "cto", "--code", stage.code("cto"),
        "--reason", "a rehearsal",
    )  # fmt: skip
    stage.waits(said["incident"], "tell")
    assert stage.cloud.wait_idle()
    stage.leeward(
        "decline", said["run"], "tell", "--by", "vp-engineering",
        "--code", stage.code("vp-engineering"), "--reason", "rehearsed enough",
    )  # fmt: skip
    assert stage.ended(SCENARIO, said["run"]) == "FAILED"
    assert stage.cloud.wait_idle()
    heard = stage.inbox.slack("#incident-drills")
    assert len(heard) >= 3
    assert all(text.startswith("*DRILL: ") for text in heard)
    assert [it for it in stage.inbox.slack("#incident-response") if said["incident"] in it] == []
    keys = {
        str(it.body["routing_key"])
        for it in stage.inbox.got
        if it.kind == "pagerduty" and said["incident"] in str(it.body["dedup_key"])
    }
    assert keys == {stage.inbox.drill_key}


def test_a_communication_drill_is_begun_and_scored(stage: Stage) -> None:
    """Everybody inside acknowledges what the drill channel told them; nothing else is touched."""

    def exercise(**event: Any) -> dict[str, Any]:
        client = stage.cloud.client("lambda")
        body = json.dumps(event)
        told = client.invoke(FunctionName="leeward-primary-exercise", Payload=body)
        answer = json.loads(told["Payload"].read())
        assert "FunctionError" not in told, answer
        assert stage.cloud.wait_idle()
        return dict(answer)

    def occasion() -> dict[str, Any]:
        [found] = exercise(list=True)["exercises"]
        assert found["name"] == "communication-monthly"
        return dict(found["occasions"][-1])

    before = len(stage.inbox.slack("#incident-response"))
    exercise()
    exercise(begin="communication-monthly")
    incident = occasion()["results"][0]["incident"]
    heard = [it for it in stage.inbox.slack("#incident-drills") if incident in it]
    assert heard
    assert all(text.startswith("*DRILL: ") for text in heard)
    for person in ("cto", "vp-engineering", "security-lead"):
        stage.leeward("incident", "ack", incident, "--by", person)
    exercise()
    assert occasion()["status"] == "running", "one has not answered yet"
    stage.leeward("incident", "ack", incident, "--by", "dba-lead")
    # It is over when what was told of the last acknowledgement has been taken, too.

    def looked_at() -> str:
        exercise()
        return str(occasion()["status"])

    wait_for(lambda: looked_at() != "running", "the drill is not over")
    over = occasion()
    assert (over["status"], over["note"]) == ("done", "4 people acknowledged in time")
    assert 0 < over["results"][0]["rto_seconds"] < 3600
    assert stage.leeward("incident", "show", incident)["status"] == "closed"
    assert len(stage.inbox.slack("#incident-response")) == before
    assert stage.cloud.rights()["leeward-primary-exercise"].denied == ()


REVIEW = {
    "root-cause-analysis": "A fan stood still.\n\n- nobody heard it",
    "impact-assessment": "None for <b>customers</b>.",
    "lessons-learned": "- Listen to fans\n- Label <the> cables",
    "update-runbooks": "Yes, see the actions.",
    "improve-monitoring": "A sensor for each fan.",
    "training-needs": "None.",
    "tool-enhancements": "None.",
    "incident-summary": "There was smoke, and no fire.",
    "impact-details": "None.",
    "remediation-steps": "The fan was replaced.",
}


def test_the_review_is_written_finished_sealed_and_corrected(stage: Stage, tmp_path: Path) -> None:
    ended = stage.leeward("incident", "list", "--ended")["incidents"]
    incident = next(it["incident"] for it in ended if it["status"] == "recovered")
    asked = stage.leeward("review", "show", incident, status=1)
    assert asked["missing"] == list(REVIEW)

    def write(field: str, text: str, status: int = 0) -> Any:
        words = ("review", "write", incident, "--field", field, "--text", text, "--by", "cto")
        return stage.leeward(*words, status=status)

    def finish(by: str, code: str = "", status: int = 0) -> Any:
        words = ("review", "finish", incident, "--by", by, "--code", code or stage.code(by))
        return stage.leeward(*words, status=status)

    assert write("weather", "x", 2)["error"]["code"] == "unknown-field"
    for number, (field, text) in enumerate(REVIEW.items()):
        if number == 1:
            early = finish("cto", "000000", status=1)
            assert early["error"]["code"] == "review-incomplete"
            assert "impact-assessment" in early["error"]["message"]
        write(field, text)
    assert finish("vp-engineering", "000000", status=1)["error"]["code"] == "wrong-code"
    assert stage.leeward("review", "show", incident)["finished"] is None
    finished = finish("vp-engineering")
    assert finished["version"] == 1
    assert finish("security-lead") == finished

    folder = tmp_path / "1"
    stage.leeward("review", "fetch", incident, "--out", str(folder))
    verdict = stage.leeward("evidence", "verify", str(folder))
    assert (verdict["ok"], verdict["signature"]) == (True, "key-not-given")
    page = (folder / "report.html").read_text()
    assert "None for &lt;b&gt;customers&lt;/b&gt;." in page
    assert "finished by vp-engineering" in page
    record = folder / "people" / "records" / "000001.json"
    record.write_bytes(record.read_bytes().replace(b"a", b"b", 1))
    broken = stage.leeward("evidence", "verify", str(folder), status=1)
    assert {it["where"] for it in broken["findings"]} >= {"people/records/000001.json"}

    write("lessons-learned", "- Listen to fans")
    assert stage.leeward("review", "show", incident)["changed_since"]
    assert finish("cto")["version"] == 2
    [learned] = stage.leeward("lessons")["lessons"]
    assert learned["incident"] == incident
    assert [it["says"] for it in learned["lessons"]] == ["Listen to fans"]


def test_an_action_is_seen_and_its_owner_reminded_once_a_day_until_it_is_done(
    stage: Stage,
) -> None:
    ended = stage.leeward("incident", "list", "--ended")["incidents"]
    incident = next(it["incident"] for it in ended if it["status"] == "recovered")
    due = (datetime.now(UTC).date() + timedelta(days=3)).isoformat()
    made = stage.leeward(
        "action", "add", "Buy a <new> fan", "--incident", incident, "--owner", "dba-lead",
        "--due", due, "--by", "cto",
    )  # fmt: skip
    listed = stage.leeward("action", "list", status=1)
    assert listed["plan_review"]["standing"] == "overdue"
    [line] = listed["actions"]
    assert (line["action"], line["standing"], line["owner_title"]) == (
        made["action"], "due soon", "DBA Lead",
    )  # fmt: skip
    assert stage.leeward("incident", "show", incident)["actions"] == [line]

    def reminded() -> list[str]:
        stage.cloud.fire("people-reminders")
        assert stage.cloud.wait_idle()
        stage.tick()
        return [it for it in stage.inbox.slack("@dba-lead") if "new" in it]

    assert len(reminded()) == 1
    [text] = reminded()
    assert text.startswith("*Due soon: Buy a &lt;new&gt; fan*")
    heard = [it for it in stage.inbox.slack("#incident-response") if "Overdue: the review" in it]
    assert len(heard) <= 1

    reviewed = ("plan", "reviewed", "--by", "vp-engineering", "--says", "fans are in it now")
    wrong = stage.leeward(*reviewed, "--code", "000000", status=1)
    assert wrong["error"]["code"] == "wrong-code"
    assert stage.leeward("action", "list", status=1)["plan_review"]["standing"] == "overdue"
    assert stage.leeward(*reviewed, "--code", stage.code("vp-engineering"))["due_on"]
    stage.leeward("action", "done", made["action"], "--by", "dba-lead", "--says", "bought")
    done = stage.leeward("action", "list", "--all")
    assert [it["standing"] for it in done["actions"]] == ["done"]
    assert done["plan_review"]["standing"] == "standing"
    assert stage.leeward("lessons")["lessons"][0]["lessons"][0]["done"] is True
    assert len(reminded()) == 1


def test_a_step_goes_on_unanswered_where_the_plan_says_so(stage: Stage) -> None:
    said = stage.leeward(
        "incident", "declare", "unasked", "--by", "vp-engineering",
        "--code", stage.code("vp-engineering"), "--reason", "nobody is there",
    )  # fmt: skip
    assert stage.ended("unasked", said["run"]) == "SUCCEEDED"
    records = stage.records(said["incident"])
    [first] = [it for it in records if it.kind == "decision"]
    assert (first.step, first.body["what"]) == ("go-on", "go on unanswered")
    assert "in 5 s" in first.body["why"]


def test_a_step_that_takes_too_long_ends_with_its_worker_and_is_not_begun_again(
    stage: Stage,
) -> None:
    said = stage.leeward(
        "incident", "declare", "late", "--by", "vp-engineering",
        "--code", stage.code("vp-engineering"), "--reason", "is it up?",
    )  # fmt: skip
    assert stage.ended("late", said["run"]) == "FAILED"
    records = stage.records(said["incident"])
    [failed] = [it for it in records if it.kind == "step-failed"]
    assert (failed.body["code"], failed.body["attempt"]) == ("step-late", 2)
    assert "within 4 s" in failed.body["message"]
    assert "look is late, this worker ends" in stage.cloud.logs("verify_services")


def test_an_alarm_that_starts_nothing_is_told_to_those_inside_until_it_is_over(
    stage: Stage,
) -> None:
    name = "nexus-db-wal-behind"
    for kind in ("new", "known"):
        # Nothing was raised before that it would have to wait with.
        stage.state.remove("alarm-bursts", kind, expected={})
    stage.measure("nexus-db", "WalBehind", 1.0)

    def heard() -> list[str]:
        return [it for it in stage.inbox.slack("#incident-response") if name in it]

    [text] = wait_for(heard, "nobody was told of the alarm")
    assert text.startswith(f"*Raised: {name}*")
    assert SIGN_OF_LAG in text
    assert stage.alert(name) == "triggered"
    stage.sweep()
    stage.sweep()
    assert len(heard()) == 1, "told once"
    shown = stage.leeward("alarms", status=1)
    assert shown["known"]
    assert name in {it["alarm"] for it in shown["alarms"]}

    stage.measure("nexus-db", "WalBehind", 0.0)
    stage.sweep()
    assert len(heard()) == 1, "it may come again at once"
    stage.set_back("alarms", name, "seen_at", minutes=16)
    stage.sweep()
    assert wait_for(lambda: heard()[1:], "nobody was told of its end")[0].startswith("*Over: ")
    wait_for(lambda: stage.alert(name) == "resolved", "the pager rings on")


def test_an_alarm_whose_event_was_lost_starts_its_scenario_all_the_same(stage: Stage) -> None:
    name = "nexus-db-checks-unable"
    stage.sweep()
    events = stage.cloud.client("events")
    [rule] = [
        it["Name"]
        for it in events.list_rules()["Rules"]
        if "CloudWatch Alarm State Change" in it.get("EventPattern", "")
    ]
    events.disable_rule(Name=rule)
    stage.measure("nexus-db", "ChecksUnable", 1.0)
    events.enable_rule(Name=rule)
    stage.sweep()
    assert stage.incidents_of("nexus-site") == [], "its event may be on its way"

    changed = cloudwatch_backends[ACCOUNT][PRIMARY_REGION].alarms[name]
    changed.state_updated_timestamp -= timedelta(minutes=3)
    stage.set_back("alarms-looked", "first", "at", minutes=-10)
    stage.sweep()
    assert stage.incidents_of("nexus-site") == [], "raised before anybody looked"
    stage.set_back("alarms-looked", "first", "at", minutes=20)
    stage.sweep()
    [incident] = stage.incidents_of("nexus-site")
    [opened] = [it for it in stage.records(incident) if it.kind == "incident-opened"]
    assert (opened.body["alarm"], opened.body["scenario"]) == (name, "alarmed")
    assert opened.body["reason"].endswith("(found raised)")
    # Whoever opened it died before all was done: it is done again, for the very same signal.
    assert stage.state.remove("signals", f"handled#{name}", expected={})
    stage.sweep()
    assert stage.state.get("signals", f"handled#{name}") is not None
    assert stage.incidents_of("nexus-site") == [incident]
    assert [it.kind for it in stage.records(incident)].count("alarm-joined") == 0


def test_what_is_done_once_a_week_is_looked_at_by_the_deployed_function(stage: Stage) -> None:
    client, name = stage.cloud.client("cloudwatch"), "nexus-db-check-primary-silent"

    def standing() -> str:
        [alarm] = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        return str(alarm["StateValue"])

    assert standing() != "OK"
    stage.cloud.fire("seldom-look-1")
    assert stage.cloud.wait_idle()
    assert standing() == "OK", "nothing is late yet"
    kept = stage.state.get("seldom", "look-1")
    assert kept is not None
    assert "Checked.primary" in kept["last"]["nexus-db"]


def test_what_tells_people_is_silent_and_cloudwatch_tells_them(stage: Stage) -> None:
    topics = {
        region: sns_backends[ACCOUNT][region].topics for region in (PRIMARY_REGION, STANDBY_REGION)
    }
    for region, found in topics.items():
        [topic] = found.values()
        client, before = stage.cloud.client("cloudwatch", region), len(topic.sent_notifications)
        # It may be silent already: nothing looks by itself here.
        for state in ("OK", "ALARM"):
            client.set_alarm_state(
                AlarmName="people-tell-silent", StateValue=state, StateReason="nobody looked"
            )
        subjects = [str(it[2]) for it in topic.sent_notifications[before:]]
        assert 'ALARM: "people-tell-silent"' in subjects, region


def test_rights_are_enough_and_no_more(stage: Stage) -> None:
    rights = stage.cloud.rights()
    assert {name: it.denied for name, it in rights.items() if it.denied} == {}
    for function, rare in RARE_OF.items():
        unused = set(rights[f"leeward-primary-{function}"].unused)
        assert unused <= set(rare), function


def test_no_secret_is_in_a_log_or_in_the_evidence(stage: Stage) -> None:
    texts = [stage.cloud.logs(name) for name in ("ask", "answer", "tell", "escalate", "on_alarm")]
    s3, bucket = stage.cloud.client("s3"), stage.deployed.names["EvidenceBucket"]
    for listed in s3.list_objects_v2(Bucket=bucket)["Contents"]:
        texts.append(s3.get_object(Bucket=bucket, Key=listed["Key"])["Body"].read().decode())
    everything = "".join(texts)
    assert "people-inc-" in "".join(
        it["Key"] for it in s3.list_objects_v2(Bucket=bucket)["Contents"]
    )
    hidden = [*stage.secrets.values(), stage.inbox.token, stage.inbox.routing_key]
    assert [it for it in hidden if it in everything] == []
    assert "AQCEAAAA" not in everything
