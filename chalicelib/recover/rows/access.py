"""Rights to delete, taken from who deleted and given back: SQL on a database's tables.

What is taken is taken from the tables themselves; what a role has by being another one stays with
that one, and is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chalicelib.errors import CheckFailed
from chalicelib.plan.records import Record
from chalicelib.ports import Databases, Session

RIGHTS = ("DELETE", "TRUNCATE")


@dataclass(frozen=True)
class TableRight(Record):
    """One right of the role on one table. `grantable`: it may give it to others."""

    table: str
    right: str
    grantable: bool


def read_rights(databases: Databases, role: str, tables: Iterable[str]) -> tuple[TableRight, ...]:
    """What the role itself was given on these tables, as an owner of them too."""
    with databases.session(read_only=True) as session:
        rows = session.query(_RIGHTS, (list(tables), role, list(RIGHTS)))
    return tuple(TableRight(str(table), str(right), bool(may)) for table, right, may in rows)


def revoke_rights(databases: Databases, role: str, rights: Iterable[TableRight]) -> None:
    """Raises CheckFailed (code "still-may-delete") when the role has it from elsewhere too."""
    taken = list(rights)
    with databases.session() as session:
        for it in taken:
            _run(session, f"REVOKE {it.right} ON {it.table} FROM %I", role)
        left = [it for it in taken if _has(session, role, it)]
    if left:
        raise CheckFailed(
            f"expected {role} to have lost {', '.join(f'{it.right} on {it.table}' for it in left)},"
            " found that it has it from another role or from everybody",
            hint="look with \\dp and \\du who gives it, and revoke it there",
            code="still-may-delete",
        )


def grant_rights(databases: Databases, role: str, rights: Iterable[TableRight]) -> None:
    """Give back what `revoke_rights` took. Safe to repeat."""
    with databases.session() as session:
        for it in rights:
            option = " WITH GRANT OPTION" if it.grantable else ""
            _run(session, f"GRANT {it.right} ON {it.table} TO %I{option}", role)


def undo_words(role: str, rights: Iterable[TableRight]) -> str:
    """What a person types to give it back."""
    return "; ".join(f'GRANT {it.right} ON {it.table} TO "{role}"' for it in rights)


def could_delete(databases: Databases, tables: tuple[str, ...]) -> tuple[str, ...]:
    """Roles that may log in and delete from every one of the tables that are there; sorted.

    Superusers and the caller are left out; () when no table is there.
    """
    with databases.session(read_only=True) as session:
        return tuple(str(name) for (name,) in session.query(_COULD, (list(tables),)))


def _has(session: Session, role: str, it: TableRight) -> bool:
    [(may,)] = session.query(
        "SELECT has_table_privilege(%s::name, %s, %s)", (role, it.table, it.right)
    )
    return bool(may)


def _run(session: Session, template: str, role: str) -> None:
    [(statement,)] = session.query(
        "SELECT format(%s::text, %s::text)", (template.replace("%I", "%1$I"), role)
    )
    session.execute(str(statement))


def rights_from_json(items: Iterable[dict[str, Any]]) -> tuple[TableRight, ...]:
    return tuple(TableRight.from_json(item) for item in items)


# An owner has its rights without having been given them: acldefault spells them out. A table's
# partitions are tables of their own.
_RIGHTS = """
SELECT format('%%I.%%I', n.nspname, c.relname), a.privilege_type,
       a.is_grantable AND a.grantee <> c.relowner
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
       aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
 WHERE c.relkind IN ('r', 'p')
   AND c.oid IN (SELECT f.relid FROM unnest(%s::text[]) named,
                        LATERAL (SELECT to_regclass(named) AS relid
                                 UNION SELECT pg_partition_root(to_regclass(named))) f)
   AND a.grantee = (SELECT oid FROM pg_roles WHERE rolname = %s)
   AND a.privilege_type = ANY (%s)
 ORDER BY 1, 2
"""

_COULD = """
WITH named AS (SELECT to_regclass(unnest(%s::text[])) AS oid)
SELECT r.rolname FROM pg_roles r
 WHERE r.rolcanlogin AND NOT r.rolsuper AND r.rolname <> current_user
   AND EXISTS (SELECT FROM named WHERE oid IS NOT NULL)
   AND NOT EXISTS (SELECT FROM named
                    WHERE oid IS NOT NULL AND NOT has_table_privilege(r.oid, oid, 'DELETE'))
 ORDER BY 1
"""
