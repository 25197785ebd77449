"""The bucket of a status page in memory, and writers who meet there."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from chalicelib.errors import Truncated


class InMemoryStatusStore:
    """before_show, before_replace: called with the key before it is written, for what happens
    meanwhile."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.media_types: dict[str, str] = {}
        self.shown: list[str] = []
        self.before_show: Callable[[str], None] = lambda key: None
        self.before_replace: Callable[[str], None] = lambda key: None

    def keys(self, prefix: str) -> tuple[str, ...]:
        return tuple(sorted(key for key in self.objects if key.startswith(prefix)))

    def read(self, key: str) -> bytes:
        if key not in self.objects:
            raise Truncated(f"expected {key}, found none", code="object-missing", hint="Look.")
        return self.objects[key]

    def note(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        data = self.objects.get(key)
        return None if data is None else (data, sha256(data).hexdigest())

    def replace(self, key: str, data: bytes, *, tag: str) -> bool:
        self.before_replace(key)
        found = self.read_tagged(key)
        if (found[1] if found else "") != tag:
            return False
        self.objects[key] = data
        return True

    def show(self, key: str, data: bytes, media_type: str) -> None:
        self.before_show(key)
        self.shown.append(key)
        self.objects[key] = data
        self.media_types[key] = media_type

    def pages(self) -> dict[str, bytes]:
        """What everybody may read."""
        return {key: self.objects[key] for key in sorted(self.media_types)}
