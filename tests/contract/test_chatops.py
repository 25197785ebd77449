"""Slack, by HTTP, to the deployed package: what it signs counts once, and nothing else counts."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import pyotp
import pytest
import urllib3

from chalicelib.plan.model import Plan
from leeward.cli import main
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION, LocalCloud
from leeward.local.deploy import Deployed, deploy
from leeward.packaging.package import build_package
from leeward.plan_file import load_plan
from tests.clouds import wait_for
from tests.receivers import Receiver, http_receiver

ROOT = Path(__file__).parents[2]
PLAN = ROOT / "policies" / "plans" / "nexus-studio.yaml"
SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
TOKEN = "xoxb-of-the-test"
MEMBERS = {"U0CTO": "cto", "U0VP": "vp-engineering", "U0SEC": "security-lead"}
SCENARIO = "fire-drill"
SLACK_WAITS_SECONDS, RESERVE_SECONDS = 3.0, 1.0


def people_in_slack(data: dict[str, Any]) -> dict[str, Any]:
    """The plan with members of a workspace, and one scenario of people alone."""
    data["roles"]["incident-commander"]["held_by"] = list(MEMBERS.values())
    for member, person in MEMBERS.items():
        data["contacts"][person]["reach"] = {"slack": member}
        data["contacts"][person].pop("audience", None)
    data["escalation"] = [{"who": "CTO", "contact": "cto", "after": 3600}]
    approve = {"by": ["incident-commander"], "count": 2, "within": 900, "otherwise": "stop"}
    step = {"name": "tell", "says": "Tell <everybody>", "uses": "people.tell",
            "with": {"audience": "customers"}, "approve": approve}  # fmt: skip
    data["scenarios"] = {
        SCENARIO: {"title": "Fire drill", "component": "nexus-db", "severity": "SEV1",
                   "steps": [step]},
    }  # fmt: skip
    data["testing"] = data["verification"] = []
    return data


@dataclass
class Workspace:
    """Slack as the deployment sees it: `api` is where it is told something."""

    cloud: LocalCloud
    deployed: Deployed
    url: str
    api: Receiver
    devices: dict[str, str] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)

    def send(
        self, path: str, form: dict[str, str], *, secret: str = SIGNING_SECRET, at: int = 0,
        **more: str,
    ) -> urllib3.BaseHTTPResponse:  # fmt: skip
        body, when = urlencode(form), str(at or int(time.time()))
        digest = hmac.new(secret.encode(), f"v0:{when}:{body}".encode(), hashlib.sha256)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Slack-Request-Timestamp": when,
            "X-Slack-Signature": f"v0={digest.hexdigest()}",
        }
        sent = headers | {name.replace("_", "-"): value for name, value in more.items()}
        url = f"{self.url}slack/{path}"
        with urllib3.PoolManager(retries=False, timeout=60) as pool:
            return pool.request("POST", url, body=body, headers=sent)

    def form(self, text: str, *, user: str = "U0CTO", channel: str = "incident-response") -> Any:
        return {
            "command": "/dr", "text": text, "user_id": user, "user_name": "cto",
            "channel_id": "C0123", "channel_name": channel, "trigger_id": uuid.uuid4().hex,
            "response_url": f"{self.api.url}/response/{uuid.uuid4().hex}",
        }  # fmt: skip

    def says(self, text: str, **who: str) -> str:
        """What the person is shown, at once or afterwards."""
        form = self.form(text, **who)
        answer = self.send("commands", form)
        assert answer.status == 200, answer.data
        if answer.data:
            return str(json.loads(answer.data)["text"])
        return self.shown(form["response_url"])

    def shown(self, address: str) -> str:
        path = address.removeprefix(self.api.url)

        def look() -> str | None:
            found = [it.json for it in self.api.got if it.path == path]
            return "\n".join(_texts(found[-1])) if found else None

        return str(wait_for(look, "nothing was shown", seconds=30))

    def dialog(self, trigger: str) -> dict[str, Any]:
        def look() -> Any:
            opened = [it.json for it in self.api.got if it.path == "/api/views.open"]
            return next((it["view"] for it in opened if it["trigger_id"] == trigger), None)

        return dict(wait_for(look, "no window was opened", seconds=30))

    def submit(self, view: dict[str, Any], user: str, code: str, reason: str = "") -> Any:
        values = {"code": {"code": {"value": code}}, "reason": {"reason": {"value": reason}}}
        kept = {name: view[name] for name in ("callback_id", "private_metadata")}
        view = {**kept, "id": uuid.uuid4().hex, "state": {"values": values}}
        payload = {
            "type": "view_submission", "user": {"id": user}, "view": view,
            "trigger_id": uuid.uuid4().hex,
        }  # fmt: skip
        return {"payload": json.dumps(payload)}

    def press(self, verb: str, run: str, step: str, user: str) -> dict[str, Any]:
        """The window that a button opens."""
        trigger = uuid.uuid4().hex
        value = json.dumps({"run_id": run, "step": step})
        payload = {
            "type": "block_actions", "user": {"id": user}, "trigger_id": trigger,
            "channel": {"id": "C0123", "name": "incident-response"},
            "response_url": f"{self.api.url}/response/{trigger}",
            "actions": [{"action_id": verb, "value": value}],
        }  # fmt: skip
        assert self.send("interactions", {"payload": json.dumps(payload)}).status == 200
        return self.dialog(trigger)

    def answers(self, view: dict[str, Any], user: str, code: str, reason: str = "") -> str:
        """What is shown to whoever fills in the window."""
        address = json.loads(view["private_metadata"])["reply_to"]
        before = len(self.api.got)
        form = self.submit(view, user, code, reason)
        assert self.send("interactions", form).status == 200
        path = address.removeprefix(self.api.url)

        def look() -> str | None:
            found = [it.json for it in self.api.got[before:] if it.path == path]
            return "\n".join(_texts(found[0])) if found else None

        return str(wait_for(look, "nothing was shown", seconds=30))

    def code(self, person: str) -> str:
        """The device's next code: each is good once."""
        totp, step = pyotp.TOTP(self.devices[person]), int(time.time()) // 30
        self.used[person] = max(step, self.used.get(person, 0) + 1)
        assert self.used[person] <= step + 1, "codes come one in 30 s"
        return totp.generate_otp(self.used[person])

    def waits(self, incident: str) -> dict[str, Any]:
        def look() -> Any:
            asked = self.ask({"verb": "incident", "incident": incident})["questions"]
            return [it for it in asked if not it["answered"]]

        [question] = wait_for(look, "nothing was asked", seconds=60)
        return dict(question)

    def ask(self, event: dict[str, Any]) -> dict[str, Any]:
        client = self.cloud.outside("lambda")
        said = client.invoke(FunctionName="leeward-primary-show", Payload=json.dumps(event))
        return dict(json.loads(said["Payload"].read()))

    def votes(self, incident: str) -> list[str]:
        shown = self.ask({"verb": "incident", "incident": incident})
        return [by for it in shown["questions"] for by in it["by"]]


