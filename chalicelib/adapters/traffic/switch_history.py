"""The history of switches: one small object each, beside the object that switches.

A failover from a laptop writes that object alone. What it says of itself counts as history too.
"""

from __future__ import annotations

import json
from contextlib import suppress

from chalicelib.adapters.traffic.switch_object import switch_key
from chalicelib.errors import Tampered, Truncated
from chalicelib.ports import ObjectStore
from chalicelib.ports.traffic import Switch


class StoredSwitches:
    """The port Switches: `history/<component>/<at>,<run_id>,<step>.json`, oldest first."""

    def __init__(self, store: ObjectStore, component: str) -> None:
        self._store = store
        self._prefix = f"history/{component}/"
        self._switch = switch_key(component)

    def past(self) -> list[Switch]:
        """Raises Tampered (code "bad-switch") when an entry cannot be read: damping relies on
        all of them."""
        kept = [self._read(row.key) for row in self._store.list(self._prefix)]
        known = {(it.run_id, it.step) for it in kept}
        kept += [it for it in self._in_effect() if (it.run_id, it.step) not in known]
        return sorted(kept, key=lambda it: it.at)

    def _in_effect(self) -> list[Switch]:
        """The switch object's own words; one that a hand wrote may have none."""
        with suppress(Truncated, KeyError, TypeError, ValueError):
            return [Switch.from_json(json.loads(self._store.get(self._switch)))]
        return []

    def _read(self, key: str) -> Switch:
        try:
            return Switch.from_json(json.loads(self._store.get(key)))
        except (KeyError, TypeError, ValueError) as error:
            raise Tampered(
                f"expected a switch in {key}, found something else",
                hint="look at the object's versions in the switch bucket, and remove what is none",
                code="bad-switch",
            ) from error

    def add(self, switch: Switch) -> None:
        self._store.put(self._key(switch), json.dumps(switch.to_json(), indent=1).encode())

    def remove(self, switch: Switch) -> None:
        self._store.delete(self._key(switch))

    def _key(self, switch: Switch) -> str:
        name = f"{switch.at:%Y%m%dT%H%M%S.%fZ},{switch.run_id},{switch.step}"
        return f"{self._prefix}{name}.json"
