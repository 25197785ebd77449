"""What a database is brought back with."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.ports import Catalogue, Clock, ObjectStore, ServerFactory


@dataclass(frozen=True)
class Means:
    """Where a component is stored, and what runs its recovered data for as long as is needed."""

    store: ObjectStore
    catalogue: Catalogue
    servers: ServerFactory
    clock: Clock
