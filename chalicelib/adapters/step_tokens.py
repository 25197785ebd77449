"""Tokens of Step Functions: states that wait for an answer."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped

# What Step Functions says of a token that lets nothing go on any more.
# Source: SendTaskSuccess, "Errors", AWS Step Functions API Reference.
DEAD = frozenset({"TaskDoesNotExist", "TaskTimedOut", "InvalidToken"})
# SendTaskFailure, "Request Parameters".
LONGEST_CAUSE = 32768


class StepTokens:
    """The `Tokens` port."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def succeed(self, token: str, output: dict[str, Any]) -> bool:
        text = json.dumps(output)
        return self._send(self._client.send_task_success, taskToken=token, output=text)

    def fail(self, token: str, error: str, cause: str) -> bool:
        send = self._client.send_task_failure
        return self._send(send, taskToken=token, error=error, cause=cause[:LONGEST_CAUSE])

    def beat(self, token: str) -> bool:
        return self._send(self._client.send_task_heartbeat, taskToken=token)

    def _send(self, send: Any, **request: str) -> bool:
        with mapped("states"):
            try:
                send(**request)
            except ClientError as error:
                if error_code(error) in DEAD:
                    return False
                raise
        return True
