"""Damage to what is stored of a backup."""

from __future__ import annotations

import json
from collections.abc import Iterator

from chalicelib.errors import NotReady
from leeward.local.damage.victim import GARBAGE, Injected, Victim, now


def backup_object(victim: Victim) -> Injected:
    """Change bytes in the middle of the newest base backup's archive, as bit rot would."""
    store = victim.store
    if store is None:
        raise NotReady(
            "expected the store of the backups, none was given",
            code="no-store",
            hint="Run this damage in a drill with backups.",
        )
    manifests = [item.key for item in store.list("points/") if item.key.endswith("/manifest.json")]
    points = [json.loads(store.get(key))["point"] for key in manifests]
    newest = max(points, key=lambda point: str(point["taken_at"]))
    archive = next(o for o in newest["objects"] if o["key"].endswith("base.tar.zst"))
    with store.open_writer(archive["key"]) as writer:
        for chunk in _with_garbage(store.read(archive["key"]), archive["size_bytes"] // 2):
            writer.write(chunk)
        writer.commit()
    what = f"overwrote {len(GARBAGE)} bytes of {archive['key']}"
    return Injected("backup-object", "backup", what, now(), file=str(archive["key"]))


def _with_garbage(chunks: Iterator[bytes], at: int) -> Iterator[bytes]:
    seen = 0
    for chunk in chunks:
        start = at - seen
        if 0 <= start < len(chunk):
            garbage = GARBAGE[: len(chunk) - start]
            chunk = chunk[:start] + garbage + chunk[start + len(garbage) :]
        seen += len(chunk)
        yield chunk
