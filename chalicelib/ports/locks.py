"""Locks that a store itself keeps: until then nobody deletes the object, whoever asks."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class ObjectLocks(Protocol):
    """Locks on the current versions of objects below one prefix."""

    def locked_until(self, key: str) -> datetime | None:
        """None when it was never locked. Raises Truncated (code "object-missing")."""

    def extend(self, key: str, until: datetime) -> bool:
        """Lock until then, never for shorter than it is; True when that changed anything.

        Raises Truncated (code "object-missing"), NotReady (code "no-object-lock") in a bucket
        that was made without.
        """
