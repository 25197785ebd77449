"""What a database is made of, as one digest per object, so that two moments can be compared.

Objects that belong to an extension are left out: the extension and its version stand for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.plan.records import digest_of
from chalicelib.ports import Session


@dataclass(frozen=True)
class Schema:
    """`objects`: "table public.projects", "column public.projects.name", ... -> digest."""

    objects: dict[str, str]

    @property
    def digest(self) -> str:
        return digest_of(self.objects)

    def differences(self, other: Schema) -> tuple[str, ...]:
        """What `other` lacks, has too much, or has otherwise; sorted, empty when equal."""
        mine, theirs = self.objects, other.objects
        missing = (f"{name} is missing" for name in mine.keys() - theirs.keys())
        added = (f"{name} is new" for name in theirs.keys() - mine.keys())
        changed = (
            f"{name} differs" for name in mine.keys() & theirs.keys() if mine[name] != theirs[name]
        )
        return tuple(sorted((*missing, *added, *changed)))


def read_schema(session: Session) -> Schema:
    """The schema of the session's database. Stable across dump and restore."""
    # Without a search path every name in a definition is written in full.
    session.execute("SET search_path = ''")
    try:
        return Schema({str(name): str(digest) for name, digest in session.query(_OBJECTS)})
    finally:
        session.execute("RESET search_path")


# One row an object: its name, and the MD5 of its definition as PostgreSQL itself writes it.
_OBJECTS = """
WITH spaces AS (
  SELECT oid, nspname FROM pg_catalog.pg_namespace
   WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
members AS (
  SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'),
relations AS (
  SELECT c.*, pg_catalog.format('%I.%I', s.nspname, c.relname) AS name
    FROM pg_catalog.pg_class c JOIN spaces s ON s.oid = c.relnamespace
   WHERE NOT EXISTS (SELECT FROM members m
                      WHERE m.classid = 'pg_catalog.pg_class'::regclass AND m.objid = c.oid)),
objects AS (
  SELECT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view '
              WHEN 'S' THEN 'sequence ' WHEN 'f' THEN 'foreign table ' ELSE 'table ' END || c.name,
         pg_catalog.concat_ws('|', c.relkind, c.relpersistence, c.relrowsecurity,
           c.relforcerowsecurity, c.reloptions, pg_catalog.pg_get_partkeydef(c.oid),
           pg_catalog.pg_get_expr(c.relpartbound, c.oid),
           CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid) END)
    FROM relations c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  UNION ALL
  SELECT 'column ' || c.name || '.' || pg_catalog.quote_ident(a.attname),
         pg_catalog.concat_ws('|', pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
           a.attidentity, a.attgenerated, pg_catalog.pg_get_expr(d.adbin, d.adrelid),
           (SELECT l.collname FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation))
    FROM relations c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
   WHERE c.relkind IN ('r', 'p', 'f')
  UNION ALL
  SELECT 'index ' || c.name, pg_catalog.pg_get_indexdef(c.oid)
    FROM relations c WHERE c.relkind IN ('i', 'I')
  UNION ALL
  SELECT 'constraint ' || c.name || '.' || pg_catalog.quote_ident(k.conname),
         pg_catalog.concat_ws('|', pg_catalog.pg_get_constraintdef(k.oid), k.convalidated)
    FROM relations c JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid
   WHERE k.contype <> 'n'
  UNION ALL
  SELECT 'trigger ' || c.name || '.' || pg_catalog.quote_ident(t.tgname),
         pg_catalog.concat_ws('|', pg_catalog.pg_get_triggerdef(t.oid), t.tgenabled)
    FROM relations c JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal
  UNION ALL
  SELECT 'policy ' || c.name || '.' || pg_catalog.quote_ident(p.polname),
         pg_catalog.concat_ws('|', p.polcmd, p.polpermissive,
           pg_catalog.pg_get_expr(p.polqual, p.polrelid),
           pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
    FROM relations c JOIN pg_catalog.pg_policy p ON p.polrelid = c.oid
  UNION ALL
  SELECT 'function ' || pg_catalog.format('%I.%I(%s)', s.nspname, f.proname,
           pg_catalog.pg_get_function_identity_arguments(f.oid)),
         CASE WHEN f.prokind = 'a' THEN 'aggregate'
              ELSE pg_catalog.pg_get_functiondef(f.oid) END
    FROM pg_catalog.pg_proc f JOIN spaces s ON s.oid = f.pronamespace
   WHERE NOT EXISTS (SELECT FROM members m
                      WHERE m.classid = 'pg_catalog.pg_proc'::regclass AND m.objid = f.oid)
  UNION ALL
  SELECT 'type ' || pg_catalog.format('%I.%I', s.nspname, t.typname),
         pg_catalog.concat_ws('|', t.typtype, pg_catalog.format_type(t.typbasetype, t.typtypmod),
           t.typnotnull, t.typdefault,
           (SELECT pg_catalog.string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder)
              FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid))
    FROM pg_catalog.pg_type t JOIN spaces s ON s.oid = t.typnamespace
   WHERE t.typtype IN ('d', 'e', 'r')
     AND NOT EXISTS (SELECT FROM members m
                      WHERE m.classid = 'pg_catalog.pg_type'::regclass AND m.objid = t.oid)
  UNION ALL
  SELECT 'extension ' || extname, extversion FROM pg_catalog.pg_extension)
SELECT name, pg_catalog.md5(definition)
  FROM objects AS o(name, definition) ORDER BY name
"""
