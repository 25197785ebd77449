"""Plants canaries in a bucket and looks whether they are as they were planted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime

from chalicelib.errors import Refused
from chalicelib.plan.signs import Sign
from chalicelib.ports import Clock, ObjectStore, StateStore
from chalicelib.ports.samples import SampleReader
from chalicelib.verify.signs.canaries import Canary, judge_canary, make_canary

PLACES = ("first", "last")


def partition(bucket: str) -> str:
    """Of the state: all that the watch knows of a bucket."""
    return f"signs#{bucket}"


def plant_canaries(
    bucket: str,
    prefixes: Iterable[str],
    *,
    seed: bytes,
    store: ObjectStore,
    state: StateStore,
    clock: Clock,
) -> list[Canary]:
    """Put two canaries under each prefix, first and last among its keys; repeatable.

    The object comes before its record: a crash leaves an object that the next call adopts, never a
    record without an object, which would look like a deletion.

    Args:
        prefixes: "" or ending with a slash; a trailing slash is added.
        seed: secret, kept for as long as the canaries; at least 16 bytes.
        store: the whole bucket, without a prefix.
    Raises:
        Refused: other content lies under a canary's name (code "canary-name-taken").
    """
    return [
        _plant(bucket, key, content, store, state, clock)
        for key, content in choose_canaries(prefixes, seed)
    ]


def choose_canaries(prefixes: Iterable[str], seed: bytes) -> list[tuple[str, bytes]]:
    """Key and content of two canaries under each prefix; the same for the same seed."""
    folders = [
        prefix if not prefix or prefix.endswith("/") else f"{prefix}/" for prefix in prefixes
    ]
    return [make_canary(seed, folder, place) for folder in folders for place in PLACES]


def _plant(
    bucket: str, key: str, content: bytes, store: ObjectStore, state: StateStore, clock: Clock
) -> Canary:
    digest = hashlib.sha256(content).hexdigest()
    sort = f"canary#{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if known := state.get(partition(bucket), sort):
        return Canary.from_json(known)
    try:
        store.put(key, content, if_absent=True)
    except Refused as error:
        _adopt(key, content, store, error)
    canary = Canary(key, digest, clock.now())
    state.create(partition(bucket), sort, canary.to_json())
    return canary


def _adopt(key: str, content: bytes, store: ObjectStore, error: Refused) -> None:
    if error.instance_code != "exists":
        raise error
    if store.get(key) != content:
        raise Refused(
            f"expected {key} to be free for a canary, found other content",
            hint="Look at what lies there; if it is somebody's, plant with another seed.",
            code="canary-name-taken",
            key=key,
        ) from error


def read_canaries(bucket: str, state: StateStore) -> list[Canary]:
    return [Canary.from_json(item) for item in state.query(partition(bucket), "canary#")]


def check_canaries(
    canaries: Sequence[Canary], reader: SampleReader, *, now: datetime
) -> tuple[list[Sign], list[str]]:
    """Signs of those that are not as they were planted, and what could not be told."""
    found, blind = [], []
    for canary in canaries:
        sample = reader.read_object(canary.key)
        if sample.problem == "denied":
            blind.append(f"canary {canary.key}: it may not be read")
        if sign := judge_canary(canary, sample, now):
            found.append(sign)
    if not canaries:
        blind.append("canaries: none is planted")
    return found, blind
