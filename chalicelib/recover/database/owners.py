"""Whether the operator may give what it loads back to its owners: asked long before a recovery."""

from __future__ import annotations

from chalicelib.errors import NotReady
from chalicelib.ports import Databases

TOLD = 5


def check_owners(databases: Databases) -> str:
    """The number of owners in the database that `databases` names, in words.

    Raises NotReady: code "owner-out-of-reach", when the operator is no member of one of them; a
    loaded database could not be given back, and the run would fail after writes were stopped.
    """
    with databases.session(read_only=True) as session:
        rows = session.query(_OWNERS)
    strange = [f"{what} of {owner}" for owner, what, reached in rows if not reached]
    if strange:
        more = f" and {len(strange) - TOLD} more" if len(strange) > TOLD else ""
        raise NotReady(
            f"expected to be a member of every owner in {databases.database}, found "
            f"{', '.join(strange[:TOLD])}{more}",
            code="owner-out-of-reach",
            hint="Grant the operator's role the owner's, as docs/operator-role.md says; what a "
            "superuser owns, give to the application's role.",
        )
    return f"{len(rows)} owners, a member of each"


# What an extension made comes with it. pg_database_owner is whoever owns the database.
_OWNERS = """
WITH spaces AS (
  SELECT oid, nspname, nspowner FROM pg_namespace
   WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
members AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
owned AS (
  SELECT datdba AS owner, 'the database' AS what, 1 AS place
    FROM pg_database WHERE datname = current_database()
  UNION ALL
  SELECT nspowner, format('schema %I', nspname), 2 FROM spaces s
   WHERE NOT EXISTS (SELECT FROM members m
                      WHERE m.classid = 'pg_namespace'::regclass AND m.objid = s.oid)
  UNION ALL
  SELECT relowner, format('%I.%I', nspname, relname), 3
    FROM pg_class c JOIN spaces s ON s.oid = relnamespace
   WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't'
     AND NOT EXISTS (SELECT FROM members m
                      WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid)
  UNION ALL
  SELECT proowner, format('function %I.%I', nspname, proname), 4
    FROM pg_proc f JOIN spaces s ON s.oid = pronamespace
   WHERE NOT EXISTS (SELECT FROM members m
                      WHERE m.classid = 'pg_proc'::regclass AND m.objid = f.oid))
SELECT r.rolname::text, (array_agg(what ORDER BY place, what))[1],
       pg_has_role(r.oid, CASE WHEN current_setting('server_version_num')::int >= 160000
                               THEN 'SET' ELSE 'MEMBER' END)
  FROM owned JOIN pg_roles r ON r.oid = owner
 WHERE r.rolname <> 'pg_database_owner'
 GROUP BY r.oid, r.rolname ORDER BY 1
"""
