"""The bucket of the status page: what it is made from, and what everybody may read."""

from __future__ import annotations

from typing import Protocol


class StatusStore(Protocol):
    """Sources are JSON objects below prefixes of their own; pages lie beside them."""

    def keys(self, prefix: str) -> tuple[str, ...]:
        """In byte order; whatever was written before the call is among them."""

    def read(self, key: str) -> bytes:
        """Raises Truncated (code "object-missing") when there is none."""

    def note(self, key: str, data: bytes) -> None:
        """Write a source that no other writes."""

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        """The content and the tag that names it, None when there is none."""

    def replace(self, key: str, data: bytes, *, tag: str) -> bool:
        """Write a source that is still what its tag names, or is not there yet when that is "".

        False, and nothing written, when another was first.
        """

    def show(self, key: str, data: bytes, media_type: str) -> None:
        """Write a page, which readers and what lies between keep for some seconds at most."""
