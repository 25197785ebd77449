"""One right that a call needs."""

from __future__ import annotations

from dataclasses import dataclass

ACCOUNT = "123456789012"
"""The account of a caller that moto has no user for."""
Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Need:
    """An action on a resource, and the condition keys that AWS has values for in that request.

    facts: (key, value); of a key with more than one value, one pair each.
    """

    action: str
    resource: str
    facts: Facts = ()

    def values(self, key: str) -> list[str]:
        return [value for name, value in self.facts if name == key]
