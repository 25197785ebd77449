"""Leeward's own functions in Lambda, by their short names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.errors import CheckFailed


class LambdaFunctions:
    """`prefix` comes before each name: "leeward-primary-"."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def warm(self, names: Iterable[str], run_id: str) -> None:
        """Ask each to make itself ready for its step of the run, and do not wait for it."""
        for name in names:
            self.start(name, {"warm": True, "run_id": run_id})

    def start(self, name: str, event: dict[str, Any]) -> None:
        """Invoke it and do not wait for it."""
        with mapped("lambda", function=name):
            self._client.invoke(
                FunctionName=self._prefix + name,
                InvocationType="Event",
                Payload=json.dumps(event),
            )

    def call(self, name: str, event: dict[str, Any]) -> dict[str, Any]:
        """Invoke it and wait for its answer.

        Raises:
            CheckFailed: code "function-failed", with what the function raised.
        """
        with mapped("lambda", function=name):
            answer = self._client.invoke(
                FunctionName=self._prefix + name, Payload=json.dumps(event).encode()
            )
        body: dict[str, Any] = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise CheckFailed(
                f"expected {self._prefix}{name} to succeed, found {body.get('errorType')}:"
                f" {body.get('errorMessage')}",
                hint="look at the function's log, mend what it names, and start the next run",
                code="function-failed",
            )
        return body


def connect_lambda(region: str, seconds: float) -> Any:
    """A client that waits so long for an answer, and asks once: a second call would do it twice."""
    import boto3
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=seconds)
    return boto3.client("lambda", region_name=region, config=config)
