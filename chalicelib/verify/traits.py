"""What is so of a database's objects, in words: rights, owners, triggers that fire, tables that
are logged, partitions of their tables, roles.

Beside the schema, not in it: a copy that was restored under other roles has the same schema. No
text of a setting is read, as it may be a secret; its digest is.
"""

from __future__ import annotations

from chalicelib.ports import Session

# "table public.projects" -> what is so of it, sorted.
Traits = dict[str, list[str]]


def read_traits(session: Session) -> Traits:
    """Those of the session's database and of the server's roles. A right reads "app: INSERT",
    another trait "owner app", "fires", "checked", "logged", "partition of public.events", "LOGIN",
    "member of staff", "connections -1", "settings <digest>"."""
    session.execute("SET search_path = ''")
    try:
        return {str(name): list(traits) for name, traits in session.query(_TRAITS)}
    finally:
        session.execute("RESET search_path")


# Rights that nobody changed are NULL and mean the default ones. Without a grantee: PUBLIC.
_TRAITS = """
WITH spaces AS (
  SELECT oid, nspname, nspowner, nspacl FROM pg_catalog.pg_namespace
   WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
relations AS (
  SELECT c.*, CASE WHEN c.relkind = 'S' THEN 'sequence ' ELSE 'table ' END
              || pg_catalog.format('%I.%I', s.nspname, c.relname) AS name,
         pg_catalog.format('%I.%I', s.nspname, c.relname) AS plain
    FROM pg_catalog.pg_class c JOIN spaces s ON s.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'),
owned AS (
  SELECT name, relowner AS owner, coalesce(relacl, pg_catalog.acldefault(
           CASE WHEN relkind = 'S' THEN 's'::"char" ELSE 'r' END, relowner)) AS rights
    FROM relations
  UNION ALL
  SELECT 'schema ' || pg_catalog.quote_ident(nspname), nspowner,
         coalesce(nspacl, pg_catalog.acldefault('n', nspowner)) FROM spaces
  UNION ALL
  SELECT 'function ' || pg_catalog.format('%I.%I(%s)', s.nspname, f.proname,
           pg_catalog.pg_get_function_identity_arguments(f.oid)), f.proowner,
         coalesce(f.proacl, pg_catalog.acldefault('f', f.proowner))
    FROM pg_catalog.pg_proc f JOIN spaces s ON s.oid = f.pronamespace
   WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e'
                        AND d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = f.oid)
  UNION ALL
  SELECT 'database ' || pg_catalog.quote_ident(datname), datdba,
         coalesce(datacl, pg_catalog.acldefault('d', datdba))
    FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),
settings AS (
  SELECT setdatabase, setrole, pg_catalog.md5(pg_catalog.string_agg(setting, ',' ORDER BY setting))
    FROM pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) AS setting GROUP BY 1, 2),
here AS (
  SELECT d.oid, 'database ' || pg_catalog.quote_ident(datname) AS name, datconnlimit
    FROM pg_catalog.pg_database d WHERE datname = pg_catalog.current_database()),
roles AS (
  SELECT 'role ' || pg_catalog.quote_ident(rolname) AS name, r.*
    FROM pg_catalog.pg_roles r WHERE rolname !~ '^pg_'),
traits AS (
  SELECT name, 'owner ' || pg_catalog.pg_get_userbyid(owner)::text FROM owned
  UNION ALL
  SELECT name, CASE WHEN a.grantee = 0 THEN 'PUBLIC'
                    ELSE pg_catalog.pg_get_userbyid(a.grantee)::text END || ': ' || a.privilege_type
    FROM owned, pg_catalog.aclexplode(rights) a
  UNION ALL
  SELECT 'column ' || c.plain || '.' || pg_catalog.quote_ident(t.attname),
         CASE WHEN a.grantee = 0 THEN 'PUBLIC'
              ELSE pg_catalog.pg_get_userbyid(a.grantee)::text END || ': ' || a.privilege_type
    FROM relations c JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid,
         pg_catalog.aclexplode(t.attacl) a
   WHERE NOT t.attisdropped
  UNION ALL
  SELECT name, 'logged' FROM relations WHERE relpersistence = 'p' AND relkind <> 'S'
  UNION ALL
  SELECT c.name, 'partition of ' || p.plain
    FROM relations c JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
    JOIN relations p ON p.oid = i.inhparent
   WHERE c.relispartition AND NOT i.inhdetachpending
  UNION ALL
  SELECT 'trigger ' || c.plain || '.' || pg_catalog.quote_ident(t.tgname),
         CASE WHEN t.tgenabled IN ('O', 'A') THEN 'fires' ELSE 'is there' END
    FROM relations c JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal
  UNION ALL
  SELECT 'rule ' || c.plain || '.' || pg_catalog.quote_ident(r.rulename),
         CASE WHEN r.ev_enabled IN ('O', 'A') THEN 'fires' ELSE 'is there' END
    FROM relations c JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid
   WHERE r.rulename <> '_RETURN'
  UNION ALL
  SELECT 'constraint ' || c.plain || '.' || pg_catalog.quote_ident(k.conname),
         CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger t
                            WHERE t.tgconstraint = k.oid AND t.tgenabled NOT IN ('O', 'A'))
              THEN 'is there' ELSE 'checked' END
    FROM relations c JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid WHERE k.contype = 'f'
  UNION ALL
  SELECT r.name, a.word
    FROM roles r, LATERAL (VALUES
      (CASE WHEN r.rolcanlogin THEN 'LOGIN' END), (CASE WHEN r.rolinherit THEN 'INHERIT' END),
      (CASE WHEN r.rolsuper THEN 'SUPERUSER' END), (CASE WHEN r.rolcreatedb THEN 'CREATEDB' END),
      (CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END),
      (CASE WHEN r.rolreplication THEN 'REPLICATION' END),
      (CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END), ('connections ' || r.rolconnlimit),
      ('valid until ' || coalesce(r.rolvaliduntil::text, 'ever'))) AS a(word)
   WHERE a.word IS NOT NULL
  UNION ALL
  SELECT r.name, 'member of ' || pg_catalog.pg_get_userbyid(m.roleid)::text
    FROM roles r JOIN pg_catalog.pg_auth_members m ON m.member = r.oid
  UNION ALL
  SELECT name, 'connections ' || datconnlimit FROM here
  UNION ALL
  SELECT r.name, 'settings '
         || coalesce(pg_catalog.string_agg(s.md5, ',' ORDER BY s.setdatabase), '')
    FROM roles r LEFT JOIN settings s ON s.setrole = r.oid
     AND s.setdatabase IN (0, (SELECT oid FROM here))
   GROUP BY 1
  UNION ALL
  SELECT name, 'settings ' || coalesce(s.md5, '')
    FROM here LEFT JOIN settings s ON s.setdatabase = here.oid AND s.setrole = 0)
SELECT name, pg_catalog.array_agg(DISTINCT trait ORDER BY trait)
  FROM traits AS t(name, trait) GROUP BY name ORDER BY name
"""
