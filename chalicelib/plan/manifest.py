"""What lies at `points/<point_id>/manifest.json`, and the names beside it.

The manifest is written after all objects of its point, so that it vouches for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from chalicelib.errors import Tampered, Truncated
from chalicelib.plan.record import has_types, read_json
from chalicelib.plan.records import RecoveryPoint, canonical_json, digest_of, point_from_json

POINTS = "points/"
MANIFEST, QUARANTINE, UNQUARANTINED, PROOF, READ, HOLD, SEALED, BEGUN = (
    "manifest.json",
    "quarantine.json",
    "unquarantined.json",
    "proof.json",
    "read.json",
    "hold.json",
    "sealed.json",
    "begun.json",
)
NOTES = (QUARANTINE, UNQUARANTINED, PROOF, READ, HOLD, SEALED, BEGUN)
# No manifest or note that Leeward writes comes near; more is an attack on the memory of who reads.
LARGEST_BYTES = 16 << 20


def point_key(point_id: str, name: str) -> str:
    return f"{POINTS}{point_id}/{name}"


def point_of_key(key: str) -> str:
    """The id of the point below which a key lies, "" when it lies below none."""
    steps = key.split("/")
    return steps[1] if len(steps) > 2 and steps[0] == "points" else ""


def require_small(point_id: str, size_bytes: int) -> None:
    """Before a manifest is read; raises Tampered."""
    if size_bytes > LARGEST_BYTES:
        raise tampered(point_id, f"a size of at most {LARGEST_BYTES} bytes")


def write_manifest(point: RecoveryPoint) -> bytes:
    content = point.to_json()
    return canonical_json({"point": content, "digest": digest_of(content)})


def parse_manifest(point_id: str, content: bytes, *, component: str = "") -> RecoveryPoint:
    """Raises Tampered when the manifest is not what Leeward wrote for this id.

    Args:
        component: whose it must be: one of another, put here, would restore another's data. "":
            that is not looked at.
    """
    try:
        manifest = read_json(content)
        point = point_from_json(manifest["point"])
        agrees = manifest["digest"] == digest_of(manifest["point"]) and point.id == point_id
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise tampered(point_id, "a manifest that can be read") from error
    if not has_types(point):
        raise tampered(point_id, "what a manifest holds")
    if not agrees:
        raise tampered(point_id, "the digest in it")
    if component and point.component != component:
        raise tampered(point_id, f"the component {component} (it is one of {point.component})")
    return point


def without_beginning(parents: Mapping[str, str | None]) -> frozenset[str]:
    """Points that build on themselves, by however many others: nobody took them, and whoever
    followed their parents would never come to an end.

    Args:
        parents: of each point that is there.
    """
    sound: set[str] = set()
    endless: set[str] = set()
    for point in parents:
        path: set[str] = set()
        at: str = point
        while at in parents and not (at in path or at in sound or at in endless):
            path.add(at)
            at = parents[at] or ""
        (endless if at in path or at in endless else sound).update(path)
    return frozenset(endless)


def digest_of_manifest(point: RecoveryPoint) -> str:
    """What the index records of a point: one digest of all that its manifest says."""
    return digest_of(point.to_json())


def digest_of_point(point: RecoveryPoint) -> str:
    """One digest of the data alone: SHA-256 over its sorted (key, size, SHA-256), in hex.

    Sizes and digests are of the plaintext, whatever a store makes of it (parts, encryption), so
    that copies of a point have one digest in every location.
    """
    return digest_of(sorted([item.key, item.size_bytes, item.sha256] for item in point.objects))


def manifest_missing(point_id: str) -> Truncated:
    return Truncated(
        f"expected the manifest of {point_id}, which the index names, found none",
        code="object-missing",
        hint="Copy it back from another location, or use another recovery point.",
        point_id=point_id,
    )


def tampered(point_id: str, expected: str) -> Tampered:
    return Tampered(
        f"expected the manifest of {point_id} to match {expected}, it does not",
        hint="Find out who wrote to the backups; restore from another point or location.",
        point_id=point_id,
    )
