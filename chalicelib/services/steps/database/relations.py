"""Names for the files that a component's WAL speaks of."""

from __future__ import annotations

import json

from chalicelib.errors import BadInput, Damaged, NotReady, Unavailable
from chalicelib.ports import Databases, ObjectStore
from chalicelib.recover.database.relations import Relations, gather_relations, read_relations


def relations_of(store: ObjectStore, databases: Databases) -> Relations:
    """File numbers to names: the maps stored with the backups, and what the source has now."""
    maps = [json.loads(store.get(item.key)) for item in store.list("relations/")]
    try:
        with databases.session(read_only=True) as session:
            live = read_relations(session)
    except (BadInput, Damaged, Unavailable):
        # The database itself does not open: what is stored must name its files.
        with databases.admin_session() as session:
            name = databases.database
            found = session.query("SELECT oid FROM pg_database WHERE datname = %s", (name,))
        if not found:
            raise NotReady(
                f"expected the database {name} on the server, it is not there",
                hint="name the moment before it was dropped, and restore it by hand",
                code="database-gone",
            ) from None
        live = (int(found[0][0]), {})
    return gather_relations(databases.database, maps, live)
