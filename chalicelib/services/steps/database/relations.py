"""Names for the files that a component's WAL speaks of."""

from __future__ import annotations

import json

from chalicelib.errors import BadInput, Damaged, Unavailable
from chalicelib.ports import Databases, ObjectStore
from chalicelib.recover.database.relations import (
    Relation,
    Relations,
    gather_relations,
    read_relations,
)


def relations_of(store: ObjectStore, databases: Databases) -> Relations:
    """File numbers to names: the maps stored with the backups, and what the source has now.

    Raises NotReady (code "database-gone").
    """
    maps = [json.loads(store.get(item.key)) for item in store.list("relations/")]
    return gather_relations(databases.database, maps, _live(databases))


def _live(databases: Databases) -> tuple[int, dict[int, Relation]] | None:
    try:
        with databases.session(read_only=True) as session:
            return read_relations(session)
    except (BadInput, Damaged, Unavailable):
        # The database itself does not open: what is stored must name its files.
        with databases.admin_session() as session:
            found = session.query(
                "SELECT oid FROM pg_database WHERE datname = %s", (databases.database,)
            )
        return (int(found[0][0]), {}) if found else None