def _texts(message: dict[str, Any]) -> list[str]:
    sections = [it for it in message["blocks"] if it["type"] == "section"]
    return [it["text"]["text"] for it in sections]


@pytest.fixture(scope="module")
def slack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("chatops")
    plan = Plan.from_json(people_in_slack(load_plan(PLAN).plan.to_json()))
    package = build_package(plan, folder / "package")
    with LocalCloud(schedules=False) as cloud, http_receiver() as api:
        deployed = deploy(cloud, package, standby=True)
        login = {"token": TOKEN, "url": f"{api.url}/api/", "signing_secret": SIGNING_SECRET}
        for region in (PRIMARY_REGION, STANDBY_REGION):
            client = cloud.client("secretsmanager", region)
            secret = json.dumps({"slack": login})
            client.create_secret(Name=plan.communication.secret, SecretString=secret)
        before = dict(os.environ)
        os.environ |= cloud.environment()
        boto3.DEFAULT_SESSION = None
        yield Workspace(cloud, deployed, cloud.apis["leeward-RestAPI"], api)
        os.environ.clear()
        os.environ |= before
        boto3.DEFAULT_SESSION = None


def test_the_acknowledgement_comes_in_time_from_a_cold_start(slack: Workspace) -> None:
    """Counted in the processor's time, which is what the function has to itself in AWS: this
    machine may do other things at the same time."""
    form = slack.form("status")
    slack.cloud.runner.forks = False
    answer = slack.send("commands", form)
    slack.cloud.runner.forks = True
    [process] = sandboxes(slack.cloud, "leeward-primary-api_handler")
    assert (answer.status, answer.data) == (200, b"")
    assert cpu_seconds(process) < SLACK_WAITS_SECONDS - RESERVE_SECONDS
    assert slack.shown(form["response_url"]) == "No incident is open."


def sandboxes(cloud: LocalCloud, function: str) -> list[Path]:
    """Those of this cloud that have started for the function, as folders below /proc."""
    wanted = {f"AWS_LAMBDA_FUNCTION_NAME={function}", f"AWS_ENDPOINT_URL={cloud.url}"}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted <= set((process / "environ").read_text(errors="replace").split("\0")):
                found.append(process)
    return found


