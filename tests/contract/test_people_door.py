"""What people say comes in by one door: whatever it is, it gets an answer that can be acted on."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from chalicelib.plan.lines import read_lines
from chalicelib.services import build, showing
from chalicelib.services.people import answers as people
from leeward.cli import main
from leeward.plan_file import load_plan
from tests.s3_servers import moto_server

PLAN = Path(__file__).parents[2] / "policies" / "plans" / "nexus-studio.yaml"
NAMES = {
    "LEEWARD_STATE_TABLE": "state", "LEEWARD_BACKUP_BUCKET": "backups",
    "LEEWARD_EVIDENCE_BUCKET": "evidence", "LEEWARD_DATA_KEY": "", "LEEWARD_SIGNING_KEY": "",
    "LEEWARD_STATE_MACHINE_PREFIX": "arn:aws:states:us-east-1:123456789012:stateMachine:x-",
    "LEEWARD_FUNCTION_PREFIX": "leeward-primary-", "LEEWARD_ENVELOPE_KEYS": "",
    "LEEWARD_REPLICA_BUCKETS": "{}", "LEEWARD_FACTOR_KEY": "", "LEEWARD_STACK": "primary",
    "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
}  # fmt: skip
BUILT = (*vars(build).values(), *vars(people).values())
CACHED = [it for it in BUILT if hasattr(it, "cache_clear")]


@pytest.fixture(scope="module", autouse=True)
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The services as a function has them, over an empty table."""
    before = dict(os.environ)
    plan = tmp_path_factory.mktemp("plan") / "plan.json"
    file = load_plan(PLAN)
    plan.write_text(json.dumps(file.plan.to_json()))
    plan.with_name("plan-lines.json").write_text(json.dumps(file.lines.to_json()))
    os.environ.pop("AWS_ENDPOINT_URL", None)
    os.environ |= NAMES | {"LEEWARD_PLAN": str(plan)}
    with moto_server() as s3, mock_aws():
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
        boto3.client("s3").create_bucket(Bucket="evidence")
        for it in CACHED:
            it.cache_clear()
        yield
    for it in CACHED:
        it.cache_clear()
    os.environ.clear()
    os.environ |= before


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({}, "bad-answer"),
        ({"verb": "rm"}, "unknown-verb"),
        ({"verb": ["answer"]}, "unknown-verb"),
        ({"run_id": "run-9", "step": "s", "by": "cto", "decision": "approve", "key": "k"},
         "unknown-run"),
        ({"verb": "settle"}, "unknown-run"),
        ({"verb": "ack", "incident": "<script>"}, "unknown-incident"),
        ({"verb": "close", "incident": "inc-9", "reason": "x"}, "unknown-incident"),
        ({"verb": "declare", "scenario": "no-such"}, "bad-declaration"),
        ({"verb": "declare", "scenario": "ransomware"}, "bad-declaration"),
        ({"verb": "declare", "scenario": "ransomware", "reason": "x", "by": "mallory"},
         "unknown-person"),
        ({"verb": "declare", "scenario": "ransomware", "reason": "x", "by": "cto"},
         "not-entitled"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_a_code_and_a_hint(
    event: dict[str, Any], code: str
) -> None:
    error = people.answer(event)["error"]
    assert error["code"] == code
    assert error["hint"]
    assert error["kind"] in ("BadInput", "Refused", "NotReady")


def test_an_empty_desk_is_told_as_such() -> None:
    assert showing.show({"verb": "incidents"}) == {"incidents": [], "next": None}
    assert showing.show({"verb": "messages"}) == {"messages": [], "next": None}


def test_what_people_agree_on_after_an_incident_is_kept_without_its_secrets() -> None:
    state = build.state()
    incident = {
        "id": "inc-1", "component": "nexus-db", "scenario": "database-corruption",
        "severity": "SEV1", "signal": "x", "signal_at": "2026-11-22T08:45:00.000000Z",
        "opened_at": "2026-11-22T08:45:00.000000Z", "status": "recovered", "runs": 1,
    }  # fmt: skip
    state.create("incidents", "inc-1", incident)
    wanted = {"verb": "action-add", "incident": "inc-1", "owner": "dba-lead", "by": "cto",
              "due": "2999-01-01", "key": "k"}  # fmt: skip
    hidden = "hunter2"
    made = people.answer(wanted | {"what": f"Change\npostgresql://app:{hidden}@db/x"})
    assert people.answer(wanted | {"what": "said twice"})["action"] == made["action"]
    shown = showing.show({"verb": "actions", "incident": "inc-1"})
    [line] = shown["actions"]
    assert line["what"].startswith("Change postgresql://")
    assert hidden not in json.dumps(shown)
    for event, code in (
        ({"owner": "mallory"}, "unknown-person"),
        ({"what": ""}, "bad-words"),
        ({"what": "x" * 501}, "bad-words"),
        ({"due": "soon", "key": "other"}, "bad-day"),
        ({"incident": "inc-9"}, "unknown-incident"),
        ({"verb": "review-write", "field": "x", "text": "y"}, "unknown-field"),
        ({"verb": "review-finish"}, "review-incomplete"),
        ({"verb": "action-done", "action": "act-99"}, "unknown-action"),
        ({"verb": "action-drop", "action": made["action"]}, "bad-words"),
        ({"verb": "plan-reviewed", "by": "mallory"}, "unknown-person"),
        ({"verb": "plan-reviewed", "by": "vp-engineering"}, "not-enrolled"),
    ):
        assert people.answer(wanted | {"what": "y"} | event)["error"]["code"] == code, event
    state.remove("incidents", "inc-1", expected={})
    state.remove("actions", made["action"], expected={})


def test_findings_have_the_lines_that_the_operator_sees() -> None:
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit):
        main(["check", str(PLAN), "--format", "json"])
    seen = showing.show({"verb": "findings"})
    assert seen["file"] == "nexus-studio.yaml"
    told = sorted((it["rule"], it["path"], it["line"]) for it in seen["findings"])
    checked = json.loads(said.getvalue())["findings"]
    assert len({it["line"] for it in checked}) > 20
    assert told == sorted((it["rule"], it["path"], it["line"]) for it in checked)
    other = build.environment().plan
    assert read_lines(other, build.plan().plan_sha256) is not None
    assert read_lines(other, "0" * 64) is None, "lines of another plan"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
FIELDS = ("run_id", "step", "decision", "by", "code", "reason", "key", "incident", "scenario",
          "moment", "drill", "ended")  # fmt: skip


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    verb=st.sampled_from([*people.VERBS, None]),
    fields=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8),
)
def test_whatever_comes_in_gets_an_answer(verb: Any, fields: dict[str, Any]) -> None:
    said = people.answer({"verb": verb} | fields)
    if "error" in said:
        assert said["error"]["code"]
        assert json.dumps(said)
