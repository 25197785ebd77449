"""One door of a function for many verbs; what is refused comes back as an answer.

Lambda would hand on an error's class and message alone, and people need its code and hint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chalicelib.errors import BadInput, LeewardError
from chalicelib.telemetry import logger

Event = dict[str, Any]
Verbs = Mapping[str, Callable[[Event], Event]]


def hear(event: Event, verbs: Verbs, *, default: str = "") -> Event:
    """What the verb of the event says, or {"error": {"kind", "code", "message", "hint", ...}}."""
    try:
        return find_verb(event, verbs, default)(event)
    except LeewardError as error:
        logger.info("refused", extra={"code": error.instance_code})
        return {"error": {"kind": type(error).__name__, **error.to_json()}}


def find_verb(event: Event, verbs: Verbs, default: str) -> Callable[[Event], Event]:
    """Raises BadInput (code "unknown-verb")."""
    verb = str(event.get("verb") or default)
    if verb not in verbs:
        raise BadInput(
            f"expected a verb, found {verb[:100]!r}",
            hint=f"one of: {', '.join(verbs)}",
            code="unknown-verb",
        )
    return verbs[verb]
