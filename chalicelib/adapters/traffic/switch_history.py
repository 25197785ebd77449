"""The history of switches: one small object each, beside the object that switches."""

from __future__ import annotations

import json

from chalicelib.errors import Tampered
from chalicelib.ports import ObjectStore
from chalicelib.ports.traffic import Switch


class StoredSwitches:
    """The port Switches: `history/<component>/<at>,<run_id>,<step>.json`, oldest first."""

    def __init__(self, store: ObjectStore, component: str) -> None:
        self._store = store
        self._prefix = f"history/{component}/"

    def past(self) -> list[Switch]:
        """Raises Tampered (code "bad-switch") when an entry cannot be read: damping relies on
        all of them."""
        return [self._read(row.key) for row in self._store.list(self._prefix)]

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
