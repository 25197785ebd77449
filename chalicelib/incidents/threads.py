"""One thread for each incident and channel, kept in the state table."""

from __future__ import annotations

from chalicelib.ports import StateStore


class StoredThreads:
    """The `Threads` port."""

    def __init__(self, state: StateStore) -> None:
        self._state = state

    def of(self, incident: str, to: str) -> str:
        return str((self._state.get(_partition(incident), to) or {}).get("name", ""))

    def begin(self, incident: str, to: str, name: str) -> None:
        self._state.create(_partition(incident), to, {"name": name})


def _partition(incident: str) -> str:
    return f"thread#{incident}"
