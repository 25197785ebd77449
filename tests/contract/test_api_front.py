"""API Gateway in the local cloud: what comes reaches the function as it came."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from chalicelib.errors import BadInput
from leeward.local.api_front import ApiFront, read_definition

ARN = "arn:aws:lambda:us-east-1:123456789012:function:it"
INTEGRATION = {
    "type": "aws_proxy",
    "uri": f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{ARN}/invocations",
}
OPERATION = {"x-amazon-apigateway-integration": INTEGRATION}
BODY: dict[str, Any] = {
    "paths": {"/things/{name}": {"get": OPERATION}, "/things": {"post": OPERATION}},
    "x-amazon-apigateway-binary-media-types": ["image/png"],
}


class Api:
    """Remembers what came; `returns` and `failed` are the function's."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.returns: Any = {"statusCode": 200, "body": "fine", "headers": {"X-Own": "1"}}
        self.failed = False
        self.front = ApiFront(read_definition(BODY), self._invoke, stage="api", api="an-api")
        self.url = self.front.start()

    def _invoke(self, arn: str, event: Any) -> tuple[Any, bool]:
        assert arn == ARN
        self.events.append(event)
        return self.returns, self.failed

    def ask(self, method: str, path: str, **more: Any) -> urllib3.BaseHTTPResponse:
        with urllib3.PoolManager(retries=False, timeout=10) as pool:
            return pool.request(method, f"{self.url}{path}", **more)


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.front.stop()


def test_a_request_is_a_proxy_event(api: Api) -> None:
    answer = api.ask("GET", "things/a-b?x=1&x=2&y=", headers={"X-Mixed-Case": "v"})
    assert (answer.status, answer.data, answer.headers["X-Own"]) == (200, b"fine", "1")
    [event] = api.events
    assert (event["resource"], event["path"]) == ("/things/{name}", "/things/a-b")
    assert event["pathParameters"] == {"name": "a-b"}
    assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"], "y": [""]}
    assert event["headers"]["X-Mixed-Case"] == "v"
    assert (event["body"], event["isBase64Encoded"]) == (None, False)
    json.dumps(event)


@pytest.mark.parametrize("body", [b"a=%C3%A9&b=+ ", "é".encode(), b"\r\n\r\n{}"])
def test_text_comes_byte_for_byte(api: Api, body: bytes) -> None:
    api.ask("POST", "things", body=body, headers={"Content-Type": "text/plain"})
    assert api.events[0]["body"].encode() == body


def test_a_binary_type_comes_in_base64(api: Api) -> None:
    body = bytes(range(256))
    api.ask("POST", "things", body=body, headers={"Content-Type": "image/png"})
    assert api.events[0]["isBase64Encoded"] is True
    assert base64.b64decode(api.events[0]["body"]) == body


def test_what_the_definition_does_not_have_is_refused_as_aws_does(api: Api) -> None:
    for method, path in (("GET", "things"), ("POST", "other"), ("GET", "things/a/b")):
        answer = api.ask(method, path)
        assert (answer.status, answer.json()) == (
            403,
            {"message": "Missing Authentication Token"},
        )
    assert api.events == []


def test_a_function_that_fails_is_a_bad_gateway(api: Api) -> None:
    api.failed = True
    assert api.ask("GET", "things/a").status == 502
    api.failed, api.returns = False, "no answer of a proxy"
    assert api.ask("GET", "things/a").status == 502


def test_a_body_beyond_the_limit_never_reaches_the_function(api: Api) -> None:
    with urllib3.PoolManager(retries=False, timeout=10) as pool:
        headers = {"Content-Length": str(11 * 1024 * 1024)}
        assert pool.request("POST", f"{api.url}things", headers=headers).status == 413
    assert api.events == []


def test_another_integration_is_an_error() -> None:
    mock = {"x-amazon-apigateway-integration": {"type": "mock", "uri": ""}}
    with pytest.raises(BadInput):
        read_definition(BODY | {"paths": {"/x": {"get": mock}}})
