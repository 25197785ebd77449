"""What a proxy in between, or a service that refuses the caller, answers in the place of AWS."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.sealing.kms_keys import connect_kms
from chalicelib.errors import NotReady, Unavailable
from chalicelib.services import build
from chalicelib.services.locations import read_secret
from tests.s3_answers import answer, scripted_server

PAGES = [b"<html><body>Log in</body></html>", b" Log in", b"[]"]
ASKED: dict[str, Callable[[DynamoDbState], object]] = {
    "create": lambda state: state.create("part", "sort", {"a": 1}),
    "get": lambda state: state.get("part", "sort"),
    "replace": lambda state: state.replace("part", "sort", {"a": 2}, expected={"a": 1}),
    "remove": lambda state: state.remove("part", "sort", expected={"a": 1}),
    "query": lambda state: list(state.query("part")),
}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Any]:
    """As every function makes it; nothing of it is kept for another test."""

    def make(service: str, url: str) -> Any:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        return build.client.__wrapped__(service, "us-east-1")

    return make


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("asked", ASKED)
def test_a_page_of_somebody_else_writes_and_finds_nothing(
    client: Callable[[str, str], Any], asked: str, page: bytes
) -> None:
    """A lock would be held by all who ask, an incident would be closed, a point be in the index."""
    with scripted_server([answer(200, page)]) as portal:
        state = DynamoDbState(client("dynamodb", portal.url), "table")
        with pytest.raises(Unavailable) as caught:
            ASKED[asked](state)
    assert caught.value.instance_code == "answer-unreadable"


def test_a_page_of_somebody_else_is_no_key(client: Callable[[str, str], Any]) -> None:
    with scripted_server([answer(200, PAGES[0])]) as portal:
        for kms in (client("kms", portal.url), connect_kms("us-east-1", portal.url)):
            with pytest.raises(Unavailable):
                kms.decrypt(CiphertextBlob=b"sealed")


def test_a_secret_of_bytes_is_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    said = json.dumps({"Name": "login", "SecretBinary": "e30="}).encode()
    with scripted_server([answer(200, said)]) as secrets:
        for name, value in (("ENDPOINT_URL", secrets.url), ("DEFAULT_REGION", "us-east-1")):
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        build.client.cache_clear()
        with pytest.raises(NotReady) as caught:
            read_secret("login")
        build.client.cache_clear()
    assert caught.value.instance_code == "no-credentials"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ExpiredTokenException"),
        (400, "UnrecognizedClientException"),
        (403, "InvalidSignatureException"),
        (403, "InvalidClientTokenId"),
    ],
)
def test_credentials_that_ended_are_told_as_such_by_every_service(
    client: Callable[[str, str], Any], status: int, code: str
) -> None:
    said = json.dumps({"__type": f"com.amazon.coral.service#{code}", "message": "no"}).encode()
    refusal = answer(status, said, "Content-Type: application/x-amz-json-1.0")
    with scripted_server([refusal]) as refusing:
        state = DynamoDbState(client("dynamodb", refusing.url), "table")
        with pytest.raises(NotReady) as caught:
            state.get("part", "sort")
    assert caught.value.instance_code == "credentials-rejected"
