"""The functions `answer` and `show`, asked by another function, which has none of their rights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.errors import LeewardError, NotReady, Unavailable, all_error_types

KINDS = {kind.__name__: kind for kind in all_error_types()}


class AnswerFunction:
    """The `Answers` port, with a Lambda client. prefix: before the function's name."""

    def __init__(self, client: Any, prefix: str, name: str = "answer") -> None:
        self._client, self._function = client, f"{prefix}{name}"

    def hear(self, event: Mapping[str, Any]) -> dict[str, Any]:
        with mapped("lambda", function=self._function):
            answer = self._client.invoke(
                FunctionName=self._function, Payload=json.dumps(event).encode()
            )
        body: dict[str, Any] = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise self._broken(str(body.get("errorType")))
        if "error" in body:
            raise _refused(body["error"])
        return body

    def _broken(self, kind: str) -> LeewardError:
        if KINDS.get(kind, LeewardError).retryable:
            return Unavailable(f"{self._function} failed: {kind}", hint="say it again")
        return NotReady(
            f"{self._function} failed: {kind}",
            hint="look at the function's log; leeward incident does the same without chat",
        )


def _refused(error: Mapping[str, Any]) -> LeewardError:
    kind = KINDS.get(str(error.get("kind")), LeewardError)
    return kind(str(error["message"]), hint=str(error["hint"]), code=str(error["code"]))
