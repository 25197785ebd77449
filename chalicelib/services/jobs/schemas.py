"""What a component's schema was, and when: recorded by the watch, compared after a recovery.

schemas/<seen_at>.json    {"seen_at", "database", "objects": {name: digest},
                          "traits": {name: [what is so of it]}}, only when it changed
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from chalicelib.plan.records import canonical_json, format_time
from chalicelib.ports import ObjectStore
from chalicelib.services import build
from chalicelib.verify.schema import Schema
from chalicelib.verify.traits import Traits

PREFIX = "schemas/"
# Of the last so many changes, what is gone is found.
SEEN = 50


def record_schema(
    component: str, database: str, schema: Schema, traits: Traits, *, at: datetime
) -> None:
    """Keep it, unless it is the one that was kept last."""
    store = build.backups(component)
    keys = _keys(store)
    known = _content(store, keys[-1]) if keys else {}
    seen = {"objects": schema.objects, "traits": traits}
    if any(known.get(name) != it for name, it in seen.items()):
        content = {"seen_at": format_time(at), "database": database, **seen}
        store.put(f"{PREFIX}{format_time(at)}.json", canonical_json(content))


def schema_before(store: ObjectStore, moment: datetime) -> Schema | None:
    """The last schema that was seen sound before the moment; None when none was."""
    bound = f"{PREFIX}{format_time(moment)}.json"
    earlier = [key for key in _keys(store) if key <= bound]
    return _read(store, earlier[-1]) if earlier else None


def schema_near(store: ObjectStore, moment: datetime, found: Schema) -> Schema | None:
    """What a database that was restored up to its last commit, at `moment`, should have: the schema
    that was seen last before; or the one that was seen next, when that is what it has: a change is
    seen only some time after its commit."""
    key = f"{PREFIX}{format_time(moment)}.json"
    later = next((it for it in _keys(store) if it > key), None)
    following = _read(store, later) if later else None
    if following is not None and following.objects == found.objects:
        return following
    return schema_before(store, moment)


def objects_seen(store: ObjectStore) -> dict[str, str]:
    """Object -> digest of all that the last schemas held, with the newest digest of each."""
    seen: dict[str, str] = {}
    for key in _keys(store)[-SEEN:]:
        seen |= _read(store, key).objects
    return seen


def traits_seen(store: ObjectStore) -> Traits:
    """All that was ever so of each object, by the last schemas: none by those of before they held
    traits."""
    seen: dict[str, set[str]] = {}
    for key in _keys(store)[-SEEN:]:
        for name, traits in _content(store, key).get("traits", {}).items():
            seen.setdefault(name, set()).update(traits)
    return {name: sorted(traits) for name, traits in seen.items()}


def _keys(store: ObjectStore) -> list[str]:
    """In order of time: the time has one width and one form."""
    return [item.key for item in store.list(PREFIX)]


def _read(store: ObjectStore, key: str) -> Schema:
    return Schema(_content(store, key)["objects"])


def _content(store: ObjectStore, key: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.get(key))
    return found
