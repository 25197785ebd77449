"""What a component's schema was, and when: recorded by the watch, compared after a recovery.

schemas/<seen_at>.json    {"seen_at", "database", "objects": {name: digest}}, only when it changed
"""

from __future__ import annotations

import json
from datetime import datetime

from chalicelib.plan.records import canonical_json, format_time
from chalicelib.services import build
from chalicelib.verify.schema import Schema

PREFIX = "schemas/"


def record_schema(component: str, database: str, schema: Schema, *, at: datetime) -> None:
    """Keep it, unless it is the one that was kept last."""
    keys = _keys(component)
    known = _read(component, keys[-1]) if keys else None
    if known is None or known.objects != schema.objects:
        content = {"seen_at": format_time(at), "database": database, "objects": schema.objects}
        build.backups(component).put(f"{PREFIX}{format_time(at)}.json", canonical_json(content))


def schema_before(component: str, moment: datetime) -> Schema | None:
    """The last schema that was seen sound before the moment; None when none was."""
    bound = f"{PREFIX}{format_time(moment)}.json"
    earlier = [key for key in _keys(component) if key <= bound]
    return _read(component, earlier[-1]) if earlier else None


def _keys(component: str) -> list[str]:
    """In order of time: the time has one width and one form."""
    return [item.key for item in build.backups(component).list(PREFIX)]


def _read(component: str, key: str) -> Schema:
    return Schema(json.loads(build.backups(component).get(key))["objects"])
