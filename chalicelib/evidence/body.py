"""Reads fields of records' bodies. What is missing or of another type is unknown, never a crash.

A report is needed most when something went wrong: it must not depend on everything being right.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from chalicelib.plan.records import EvidenceRecord, parse_time

Body = dict[str, Any]


def last_body(records: Iterable[EvidenceRecord], kind: str) -> Body:
    """The body of the last record of this kind; empty when there is none."""
    found: Body = {}
    for record in records:
        if record.kind == kind:
            found = record.body
    return found


def text_of(body: Body, name: str, default: str = "") -> str:
    value = body.get(name)
    return value if isinstance(value, str) and value else default


def number_of(body: Body, name: str) -> float | None:
    value = body.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def count_of(body: Body, name: str) -> int | None:
    value = number_of(body, name)
    return value if isinstance(value, int) else None


def moment_of(body: Body, name: str) -> datetime | None:
    try:
        return parse_time(text_of(body, name))
    except ValueError:
        return None


def texts_of(body: Body, name: str) -> list[str]:
    items = body.get(name)
    return [str(item) for item in items] if isinstance(items, list) else []


def objects_of(body: Body, name: str) -> list[Body]:
    items = body.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
