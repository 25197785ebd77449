"""The switch object: present, the standby site answers; absent, or not to be read, the home does.

An inverted health check reads one object in the standby region. While it is there, the check
counts the home site as unhealthy and Route 53 answers with the standby's records. Nothing of this
needs the home site, or any API of Route 53; a broken standby region moves no names.
Source: AWS Networking blog, "Creating Disaster Recovery Mechanisms Using Amazon Route 53",
section "Standby takes over primary (STOP)".
"""

from __future__ import annotations

import json
from contextlib import suppress

from chalicelib.errors import BadInput, Truncated
from chalicelib.ports import ObjectStore
from chalicelib.ports.traffic import Moved, Switch


def switch_key(component: str) -> str:
    """The one object that health checkers may read."""
    return f"switch/{component}"


class SwitchObject:
    """The port Traffic. `store` is the whole switch bucket; `away`: the one other site."""

    resolves = True

    def __init__(self, store: ObjectStore, component: str, *, home: str, away: str) -> None:
        self._store = store
        self._key = switch_key(component)
        self._home, self._away = home, away

    def state(self) -> str:
        with suppress(Truncated):
            self._store.get(self._key)
            return self._away
        return self._home

    def switch(self, switch: Switch) -> Moved:
        if switch.to == self._home:
            self._store.delete(self._key)
            return Moved(f"removed {self._key} from the switch bucket", f"write {self._key} again")
        if switch.to != self._away:
            raise BadInput(
                f"expected {self._home} or {self._away}, found {switch.to}",
                hint="a switch object knows two sites; use routing controls for more",
                code="no-such-site",
            )
        self._store.put(self._key, json.dumps(switch.to_json(), indent=1).encode())
        return Moved(
            f"wrote {self._key} to the switch bucket", f"remove {self._key} from the switch bucket"
        )
