"""Names for the files that a component's WAL speaks of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from chalicelib.errors import BadInput, Damaged, NotReady, Unavailable
from chalicelib.ports import Databases, ObjectStore, Session
from chalicelib.recover.database.changes import Activity
from chalicelib.recover.database.lost_traits import lost_traits
from chalicelib.recover.database.relations import (
    Relation,
    Relations,
    gather_relations,
    last_oid,
    oids_since,
    read_relations,
)
from chalicelib.recover.database.reshaped import Named, Shapes
from chalicelib.recover.database.sequences import Sequence, sequences_set
from chalicelib.services.jobs.schemas import objects_seen, traits_seen
from chalicelib.verify.schema import read_schema
from chalicelib.verify.traits import read_traits


def relations_of(store: ObjectStore, databases: Databases) -> Relations:
    """File numbers to names: the maps stored with the backups, and what the source has now.

    Raises NotReady: code "database-gone", or "database-renamed": it is there by another name.
    """
    maps = _stored_maps(store)
    live = _live(databases, last_oid(maps, databases.database))
    return gather_relations(databases.database, maps, live)


def relations_since(
    store: ObjectStore, databases: Databases, since: datetime
) -> tuple[Relations, str]:
    """As `relations_of`, of a database that somebody may have renamed since then; and what the one
    that was there then is called now, whether another has its name or not."""
    maps = _stored_maps(store)
    oids = oids_since(maps, databases.database, since)
    if not oids:
        return relations_of(store, databases), databases.database
    with databases.admin_session() as session:
        sql = "SELECT datname::text FROM pg_database WHERE oid = ANY(%s) AND datname <> %s"
        others = session.query(sql, (sorted(oids), databases.database))
    relations = gather_relations(databases.database, maps, _live(databases, None), also=oids)
    return relations, str(others[0][0]) if others else databases.database


def _stored_maps(store: ObjectStore) -> list[dict[str, Any]]:
    return [json.loads(store.get(item.key)) for item in store.list("relations/")]


def shapes_of(store: ObjectStore, databases: Databases) -> Shapes:
    """What the database was made of when it looked sound, and is now; empty when it does not open,
    as nothing but its recovery can be asked for then."""
    try:
        with databases.session(read_only=True) as session:
            now = read_schema(session).objects
            traits = read_traits(session)
            tables = read_tables(session)
    except (BadInput, Damaged, Unavailable):
        return Shapes()
    taken = lost_traits(traits_seen(store), traits)
    return Shapes(tables, objects_seen(store), now, taken)


def with_sequences(shapes: Shapes, databases: Databases, activity: Activity) -> Shapes:
    """With those that a transaction of the WAL may have put back, as they are now."""
    files = sequences_set(activity.notable)
    if not files:
        return shapes
    try:
        with databases.session(read_only=True) as session:
            return replace(shapes, sequences=read_sequences(session, files))
    except (BadInput, Damaged, NotReady, Unavailable):
        return shapes


def read_sequences(session: Session, files: Mapping[int, bool]) -> dict[int, Sequence]:
    """By file: the ascending ones of `files` that do not begin again at their end. `files`: as
    `sequences_set` has them."""
    found: dict[int, Sequence] = {}
    for number, name, increment, cache, table, column in session.query(_SEQUENCES, [list(files)]):
        [(last, called)] = session.query(f"SELECT last_value, is_called FROM {name}")
        [(highest,)] = session.query(f"SELECT max({column}) FROM {table}") if table else [(None,)]
        found[int(number)] = Sequence(
            name=name,
            next_value=int(last) + (int(increment) if called else 0),
            increment=int(increment),
            cache=int(cache),
            column=f"{table}.{column}" if table else "",
            highest=None if highest is None else int(highest),
            went_back=files[int(number)],
        )
    return found


def read_tables(session: Session) -> dict[int, Named]:
    """By oid: the users' tables, partitioned ones and views as they are called now."""
    return {int(oid): Named(name, int(file)) for oid, name, file in session.query(_TABLES)}


def invalid_row(databases: Databases) -> str:
    """ "1262/0/4": file, block and line in pg_database of a database that an unfinished DROP left
    invalid, so that nobody can connect; "" for any other."""
    with databases.admin_session() as session:
        found = session.query(
            "SELECT pg_relation_filenode('pg_database')::text || ctid::text FROM pg_database"
            " WHERE datname = %s AND datconnlimit = -2",
            (databases.database,),
        )
    return found[0][0].strip(")").translate(_PLACE) if found else ""


def _live(databases: Databases, last: int | None) -> tuple[int, dict[int, Relation]] | None:
    try:
        with databases.session(read_only=True) as session:
            return read_relations(session)
    except (BadInput, Damaged, Unavailable):
        # The database itself does not open: what is stored must name its files.
        with databases.admin_session() as session:
            sql = "SELECT oid, datname::text FROM pg_database WHERE datname = %s OR oid = %s"
            found = {name: oid for oid, name in session.query(sql, (databases.database, last))}
    if found and databases.database not in found:
        raise renamed(databases.database, found.popitem()[0])
    return (int(found[databases.database]), {}) if found else None


def renamed(name: str, now: str) -> NotReady:
    return NotReady(
        f"expected the database {name} on the server, found it renamed to {now}",
        code="database-renamed",
        hint=f'Nothing is lost. Was it not meant? ALTER DATABASE "{now}" RENAME TO "{name}".',
    )


# What a sequence numbers is asked for its largest number only where an index has it.
_SEQUENCES = """
SELECT pg_relation_filenode(s.seqrelid)::bigint, format('%%I.%%I', n.nspname, c.relname),
       s.seqincrement, s.seqcache, format('%%I.%%I', tn.nspname, t.relname), quote_ident(a.attname)
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid
   AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
   AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = d.refobjid AND i.indisvalid
                  AND i.indpred IS NULL AND i.indkey[0] = d.refobjsubid)
  LEFT JOIN pg_class t ON t.oid = d.refobjid
  LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
 WHERE s.seqincrement > 0 AND NOT s.seqcycle AND pg_relation_filenode(s.seqrelid) = ANY(%s)
"""
# "1262(0,4" is written as Activity.marks names it.
_PLACE = str.maketrans("(,", "//")
_TABLES = """
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname),
       coalesce(pg_relation_filenode(c.oid), 0)::bigint
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
