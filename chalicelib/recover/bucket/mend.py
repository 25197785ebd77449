"""Bring back into a bucket, from its replica, what lost its versions for good.

Only keys that somebody is known to have taken versions from: a replica also holds what was deleted
rightly long ago. A key is brought back when the bucket knows nothing of it as of the moment, nobody
wrote it since, and the replica held it then; or when an inventory names a version that is gone,
whatever older one is left below it. Each copy is compared with what it was copied from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from chalicelib.errors import DigestMismatch, LeewardError, Truncated
from chalicelib.ports.buckets import Bucket, CopySource, VersionRow
from chalicelib.ports.lasting import PUT_DOWN
from chalicelib.recover.bucket.history import KeyHistory, read_histories
from chalicelib.recover.bucket.same_content import Place, heads_of, read_and_compare, same_bytes


@dataclass(frozen=True)
class Mended:
    """Keys: `back` from the replica; `there`: the bucket has them, or had none then; `gone`: the
    replica had none either; `failed`: key and why; `put_down`: long ones that the time did not
    suffice for, the next call goes on with them."""

    back: tuple[str, ...]
    there: tuple[str, ...]
    gone: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    put_down: tuple[str, ...] = ()


async def mend_bucket(
    bucket: Bucket,
    replica: Bucket,
    keys: Iterable[str],
    moment: datetime,
    vanished: Mapping[str, VersionRow | None] | None = None,
) -> Mended:
    """Safe to repeat: a key that was brought back is there.

    Args:
        vanished: keys whose version of the moment is gone -> the replica's version of it, None
            where no copy is known to be of that very version.
    """
    lost = vanished or {}
    back: list[str] = []
    there: list[str] = []
    gone: list[str] = []
    failed: list[tuple[str, str]] = []
    put_down: list[str] = []
    for key in sorted({*keys, *lost}):
        mine = await _history(bucket, key, moment)
        known = mine is not None and (mine.then is not None or mine.live is not None)
        if known and key not in lost:
            there.append(key)
            continue
        theirs = await _history(replica, key, moment)
        wanted = lost.get(key) or (theirs.wanted if theirs else None)
        if wanted is None:
            gone.append(key)
            continue
        try:
            if await _reads_as(bucket, replica, wanted):
                there.append(key)
                continue
            await bring_back(bucket, replica, wanted)
            back.append(key)
        except Truncated:
            gone.append(key)
        except LeewardError as error:
            if error.instance_code == PUT_DOWN:
                put_down.append(key)
            else:
                failed.append((key, error.message))
    return Mended(tuple(back), tuple(there), tuple(gone), tuple(failed), tuple(put_down))


async def _history(bucket: Bucket, key: str, moment: datetime) -> KeyHistory | None:
    """Keys that begin with this one are told after it."""
    async for history in read_histories(bucket, key, moment):
        return history if history.key == key else None
    return None


async def _reads_as(bucket: Bucket, replica: Bucket, row: VersionRow) -> bool:
    """Raises Truncated when the replica has no such version."""
    original, found = Place(replica, row.key, row.version_id), Place(bucket, row.key)
    await replica.head(row.key, version_id=row.version_id)
    try:
        same = same_bytes(*await heads_of(original, found))
    except Truncated:
        return False
    return await read_and_compare(original, found) if same is None else same


async def bring_back(bucket: Bucket, replica: Bucket, row: VersionRow) -> None:
    """Copy one version on top of what is there, and compare. Raises DigestMismatch when the copy
    is not what was copied."""
    source = CopySource(
        replica.name, row.key, replica.region, row.version_id, row.etag, row.size_bytes,
        row.storage_class,
    )  # fmt: skip
    written = await bucket.copy_from(source)
    copy = Place(bucket, row.key, written.version_id)
    original = Place(replica, row.key, row.version_id)
    same = same_bytes(*await heads_of(original, copy))
    if not (await read_and_compare(original, copy) if same is None else same):
        raise DigestMismatch(
            f"expected {row.key} as the replica has it, found other bytes",
            hint="run the step again; look at the replica when it happens twice",
        )
