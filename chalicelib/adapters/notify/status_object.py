"""What the status page is made from: one JSON object for each incident, with all that was said."""

from __future__ import annotations

import json
from typing import Any

from chalicelib.errors import Truncated
from chalicelib.plan.records import format_time
from chalicelib.ports import ObjectStore
from chalicelib.ports.notify import Message

STATES = {"opened": "investigating", "recovered": "resolved", "closed": "resolved"}


class StatusObject:
    """The `Sender` port. What drills say lies apart from what the page shows."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def send(self, message: Message, to: str) -> str:
        key = f"{'drills' if message.drill else 'incidents'}/{message.incident}.json"
        known = self._read(key)
        updates = [it for it in known.get("updates", []) if it["id"] != message.id]
        update = {
            "id": message.id,
            "at": format_time(message.written_at),
            "state": STATES.get(message.what, "identified"),
            "title": message.subject,
            "text": message.text,
        }
        updates = sorted([*updates, update], key=lambda it: (it["at"], it["id"]))
        latest = updates[-1]
        body = {
            "id": message.incident,
            "severity": message.severity,
            "title": known.get("title") or message.subject,
            "state": latest["state"],
            "opened_at": updates[0]["at"],
            "updated_at": latest["at"],
            "updates": updates,
        }
        self._store.put(key, json.dumps(body, ensure_ascii=False, indent=1).encode())
        return key

    def _read(self, key: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._store.get(key))
        except Truncated:
            return {}
        return found
