"""Leeward's own functions in Lambda, by their short names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from chalicelib.adapters.aws_errors import mapped


class LambdaFunctions:
    """`prefix` comes before each name: "leeward-primary-"."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def warm(self, names: Iterable[str]) -> None:
        """Ask each to make itself ready, and do not wait for it."""
        for name in names:
            self.start(name, {"warm": True})

    def start(self, name: str, event: dict[str, Any]) -> None:
        """Invoke it and do not wait for it."""
        with mapped("lambda", function=name):
            self._client.invoke(
                FunctionName=self._prefix + name,
                InvocationType="Event",
                Payload=json.dumps(event),
            )
