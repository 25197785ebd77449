"""No secret reaches the evidence."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from chalicelib.evidence.redact import REDACTED, redact, redact_text
from tests.fakes_records import InMemoryRecords

SECRET = "Zq9-tiger.42"

passwords = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=["Cs"]),
    min_size=8,
    max_size=24,
).map(lambda text: f"Q7{text}x9Z")


@settings(deadline=None)
@given(passwords)
def test_password_of_a_connection_string_is_never_written(password):
    records = InMemoryRecords()
    conninfo = make_conninfo(host="db", user="leeward", password=password, dbname="nexus")
    uri = f"postgresql://leeward:{quote(password, safe='')}@db/nexus?sslmode=require"
    query = f"postgresql://db/nexus?user=x&password={quote(password, safe='')}"
    body = {"a": f"could not connect: {conninfo}", "b": [uri], "c": {"d": query}}
    records.append("inc-1", "step-failed", body | {"e": json.dumps(body)}, actor="leeward")
    written = b"".join(records.objects.values()).decode()
    assert "x9Z" not in written
    assert "db" in written


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://app:{SECRET}@db:5432/nexus",
        f"postgresql://app:{SECRET}@rest@db/nexus",
        f"host=db password={SECRET} dbname=nexus",
        f"password = '{SECRET} and \\' more {SECRET}'",
        f"ALTER ROLE app PASSWORD '{SECRET}''{SECRET}'",
        f"CREATE ROLE app LOGIN ENCRYPTED PASSWORD $x${SECRET}$x$",
        f"PGPASSWORD={SECRET} psql",
        '{"dsn": {"password": "' + SECRET + ' ' + SECRET + '"}}',
        json.dumps(json.dumps({"password": f"{SECRET} {SECRET}"})),
        f"aws_secret_access_key = {SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----",
        f"SCRAM-SHA-256$4096:{SECRET}",
    ],
)  # fmt: skip
def test_secret_in_text_is_replaced(text):
    assert SECRET not in redact_text(text)
    assert REDACTED in redact_text(text)


@pytest.mark.parametrize("name", ["password", "db_password", "secret", "apiKey", "task_token"])
def test_value_under_a_secret_name_is_replaced(name):
    assert redact({name: SECRET}) == {name: REDACTED}
    assert redact({"x": [{name: [SECRET]}]}) == {"x": [{name: REDACTED}]}


@pytest.mark.parametrize(
    "value",
    [
        {"token": 7, "ended": 3, "seconds": 0.2},
        {"found": "12480 rows of public.projects, xid 771, 0/16B3748"},
        {"why": "password authentication failed for user nexus_app"},
        {"object": "s3://nexus-evidence/inc-1/set-aside.jsonl"},
        {"at": "2026-11-22T08:45:00.000000Z", "run": "arn:aws:states:us-east-1:1:execution:a:b"},
        {"password": None, "token": "", "n": True},
    ],
)
def test_what_is_no_secret_stays(value):
    assert redact(value) == value


def test_json_without_secrets_keeps_its_bytes():
    text = '{"a":1,   "b": [true]}'
    assert redact_text(text) == text


def test_json_nested_too_deep_to_look_into_is_hidden():
    assert redact_text("[" * 5000 + "]" * 5000) == REDACTED
