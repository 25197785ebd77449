"""Which transactions may have taken a right, a trigger, a partition, a role's login. Pure.

GRANT, REVOKE and DISABLE TRIGGER lock nothing against everybody: WAL tells the catalogue that was
written and no more. What is lost comes from the traits that were seen sound, beside those of now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from chalicelib.recover.database.changes import Transaction
from chalicelib.recover.database.relations import Relations

# Where PostgreSQL keeps the traits of what is called so (pg_catalog).
_CATALOGUES = {
    "table": ("pg_class",),
    "sequence": ("pg_class",),
    "column": ("pg_attribute",),
    "schema": ("pg_namespace",),
    "function": ("pg_proc",),
    "trigger": ("pg_trigger",),
    "constraint": ("pg_trigger",),
    "rule": ("pg_rewrite",),
    "role": ("pg_authid", "pg_auth_members", "pg_db_role_setting"),
    "database": ("pg_database", "pg_db_role_setting"),
}
_ANY_CHANGE = frozenset({"pg_class", "pg_attribute"})
_TRIGGERS = ("trigger", "constraint", "rule")


class LostTrait(NamedTuple):
    """`object` with its kind: "table public.projects"; `table`: whose lock is needed to take the
    traits, "" when none is. `suspicion` is the kind of a suspect."""

    object: str
    table: str
    suspicion: str
    why: str

    @property
    def catalogues(self) -> tuple[str, ...]:
        return _CATALOGUES[self.object.partition(" ")[0]]

    @property
    def name(self) -> str:
        return self.object.partition(" ")[2]


def lost_traits(
    before: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]
) -> tuple[LostTrait, ...]:
    """Of what is still there. `before`: all that was seen of a sound database."""
    found: list[LostTrait] = []
    for thing, had in before.items():
        has = now.get(thing, ())
        if has or _is_there(thing, now):
            lost = [trait for trait in had if trait not in has]
            found += _told(thing, lost, has) if lost else []
        elif thing.startswith("role "):
            found.append(LostTrait(thing, "", "rights", f"dropped or renamed {thing}"))
    return tuple(found)


def _is_there(thing: str, now: Mapping[str, Sequence[str]]) -> bool:
    """A column without a right of its own has no trait, a table always has an owner."""
    kind, _, name = thing.partition(" ")
    return kind == "column" and f"table {name.rpartition('.')[0]}" in now


def written_catalogues(lost: Collection[LostTrait]) -> frozenset[str]:
    """The catalogues that whoever took it wrote: with their schema, as in a relation map."""
    return frozenset(f"pg_catalog.{name}" for it in lost for name in it.catalogues)


def taken_by(
    transaction: Transaction, lost: Collection[LostTrait], relations: Relations, locked: set[str]
) -> Iterator[LostTrait]:
    """What it may have taken. `locked`: the tables that it locked against everybody."""
    written = set(_written(transaction, relations))
    for it in lost:
        if written.isdisjoint(it.catalogues) or (it.table and it.table not in locked):
            continue
        # Whatever locks a table changes its row in there; what takes rights alone locks none.
        if it.table or not locked or _ANY_CHANGE.isdisjoint(it.catalogues):
            yield it


def _written(transaction: Transaction, relations: Relations) -> Iterator[str]:
    """Names of catalogues. A row that is new is the first setting of a role."""
    for file, rows in transaction.rows.items():
        if file.database == 0 and any(rows):
            yield from (it.removeprefix("pg_catalog.") for it in relations.names_of(file.number))
        elif relations.has(file) and rows.changed:
            yield relations.name_of(file).removeprefix("pg_catalog.")


def _told(thing: str, lost: list[str], now: Sequence[str]) -> Iterator[LostTrait]:
    kind, _, name = thing.partition(" ")
    given = next((it for it in lost if it.startswith("owner ")), "").removeprefix("owner ")
    for grantee, what in _by_grantee(lost).items():
        if grantee == given:  # goes with the ownership
            continue
        yield LostTrait(thing, "", "rights", f"took {', '.join(what)} on {thing} from {grantee}")
    for trait in (it for it in lost if ": " not in it):
        word, _, rest = trait.partition(" ")
        if kind in _TRIGGERS:
            yield LostTrait(thing, "", "disabled", f"disabled {thing}")
        elif trait == "logged":
            why = f"made {thing} unlogged: no backup holds its rows, and a crash empties it"
            yield LostTrait(thing, name, "unlogged", why)
        elif trait.startswith("partition of "):
            why = f"detached {name} from {trait.removeprefix('partition of ')}"
            yield LostTrait(thing, name, "detached", why)
        elif word == "owner":
            owner = next(it for it in now if it.startswith("owner ")).partition(" ")[2]
            table = name if kind == "table" else ""
            yield LostTrait(thing, table, "rights", f"gave {thing} of {rest} to {owner}")
        else:
            yield LostTrait(thing, "", "rights", _of_a_role(thing, trait))


def _by_grantee(lost: list[str]) -> dict[str, list[str]]:
    rights: dict[str, list[str]] = {}
    for trait in lost:
        grantee, colon, privilege = trait.rpartition(": ")
        if colon:
            rights.setdefault(grantee, []).append(privilege)
    return rights


def _of_a_role(thing: str, trait: str) -> str:
    """What a setting was is not known, and may be a secret."""
    if trait.partition(" ")[0] in ("settings", "connections", "valid"):
        return f"changed the {trait.partition(' ')[0].replace('valid', 'validity')} of {thing}"
    if trait.startswith("member of "):
        return f"took {thing} out of {trait.removeprefix('member of ')}"
    return f"took {trait} from {thing}"
