"""Rows that a unique index should have kept apart, counted in the tables themselves.

For where amcheck does not look: its `checkunique` came with version 1.4, of PostgreSQL 17. No index
is read, and no function of a user's is called: what an index computes with one is not looked into.
"""

from __future__ import annotations

from chalicelib.errors import CheckFailed
from chalicelib.ports import Databases

READ_SECONDS = 800
NAMED = 5
# The answer is to come from the tables; `row_security`: all of their rows, or an error.
SETTINGS = (
    "SET enable_indexscan = off",
    "SET enable_indexonlyscan = off",
    "SET enable_bitmapscan = off",
    "SET row_security = off",
)


def check_unique(databases: Databases) -> str:
    """What was looked into and what was not. Raises CheckFailed, naming indexes with doubles."""
    with databases.session(timeout_seconds=READ_SECONDS, read_only=True) as session:
        for setting in SETTINGS:
            session.execute(setting)
        indexes = [(str(name), query) for name, query in session.query(_UNIQUE_INDEXES)]
        doubled = [
            f"{name}: {count} keys are in several rows"
            for name, query in indexes
            if query and (count := session.query(f"SELECT count(*) FROM ({query}) d")[0][0])
        ]
    if doubled:
        more = f" and {len(doubled) - NAMED} more" if len(doubled) > NAMED else ""
        raise CheckFailed(
            ", ".join(doubled[:NAMED]) + more, hint="Look at the record of the verification."
        )
    return _told([name for name, query in indexes if query is None], len(indexes))


def amcheck_looks(databases: Databases) -> bool:
    """Whether amcheck, as it is in the database or would be put there, finds doubles itself."""
    with databases.session(read_only=True) as session:
        return session.query(_LOOKS) == [(True,)]


def _told(left: list[str], count: int) -> str:
    looked = f"{count - len(left)} unique indexes have no doubles"
    if not left:
        return looked
    more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
    return f"{looked}; not looked into for doubles: {', '.join(left[:NAMED])}{more}"


_LOOKS = """
SELECT string_to_array(coalesce(e.extversion, a.default_version), '.')::int[] >= '{1,4}'
  FROM pg_available_extensions a LEFT JOIN pg_extension e ON e.extname = a.name
 WHERE a.name = 'amcheck'
"""

# A query without a row where there are no doubles; NULL where it would call what is not
# PostgreSQL's own (which alone is pinned, and so in no dependency) or compares by another equality
# than GROUP BY does (record_image_ops). A key that has a NULL equals none, unless so declared.
_UNIQUE_INDEXES = """
SELECT i.indexrelid::regclass::text,
       CASE WHEN own.foreign_code OR own.other_equality THEN NULL ELSE
         format('SELECT 1 FROM ONLY %I.%I WHERE (%s) AND %s GROUP BY %s HAVING count(*) > 1',
                n.nspname, c.relname, coalesce(pg_get_expr(i.indpred, i.indrelid), 'true'),
                CASE WHEN i.indnullsnotdistinct THEN 'true'
                     ELSE format('num_nulls(%s) = 0', keys.plain) END,
                keys.compared)
       END
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace,
       LATERAL (
         SELECT string_agg(k.text, ', ' ORDER BY k.number) AS plain,
                string_agg(k.text || coalesce(k.collation, ''), ', ' ORDER BY k.number) AS compared
           FROM (SELECT g.number, pg_get_indexdef(i.indexrelid, g.number, false) AS text,
                        (SELECT format(' COLLATE %I.%I', s.nspname, o.collname)
                           FROM pg_collation o JOIN pg_namespace s ON s.oid = o.collnamespace
                          WHERE o.oid = i.indcollation[g.number - 1]) AS collation
                   FROM generate_series(1, i.indnkeyatts) g(number)) k) keys,
       LATERAL (
         SELECT EXISTS (
                  SELECT FROM pg_depend d
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                     AND d.refclassid NOT IN ('pg_class'::regclass, 'pg_constraint'::regclass,
                                              'pg_collation'::regclass, 'pg_opclass'::regclass)
                     AND NOT EXISTS (SELECT FROM pg_type t WHERE t.typtype = 'e'
                      AND d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid)
                ) AS foreign_code,
                EXISTS (
                  SELECT FROM unnest(i.indclass::oid[]) k(oid)
                    JOIN pg_opclass o ON o.oid = k.oid
                    JOIN pg_amop e ON e.amopfamily = o.opcfamily AND e.amopstrategy = 3
                     AND e.amoplefttype = o.opcintype AND e.amoprighttype = o.opcintype
                   WHERE NOT EXISTS (
                     SELECT FROM pg_opclass usual
                       JOIN pg_amop same ON same.amopfamily = usual.opcfamily
                      WHERE usual.opcmethod = o.opcmethod AND usual.opcdefault
                        AND usual.opcintype = o.opcintype AND same.amopopr = e.amopopr)
                ) AS other_equality) own
 WHERE i.indisunique AND i.indisvalid AND i.indisready
   AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
   AND (c.relkind = 'r' OR c.relispopulated)
 ORDER BY 1
"""
