"""The JSON API by HTTP to the deployed package: who may, what counts once, what it answers."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import schemathesis
import urllib3
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from chalicelib.api.openapi import describe
from chalicelib.api.routes import DESCRIPTION
from leeward.local.cloud import STANDBY_REGION
from tests.apis import ELSEWHERE, HOSTILE, SCENARIO, Api, deployed_api
from tests.clouds import wait_for

MARKUP = "<b onmouseover=alert(1)>smoke</b> <!channel> {{7*7}} \u202e"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with deployed_api(tmp_path_factory.mktemp("api")) as made:
        yield made


@pytest.fixture(scope="module")
def reader(api: Api) -> str:
    return api.token("system:test", "read")


@pytest.fixture(scope="module")
def cto(api: Api) -> str:
    return api.token("cto")


def declare(api: Api, token: str, **more: Any) -> dict[str, Any]:
    body = {"scenario": SCENARIO, "reason": MARKUP, "code": api.code("cto")}
    answer = api.ask("POST", "v1/incidents", token=token, body=body, **more)
    assert answer.status == 201, answer.data
    return dict(answer.json())


@pytest.fixture(scope="module")
def declared(api: Api, cto: str) -> dict[str, Any]:
    """An incident whose run waits for two people."""
    return declare(api, cto)


def title(answer: urllib3.BaseHTTPResponse) -> str:
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.json()) >= {"type", "title", "status", "detail", "hint"}
    assert answer.json()["status"] == answer.status
    return str(answer.json()["title"])


def changed(token: str, **claims: Any) -> str:
    head, body, mac = token.split(".")
    data = json.loads(base64.urlsafe_b64decode(body + "=="))
    spoilt = base64.urlsafe_b64encode(json.dumps(data | claims).encode()).decode().rstrip("=")
    return f"{head}.{spoilt}.{mac}"


def without_signature(token: str) -> str:
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    return f"{none}.{token.split('.')[1]}."


def test_who_shows_no_good_token_is_told_so(api: Api, reader: str) -> None:
    revoked = api.leeward("token", "issue", "--for", "system:gone", "--scope", "read")
    assert api.get("v1/people", revoked["token"])["people"]
    api.leeward("token", "revoke", revoked["id"])
    spoilt = {
        "": "no-token",
        "x": "bad-token",
        changed(reader, sub="cto"): "bad-token",
        changed(reader, scope="act"): "bad-token",
        changed(reader, exp=4_000_000_000): "bad-token",
        without_signature(reader): "bad-token",
        revoked["token"]: "token-revoked",
        api.token("cto", region=STANDBY_REGION): "bad-token",
    }
    for token, code in spoilt.items():
        answer = api.ask("GET", "v1/people", token=token)
        assert (answer.status, title(answer)) == (401, code)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    cookie = api.ask("GET", "v1/people", Cookie=f"session={reader}; token={reader}")
    assert (cookie.status, title(cookie)) == (401, "no-token")


def test_a_token_that_is_over_is_refused(api: Api) -> None:
    made = api.leeward("token", "issue", "--for", "cto", "--scope", "read", "--hours", "0.0006")
    wait_for(
        lambda: api.ask("GET", "v1/people", token=made["token"]).status == 401 or None,
        "it stayed good", seconds=10,
    )  # fmt: skip
    assert title(api.ask("GET", "v1/people", token=made["token"])) == "token-expired"


def test_who_may_read_may_not_act(api: Api, reader: str) -> None:
    body = {"scenario": SCENARIO, "reason": "x", "code": "000000"}
    answer = api.ask("POST", "v1/incidents", token=reader, body=body)
    assert (answer.status, title(answer)) == (403, "wrong-scope")
    refused = api.leeward("token", "issue", "--for", "system:x", "--scope", "act")
    assert refused["error"]["code"] == "program-acts"


def test_answers_are_for_nobody_else(api: Api, reader: str) -> None:
    for answer in (api.ask("GET", "v1/people", token=reader), api.ask("GET", "v1/people")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "v1/incidents/inc-9", 404, "unknown-incident"),
        ("GET", "v1/runs/run-9", 404, "unknown-run"),
        ("GET", "v1/runs/%2e%2e%2f", 404, "not-found"),
        ("GET", "v1/runs/<script>", 404, "not-found"),
        ("GET", "v1/components/nothing/points", 404, "unknown-component"),
        ("GET", "v1/incidents?limit=0", 400, "bad-request"),
        ("GET", "v1/incidents?limit=5&limit=6", 400, "bad-request"),
        ("GET", "v1/incidents?cursor=%25", 400, "bad-cursor"),
        ("GET", "v1/incidents?ended=yes", 400, "bad-request"),
        ("GET", "v1/incidents?unknown=1", 400, "bad-request"),
        ("PUT", "v1/incidents", 405, "method-not-allowed"),
        ("POST", "v1/people", 405, "method-not-allowed"),
    ],
)
def test_what_cannot_be_shown_is_a_problem(
    api: Api, reader: str, method: str, path: str, status: int, code: str
) -> None:
    answer = api.ask(method, path, token=reader)
    assert (answer.status, title(answer)) == (status, code)
    assert answer.json()["hint"]


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"body": b"{"}, 400, "bad-request"),
        ({"body": b"[" * 5000}, 400, "bad-request"),
        ({"body": b"\xff\xfe"}, 400, "bad-request"),
        ({"body": b'{"scenario": "\\ud800"}'}, 400, "bad-request"),
        ({"body": None}, 400, "bad-request"),
        ({"body": {"scenario": SCENARIO, "reason": "x"}}, 400, "bad-request"),
        ({"body": {"scenario": SCENARIO, "reason": " ", "code": "123456"}}, 400, "bad-request"),
        ({"body": {"scenario": 7, "reason": "x", "code": "123456"}}, 400, "bad-request"),
        ({"body": {"scenario": "nothing", "reason": "x", "code": "123456"}}, 400,
         "bad-declaration"),
        ({"body": {"scenario": SCENARIO, "reason": "x", "code": "123456", "by": "vp"}}, 400,
         "bad-request"),
        ({"body": b"x" * 20_000}, 413, "too-large"),
        ({"body": {}, "Content_Type": "text/plain"}, 415, "not-json"),
        ({"body": {}, "key": "short"}, 400, "no-idempotency-key"),
        ({"body": {}, "Idempotency_Key": ""}, 400, "no-idempotency-key"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_a_problem(
    api: Api, cto: str, sent: dict[str, Any], status: int, code: str
) -> None:
    answer = api.ask("POST", "v1/incidents", token=cto, **sent)
    assert (answer.status, title(answer)) == (status, code)


def test_the_fields_that_are_wrong_are_named(api: Api, cto: str) -> None:
    body = {"scenario": SCENARIO, "code": "123456", "more": "s3cret"}
    answer = api.ask("POST", "v1/incidents", token=cto, body=body)
    assert {it["path"] for it in answer.json()["errors"]} == {"/reason", "/more"}
    assert b"s3cret" not in answer.data
    assert b"123456" not in answer.data


def test_an_incident_from_its_declaration_to_its_end(
    api: Api, cto: str, declared: dict[str, Any]
) -> None:
    waiting = api.waits(declared["run"], cto)
    assert (waiting["step"], waiting["says"], waiting["by"]) == ("tell", HOSTILE, [])
    run = api.get(f"v1/runs/{declared['run']}", cto)
    assert [it["state"] for it in run["steps"]] == ["waiting"]
    assert run["clocks"]["rto_so_far_seconds"] < run["clocks"]["rto_objective_seconds"]
    path = f"v1/approvals/{declared['run']}/tell"
    own = {"decision": "approve", "code": api.code("cto"), "reason": ""}
    answer = api.ask("POST", path, token=cto, body=own)
    assert (answer.status, title(answer)) == (403, "own-request")
    wrong = api.ask("POST", path, token=cto, body=own | {"code": "000000"})
    assert wrong.status == 403

    for person, outcome in (("vp-engineering", "waiting"), ("security-lead", "approved")):
        body = {"decision": "approve", "code": api.code(person), "reason": MARKUP}
        token, key = api.token(person), uuid.uuid4().hex
        with ThreadPoolExecutor(4) as storm:  # a double click, and two more
            sent = [
                storm.submit(api.ask, "POST", path, token=token, body=body, key=key)
                for _ in range(4)
            ]
        answers = [it.result() for it in sent]
        assert {it.status for it in answers} <= {200, 409}
        last = api.ask("POST", path, token=token, body=body, key=key)
        assert (last.status, last.json()["outcome"]) == (200, outcome)
        assert last.headers["Idempotency-Replayed"] == "true"
        assert {it.data for it in answers if it.status == 200} <= {last.data}
    shown = api.get(f"v1/incidents/{declared['incident']}", cto)
    [first, *_] = shown["questions"]
    assert (first["answered"], sorted(first["by"])) == (
        "approved", ["security-lead", "vp-engineering"],
    )  # fmt: skip


def test_one_key_is_one_request(api: Api, cto: str, declared: dict[str, Any]) -> None:
    path = f"v1/incidents/{declared['incident']}/acknowledgement"
    key = uuid.uuid4().hex
    first = api.ask("POST", path, token=cto, body={}, key=key)
    again = api.ask("POST", path, token=cto, body={}, key=key)
    assert (first.status, again.status, again.data) == (200, 200, first.data)
    shown = api.get(f"v1/incidents/{declared['incident']}", cto)
    assert [it["by"] for it in shown["acknowledged"]] == ["cto"]
    other = api.ask("POST", "v1/runs", token=cto, key=key,
                    body={"scenario": SCENARIO, "code": "000000"})  # fmt: skip
    assert (other.status, title(other)) == (422, "key-reused")
    same = api.ask("POST", path, token=api.token("vp-engineering"), body={}, key=key)
    assert same.status == 200  # a key is each person's own


def test_a_run_ends_when_a_person_says_that_their_step_is_done(
    api: Api, cto: str, declared: dict[str, Any]
) -> None:
    path, own_token = f"v1/approvals/{declared['run']}/tell", api.token("security-lead")
    own = {"decision": "done", "code": api.code("security-lead")}
    wait_for(
        lambda: [it for it in api.get("v1/approvals", cto)["approvals"] if it["kind"] == "do"],
        "the step was not asked for", seconds=60,
    )  # fmt: skip
    assert api.ask("POST", path, token=own_token, body=own).json()["outcome"] == "done"
    ended = wait_for(
        lambda: api.get(f"v1/runs/{declared['run']}", cto)["status"] != "running" or None,
        "the run did not end", seconds=60,
    )  # fmt: skip
    assert ended
    run = api.get(f"v1/runs/{declared['run']}", cto)
    [step] = run["steps"]
    assert (run["status"], step["state"]) == ("recovered", "done")
    assert 0 < step["seconds"] <= run["clocks"]["rto_so_far_seconds"]
    again = api.ask("POST", path, token=own_token, body=own)
    assert (again.status, title(again)) == (409, "run-over")


def test_pages_lead_from_one_to_the_next(api: Api, reader: str, declared: dict[str, Any]) -> None:
    body = {"scenario": SCENARIO, "code": api.code("vp-engineering")}
    drill = api.ask("POST", "v1/runs", token=api.token("vp-engineering"), body=body)
    assert drill.status == 201, drill.data
    first = api.ask("GET", "v1/incidents?limit=1&ended=true", token=reader)
    [newest] = first.json()["incidents"]
    assert (newest["incident"], newest["drill"]) == (drill.json()["incident"], True)
    link = first.headers["Link"].removeprefix("<").removesuffix('>; rel="next"')
    second = api.get(f"v1/incidents{link}", reader)
    assert [it["incident"] for it in second["incidents"]] == [declared["incident"]]
    assert second["next"] is None
    runs = api.get("v1/runs", reader)["runs"]
    assert {it["run"] for it in runs} == {declared["run"], drill.json()["run"]}


def test_one_browser_signs_in_with_a_link(api: Api) -> None:
    made = api.leeward("dashboard", "--by", "cto")
    assert made["address"].startswith(api.urls["us-east-1"])
    secret = made["address"].partition("sign-in?link=")[2]
    client = api.cloud.outside("lambda")

    def sign_in() -> Any:
        event = json.dumps({"verb": "sign-in", "link": secret})
        said = client.invoke(FunctionName="leeward-primary-answer", Payload=event)
        return json.loads(said["Payload"].read())

    session = sign_in()
    assert session["person"] == "cto"
    assert api.get("v1/people", session["token"])
    assert sign_in()["error"]["code"] == "bad-link"


def test_the_document_is_served(api: Api, reader: str) -> None:
    assert api.get("v1/openapi.json", reader) == describe()


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.mark.parametrize("mode", tuple(GenerationMode), ids=lambda it: str(it.value))
def test_whatever_is_asked_the_answer_is_as_described(
    api: Api, cto: str, mode: GenerationMode
) -> None:
    """With what the document allows, and with what it forbids."""
    for operation in schemathesis.openapi.from_dict(describe()).get_all_operations():
        if mode == GenerationMode.POSITIVE or operation.ok().path != DESCRIPTION:
            _try(operation.ok(), mode, api, cto)


def _try(operation: Any, mode: GenerationMode, api: Api, token: str) -> None:
    @settings(max_examples=6, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.headers["Authorization"] = f"Bearer {token}"
        case.call_and_validate(base_url=api.urls["us-east-1"].rstrip("/"), checks=CHECKS)

    ask()


def test_people_answer_while_the_primary_region_is_lost(api: Api) -> None:
    api.cloud.fail(region="us-east-1")
    try:
        token = api.token("cto", region=STANDBY_REGION)
        body = {"scenario": ELSEWHERE, "reason": "it is flooded",
                "code": api.code("cto", STANDBY_REGION)}  # fmt: skip
        asked = api.ask("POST", "v1/incidents", token=token, body=body, region=STANDBY_REGION)
        assert asked.status == 201, asked.data
        api.waits(asked.json()["run"], token, STANDBY_REGION)
        path = f"v1/approvals/{asked.json()['run']}/tell"
        outcomes = []
        for person in ("vp-engineering", "security-lead"):
            said = {"decision": "approve", "code": api.code(person, STANDBY_REGION)}
            own = api.token(person, region=STANDBY_REGION)
            answer = api.ask("POST", path, token=own, body=said, region=STANDBY_REGION)
            assert answer.status == 200, answer.data
            outcomes.append(answer.json()["outcome"])
        assert outcomes == ["waiting", "approved"]
    finally:
        api.cloud.heal()


def evidence(api: Api) -> str:
    s3, bucket = api.cloud.outside("s3"), api.deployed.outputs["EvidenceBucket"]
    keys = [it["Key"] for it in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    found = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys]
    return b"".join(found).decode()


def test_no_token_code_or_link_is_in_a_log_in_the_state_or_in_the_evidence(
    api: Api, cto: str
) -> None:
    made = api.leeward("dashboard", "--by", "cto")
    link = made["address"].partition("sign-in?link=")[2]
    table = api.deployed.outputs["StateTable"]
    pages = api.cloud.outside("dynamodb").get_paginator("scan").paginate(TableName=table)
    kept = json.dumps([it for page in pages for it in page["Items"]], default=str)
    kept += evidence(api)
    assert "token-issued" in kept
    logs = {name: api.cloud.logs(name) for name in ("api_handler", "answer", "show")}
    assert all(logs.values())
    for secret in (cto, cto.rpartition(".")[2], link, *api.devices.values()):
        assert secret not in kept
        assert not [name for name, log in logs.items() if secret in log]
    for code in api.codes():
        assert not [name for name, log in logs.items() if code in log]
        assert f'"{code}"' not in kept


def test_the_rights_are_those_that_are_needed(api: Api) -> None:

    rights = api.cloud.rights()
    found = rights["leeward-primary-api_handler"]
    assert not found.denied, found.denied
    assert set(found.unused) <= {"secretsmanager:GetSecretValue"}  # Slack's: test_chatops.py
    shows = rights["leeward-primary-show"]
    assert not shows.denied, shows.denied
