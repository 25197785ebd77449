"""The wrapped data keys of a sealed location, a second time, in the primary one.

    <component>/sealed-keys/<location>/<key id>.json    as keys/<key id>.json there

Whoever can write to the location could make a key set worthless, and with it all that was sealed:
one that is gone there is put back from here, and one that was changed does not replace its copy.
"""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.adapters.sealing.key_sets import KeySet, read_key_set
from chalicelib.adapters.sealing.store import SealedStore
from chalicelib.errors import Tampered
from chalicelib.plan.records import canonical_json
from chalicelib.ports import ObjectStore


@dataclass(frozen=True)
class KeptKeys:
    """`lacking`: recipients of the plan who cannot open every data key. `changed`: ids of key sets
    in which what was wrapped for one of them is another or gone. `put_back`: of those that were
    lost."""

    lacking: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    put_back: tuple[str, ...] = ()


def keep_keys(location: str, source: ObjectStore, target: ObjectStore) -> KeptKeys:
    """Bring both sides up to date; nothing is to be kept of a location that is not sealed.

    Raises: as KeyRing.key_sets, when one there cannot be read.
    """
    if not isinstance(target, SealedStore):
        return KeptKeys()
    folder = f"sealed-keys/{location}/"
    kept = {it.key_id: it for it in _kept(source, folder)}
    found = {it.key_id: it for it in target.keys.key_sets()}
    lost = sorted(kept.keys() - found.keys())
    for key_id in lost:
        target.keys.put_back(kept[key_id])
    changed = [
        key_id
        for key_id, it in found.items()
        if key_id in kept and target.keys.was_changed(it, before=kept[key_id])
    ]
    for key_id, it in found.items():
        if key_id not in changed and kept.get(key_id) != it:
            source.put(f"{folder}{key_id}.json", canonical_json(it.to_json()))
    lacking = {name for it in found.values() for name in target.keys.lacking(it)}
    return KeptKeys(tuple(sorted(lacking)), tuple(sorted(changed)), tuple(lost))


def _kept(source: ObjectStore, folder: str) -> list[KeySet]:
    """Without what is none: it is written again."""
    found = []
    for row in source.list(folder):
        try:
            key_id = row.key.removeprefix(folder).removesuffix(".json")
            found.append(read_key_set(source.get(row.key), key_id))
        except Tampered:
            continue
    return found
