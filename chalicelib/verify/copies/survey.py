"""What a location claims to hold: its listing and its manifests, and what is wrong with these."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from chalicelib.errors import Damaged, LeewardError
from chalicelib.plan.manifest import (
    LARGEST_BYTES,
    MANIFEST,
    NOTES,
    QUARANTINE,
    digest_of_manifest,
    parse_manifest,
    point_key,
    point_of_key,
    require_small,
    tampered,
)
from chalicelib.plan.records import RecoveryPoint
from chalicelib.plan.wal import (
    BESIDE,
    COPIED,
    is_index_key,
    parse_history,
    parse_history_key,
    parse_wal_key,
)
from chalicelib.ports import Listed, ObjectStore
from chalicelib.verify.copies.findings import Finding, Unreached, in_bytes, judge_error

History = tuple[tuple[int, int], ...]
CHECKED = ("points/", "wal/", *BESIDE)
# What else Leeward writes beside them; the objects of a replica are checked by their inventory.
OWN = (
    "handover/",
    "shards/",
    "copying/",
    "sealed-keys/",
    "keys/",
    "objects/",
    "objects-long/",
    COPIED,
)
READ_THREADS = 8
# What a backup or a copy that is still running has written so far belongs to nothing yet.
SAFETY_AGE = timedelta(days=1)


@dataclass(frozen=True)
class Survey:
    """`rows`: everything below CHECKED by key. `points`: those whose manifest is whole and agrees
    with the index, oldest first, without the quarantined ones, whose ids stand in `quarantined`
    and which are in `set_aside`. `index`: point id -> digest of its manifest, empty when there is
    none. `histories`: of each timeline its ancestors, as `parse_history` reads them."""

    rows: Mapping[str, Listed]
    points: tuple[RecoveryPoint, ...] = ()
    quarantined: frozenset[str] = frozenset()
    set_aside: tuple[RecoveryPoint, ...] = ()
    findings: tuple[Finding, ...] = ()
    unreached: tuple[Unreached, ...] = ()
    index: Mapping[str, str] = field(default_factory=dict)
    histories: Mapping[int, History] = field(default_factory=dict)


def survey(
    store: ObjectStore,
    index: Mapping[str, str] | None,
    *,
    now: datetime,
    component: str = "",
    copied_within: timedelta = SAFETY_AGE,
    whole: bool = True,
) -> Survey:
    """List the location and read its manifests.

    Args:
        component: whose manifests they must be, "": that is not looked at.
        index: point id -> digest of its manifest; None: there is no index to compare with.
        copied_within: a point that the index names may be missing for so long after it was taken.
        whole: whether what lies beside the copies is looked at, too, for what belongs to nothing.
    Raises:
        Unavailable, Refused, NotReady: the location could not be listed; nothing is known of it.
    """
    prefixes = ("",) if whole else CHECKED
    listed = {row.key: row for prefix in prefixes for row in store.list(prefix)}
    rows = {key: row for key, row in listed.items() if key.startswith(CHECKED)}
    ids = sorted(filter(None, map(_manifest_of, rows)))
    with ThreadPoolExecutor(READ_THREADS) as threads:
        read = partial(_read_point, store, rows, index=index or {}, component=component)
        found = list(threads.map(read, ids))
    points = [item for item in found if isinstance(item, RecoveryPoint)]
    histories = {key: _read_history(store, rows[key]) for key in rows if parse_history_key(key)}
    failed = [item for item in (*found, *histories.values()) if isinstance(item, Unreached)]
    quarantined = {item for item in ids if point_key(item, QUARANTINE) in rows}
    sound = sorted(
        (item for item in points if item.id not in quarantined),
        key=lambda item: (item.taken_at, item.id),
    )
    return Survey(
        rows=rows,
        points=tuple(sound),
        quarantined=frozenset(quarantined),
        set_aside=tuple(item for item in points if item.id in quarantined),
        findings=(
            *(
                item
                for item in found
                if isinstance(item, Finding) and item.point_id not in quarantined
            ),
            *_against_index(ids, index, rows, now, copied_within),
            *_without_parent(sound, {item.id for item in points}),
            *_extra(listed, points, {*ids, *(index or {})}, now),
            *(item for item in histories.values() if isinstance(item, Finding)),
        ),
        unreached=tuple(failed),
        index=index or {},
        histories={
            parse_history_key(key) or 0: item
            for key, item in histories.items()
            if isinstance(item, tuple)
        },
    )


def _manifest_of(key: str) -> str:
    point_id = point_of_key(key)
    return point_id if point_id and key == point_key(point_id, MANIFEST) else ""


def _read_point(
    store: ObjectStore,
    rows: Mapping[str, Listed],
    point_id: str,
    *,
    index: Mapping[str, str],
    component: str,
) -> RecoveryPoint | Finding | Unreached | None:
    """None when it was pruned since it was listed."""
    key = point_key(point_id, MANIFEST)
    try:
        require_small(point_id, rows[key].size_bytes)
        content = store.get(key)
        point = parse_manifest(point_id, content, component=component)
        if index.get(point_id, digest_of_manifest(point)) != digest_of_manifest(point):
            raise tampered(point_id, "the digest that the index recorded")
    except LeewardError as error:
        return judge_manifest(point_id, error)
    return point


def judge_manifest(point_id: str, error: LeewardError) -> Finding | Unreached | None:
    """None when there is no manifest."""
    found = judge_error(point_key(point_id, MANIFEST), point_id, error)
    if isinstance(found, Finding) and found.code == "missing":
        return None
    if isinstance(found, Finding) and isinstance(error, Damaged):
        return replace(found, code="tampered", expected="the manifest as it was written")
    return found


def _read_history(store: ObjectStore, row: Listed) -> History | Finding | Unreached:
    if row.size_bytes > LARGEST_BYTES:
        expected, found = "a timeline's history", in_bytes(row.size_bytes)
        return Finding("damaged", row.key, "", expected, found)
    try:
        return parse_history(store.get(row.key))
    except LeewardError as error:
        return judge_error(row.key, "", error)


def _against_index(
    ids: list[str],
    index: Mapping[str, str] | None,
    rows: Mapping[str, Listed],
    now: datetime,
    copied_within: timedelta,
) -> list[Finding]:
    """Whoever can wipe the index can make a manifest look like one that nobody recorded."""
    if index is None:
        return []
    missing = [
        Finding("manifest-missing", point_key(item, MANIFEST), item, "the manifest", "none")
        for item in sorted(index.keys() - set(ids))
        if (taken_at := _taken_at(item)) is None or now - taken_at > copied_within
    ]
    unknown = [
        Finding("not-indexed", key, item, "an entry of the index", "none")
        for item in sorted(set(ids) - index.keys())
        if now - rows[key := point_key(item, MANIFEST)].modified_at > SAFETY_AGE
    ]
    return [*missing, *unknown]


def _taken_at(point_id: str) -> datetime | None:
    try:
        return datetime.strptime(f"{point_id.split('-')[0]}+0000", "%Y%m%dT%H%M%SZ%z")
    except ValueError:
        return None


def _without_parent(points: list[RecoveryPoint], ids: set[str]) -> list[Finding]:
    """A parent that is quarantined is there; that its children are too is its quarantine's part."""
    return [
        Finding(
            "parent-missing", point_key(item.id, MANIFEST), item.id, item.parent_id, "no such point"
        )
        for item in points
        if item.parent_id is not None and item.parent_id not in ids
    ]


def _extra(
    rows: Mapping[str, Listed], points: list[RecoveryPoint], ids: set[str], now: datetime
) -> list[Finding]:
    """What belongs to nothing. Of a point whose manifest is lost or wrong, nothing can be said."""
    belongs = {item.key for point in points for item in point.objects}
    unknown = ids - {point.id for point in points}
    return [
        Finding("extra", row.key, point_of_key(row.key), "nothing", in_bytes(row.size_bytes))
        for row in rows.values()
        if row.key not in belongs
        and not row.key.startswith(OWN)
        and not is_known_name(row)
        and point_of_key(row.key) not in unknown
        and now - row.modified_at > SAFETY_AGE
    ]


def is_known_name(row: Listed) -> bool:
    """Manifests, notes beside them, and what WAL and the indexes beside it are called."""
    point_id = point_of_key(row.key)
    if point_id:
        return row.key in {point_key(point_id, name) for name in (MANIFEST, *NOTES)}
    return (
        parse_wal_key(row.key, row.modified_at) is not None
        or parse_history_key(row.key) is not None
        or is_index_key(row.key)
    )
