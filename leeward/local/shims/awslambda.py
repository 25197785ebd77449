"""Lambda: invocations run in the runner's sandboxes instead of Docker containers.

Everything in moto that invokes a function ends in `LambdaFunction.invoke`. Functions that share a
zip share its bytes: moto reads, hashes and keeps 30 MB for each.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from moto.awslambda import models
from moto.awslambda.exceptions import LambdaClientError
from moto.awslambda.models import LambdaFunction

from chalicelib.errors import Throttled
from leeward.local.shims import replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

LOG_TAIL_BYTES = 4096


class TooManyRequests(LambdaClientError):
    code = 429

    def __init__(self) -> None:
        super().__init__("TooManyRequestsException", "Rate Exceeded.")


@contextmanager
def install(cloud: LocalCloud) -> Iterator[None]:
    def invoke(self: LambdaFunction, body: Any, headers: Any, response_headers: Any) -> bytes:
        event = json.loads(body) if body else {}
        kind = headers.get("x-amz-invocation-type", "RequestResponse")
        function = cloud.function_of(self)
        if kind == "Event":
            cloud.runner.invoke_later(function, event)
        if kind in ("Event", "DryRun"):
            return b""
        try:
            outcome = cloud.runner.invoke(function, event, limit=limit_of(self))
        except Throttled as error:
            raise TooManyRequests from error
        if outcome.failed:
            response_headers["x-amz-function-error"] = "Unhandled"
        tail = outcome.log.encode()[-LOG_TAIL_BYTES:]
        response_headers["x-amz-log-result"] = base64.b64encode(tail).decode()
        return outcome.payload.encode()

    def once_per_object(original: Any) -> Any:
        known: dict[str, Any] = {}

        def content(key: Any) -> Any:
            if key.etag not in known:
                known[key.etag] = original(key)
            return known[key.etag]

        return content

    with (
        replaced(LambdaFunction, "invoke", lambda _original: invoke),
        replaced(models, "_s3_content", once_per_object),
    ):
        yield


def limit_of(function: LambdaFunction) -> int | None:
    """The reserved concurrency, None when there is none."""
    return None if function.reserved_concurrency is None else int(function.reserved_concurrency)