def cpu_seconds(process: Path) -> float:
    """User and system time since it began. Source: proc(5), fields 14 and 15 of stat."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("spoilt", "status"),
    [
        ({"secret": "another"}, 401),
        ({"at": int(time.time()) - 3600}, 401),
        ({"at": int(time.time()) + 3600}, 401),
        ({"X_Slack_Signature": "v0=00"}, 401),
        ({"X_Slack_Signature": "v0=\xe9"}, 401),
        ({"X_Slack_Signature": ""}, 401),
        ({"X_Slack_Request_Timestamp": "soon"}, 401),
        ({"X_Slack_Request_Timestamp": "9" * 5000}, 401),
        ({"Content_Type": "application/json"}, 415),
    ],
)  # fmt: skip
def test_what_slack_did_not_sign_is_refused(
    slack: Workspace, spoilt: dict[str, Any], status: int
) -> None:
    before = len(slack.api.got)
    answer = slack.send("commands", slack.form("status"), **spoilt)
    assert answer.status == status
    if status == 401:
        assert json.loads(answer.data)["title"] == "bad-signature"
    assert slack.cloud.wait_idle()
    assert len(slack.api.got) == before


def test_a_replay_is_refused_and_a_retry_acknowledged_without_a_second_effect(
    slack: Workspace,
) -> None:
    form, at = slack.form("status"), int(time.time())
    assert slack.send("commands", form, at=at).status == 200
    again = slack.send("commands", form, at=at)
    assert (again.status, json.loads(again.data)["title"]) == (409, "replayed")
    with ThreadPoolExecutor(10) as storm:
        sent = [
            storm.submit(slack.send, "commands", form, X_Slack_Retry_Num=str(number))
            for number in range(1, 11)
        ]
    assert [it.result().status for it in sent] == [200] * 10
    assert slack.cloud.wait_idle()
    path = form["response_url"].removeprefix(slack.api.url)
    assert len([it for it in slack.api.got if it.path == path]) == 1


@pytest.mark.parametrize(
    ("text", "who", "said"),
    [
        ("", {}, "HINT: /dr status; /dr declare SCENARIO REASON;"),
        ("rm -rf", {}, "expected a verb after /dr, found 'rm'"),
        ("declare fire-drill", {}, "HINT: /dr declare SCENARIO REASON"),
        ("approve run-1", {}, "HINT: /dr approve RUN STEP"),
        ("status", {"user": "U0MALLORY"}, "no contact with the Slack member id U0MALLORY"),
        ("who", {"channel": "random"}, "HINT: say it in #incident-response"),
        ("explain nothing", {}, "HINT: one of: fire-drill"),
        ("declare nothing really", {}, "the plan has no scenario 'nothing'"),
        ("ack inc-9", {}, "HINT:"),
        ("explain fire-drill", {}, "1. tell: Tell <everybody>"),
        ("who", {}, "cto, vp-engineering, security-lead"),
    ],
)  # fmt: skip
def test_words_get_an_answer_that_can_be_acted_on(
    slack: Workspace, text: str, who: dict[str, str], said: str
) -> None:
    assert said in slack.says(text, **who)


def test_who_gets_no_window_is_told_so(slack: Workspace) -> None:
    form = slack.form(f"drill {SCENARIO}")
    slack.api.moods["/api/views.open"] = "hang"
    assert slack.send("commands", form).status == 200
    assert "Slack did not answer within" in slack.shown(form["response_url"])
    slack.api.moods.clear()


def test_what_is_no_interaction_of_slacks_is_a_problem(slack: Workspace) -> None:
    for payload in ("", "[]", "{", '{"type": "block_actions"}', "[" * 20000):
        answer = slack.send("interactions", {"payload": payload})
        assert (answer.status, json.loads(answer.data)["title"]) == (400, "bad-request")
    assert slack.send("interactions", {"payload": '{"type": "view_closed"}'}).status == 200
    assert slack.send("commands", {"text": "x" * 70_000}).status == 413
    assert urllib3.request("POST", f"{slack.url}other").status == 403


def test_an_incident_is_declared_and_approved_with_codes(slack: Workspace) -> None:
    for person in MEMBERS.values():
        said = io.StringIO()
        with redirect_stdout(said), pytest.raises(SystemExit):
            main(["people", "enrol", person, "--plan", str(PLAN), "--format", "json"])
        slack.devices[person] = pyotp.parse_uri(json.loads(said.getvalue())["address"]).secret

    form = slack.form(f"declare {SCENARIO} smoke in <the> rack")
    assert slack.send("commands", form).status == 200
    view = slack.dialog(form["trigger_id"])
    assert "smoke in <the> rack" in view["blocks"][0]["text"]["text"]
    assert "HINT:" in slack.answers(view, "U0CTO", "000000")
    told = slack.answers(view, "U0CTO", slack.code("cto"))
    incident, run = told.removeprefix("Incident ").split(", run ")
    assert slack.waits(incident)["step"] == "tell"
    assert "waits for tell" in slack.says("status")
    assert "nobody is called until" in slack.says("ack", user="U0SEC")
    shown = slack.ask({"verb": "incident", "incident": incident})
    assert [it["by"] for it in shown["acknowledged"]] == ["security-lead"]

    view = slack.press("approve", run, "tell", "U0VP")
    assert "HINT:" in slack.answers(view, "U0VP", "000000")
    assert slack.votes(incident) == []
    form = slack.submit(view, "U0VP", slack.code("vp-engineering"))
    with ThreadPoolExecutor(10) as storm:  # Slack is impatient
        sent = [
            storm.submit(slack.send, "interactions", form, X_Slack_Retry_Num=str(number))
            for number in range(10)
        ]
    assert [it.result().status for it in sent] == [200] * 10
    wait_for(lambda: slack.votes(incident) or None, "the approval was not counted", seconds=30)
    assert slack.cloud.wait_idle()
    assert slack.votes(incident) == ["vp-engineering"]

    # Whoever asked for it is none of two; and a window opened by one is answered by the other.
    view = slack.press("approve", run, "tell", "U0CTO")
    assert "asked for this run" in slack.answers(view, "U0CTO", slack.code("cto"))
    slack.api.mood = "503"  # Slack is down from now on: what is said counts all the same
    assert slack.send(
        "interactions", slack.submit(view, "U0SEC", slack.code("security-lead"))
    ).status == 200  # fmt: skip
    wait_for(
        lambda: set(slack.votes(incident)) == {"vp-engineering", "security-lead"} or None,
        "the approval was not counted", seconds=30,
    )  # fmt: skip
    slack.cloud.wait_idle()
    slack.api.mood = "ok"
    shown = slack.ask({"verb": "incident", "incident": incident})
    assert [it["answered"] for it in shown["questions"]] == ["approved"]


def test_the_story_of_an_incident_is_one_thread_and_its_question_has_buttons(
    slack: Workspace,
) -> None:
    posts = [it.form for it in slack.api.got if it.path == "/api/chat.postMessage"]
    inside = [it for it in posts if it["channel"] == "#incident-response"]
    # An alarm of Leeward's own is a thread of its own.
    story = [it for it in inside if not it["text"].startswith(("*Raised: ", "*Over: "))]
    assert len(story) >= 3
    beginning, rest = story[0], story[1:]
    assert "thread_ts" not in beginning
    assert {it.get("thread_ts") for it in rest} == {"1700000000.1"}
    asked = [it["blocks"] for it in story if "blocks" in it]
    assert asked, "the question has no buttons"
    assert [it["action_id"] for it in asked[0][-1]["elements"]] == ["approve", "decline"]
    assert any("Tell <everybody>" in it["text"]["text"] for it in asked[0][:-1])


def test_a_drill_is_one(slack: Workspace) -> None:
    form = slack.form(f"drill {SCENARIO}", user="U0VP")
    assert slack.send("commands", form).status == 200
    code = slack.code("vp-engineering")
    told = slack.answers(slack.dialog(form["trigger_id"]), "U0VP", code)
    incident = told.removeprefix("Drill ").split(",")[0]
    assert slack.ask({"verb": "incident", "incident": incident})["drill"] is True


def test_chat_goes_on_in_the_other_region(slack: Workspace) -> None:
    there = replace(slack, url=slack.cloud.apis["leeward-standby-RestAPI"])
    slack.cloud.fail(region=PRIMARY_REGION)
    try:
        assert there.says("status") == "No incident is open."
        link = there.says("dashboard")
    finally:
        slack.cloud.heal()
    assert link.startswith(f"{there.url}sign-in?link=")


def test_no_code_or_login_is_in_a_log(slack: Workspace) -> None:
    for name in ("api_handler", "chat", "answer"):
        log = slack.cloud.logs(name)
        assert log
        for secret in (SIGNING_SECRET, TOKEN):
            assert secret not in log
        for person in slack.devices:
            assert pyotp.TOTP(slack.devices[person]).generate_otp(slack.used[person]) not in log


def test_the_rights_are_those_that_are_needed(slack: Workspace) -> None:
    rights = slack.cloud.rights()
    for name in ("api_handler", "chat"):
        found = rights[f"leeward-primary-{name}"]
        assert not found.denied, found.denied
        assert set(found.unused) <= {"kms:VerifyMac"}  # tests/contract/test_api.py
