"""What was there before a run, kept in an annotation of the object that the run changed.

    leeward/before: {"<keep>": {"environment": {"NAME": entry or null}, "object": {...} or null}}

It is written by the same patch as the change: at every instant either both are there or neither.
It holds what the object itself held, so that nobody can read there what they could not read before;
kubectl keeps the last applied configuration in the same way. null: it was not there at all.
"""

from __future__ import annotations

import json
from typing import Any

from chalicelib.errors import NotReady, Refused

Object = dict[str, Any]

BEFORE = "leeward/before"
# Annotations may have 256 KiB together.
LARGEST_BYTES = 128 << 10
# Runs that are remembered; the oldest goes first.
RUNS = 5


def kept_of(item: Object) -> dict[str, Object]:
    """By name, oldest first. Raises NotReady (code "kept-unreadable") when somebody wrote there."""
    text = item["metadata"].get("annotations", {}).get(BEFORE)
    if text is None:
        return {}
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise NotReady(
            f"expected what Leeward wrote in the annotation {BEFORE} of"
            f" {item['metadata']['name']}, found something else",
            hint="Remove the annotation; what it held can then not be put back by Leeward.",
            code="kept-unreadable",
        ) from error


def with_environment(item: Object, keep: str, name: str, entry: Object | None) -> str:
    """The annotation that also remembers this variable, unless the run remembers it already."""
    kept = kept_of(item)
    mine = kept.setdefault(keep, {})
    mine.setdefault("environment", {}).setdefault(name, entry)
    return _written(item, kept)


def with_object(item: Object | None, keep: str) -> str:
    """The annotation that also remembers the whole object as it is, None: that it is not there."""
    if item is None:
        return json.dumps({keep: {"object": None}})
    kept = kept_of(item)
    kept.setdefault(keep, {}).setdefault("object", bare(item))
    return _written(item, kept)


def without(kept: dict[str, Object], keep: str, what: str, name: str = "") -> str | None:
    """The annotation when this has been put back; None when nothing is left to remember."""
    mine = dict(kept.get(keep, {}))
    if what == "environment":
        left = {n: entry for n, entry in mine.get(what, {}).items() if n != name}
        mine = {**mine, what: left} if left else {k: v for k, v in mine.items() if k != what}
    else:
        mine.pop(what, None)
    rest = {**kept, keep: mine} if mine else {n: it for n, it in kept.items() if n != keep}
    return json.dumps(rest) if rest else None


def bare(item: Object) -> Object:
    """The object as a person would write it: without what the cluster itself says of it."""
    said = ("resourceVersion", "uid", "generation", "creationTimestamp", "managedFields")
    metadata = {name: value for name, value in item["metadata"].items() if name not in said}
    annotations = {n: v for n, v in metadata.pop("annotations", {}).items() if n != BEFORE}
    if annotations:
        metadata["annotations"] = annotations
    rest = {name: value for name, value in item.items() if name != "status"}
    return {**rest, "metadata": metadata}


def _written(item: Object, kept: dict[str, Object]) -> str:
    newest = dict(list(kept.items())[-RUNS:])
    text = json.dumps(newest)
    if len(text) > LARGEST_BYTES:
        raise Refused(
            f"expected at most {LARGEST_BYTES >> 10} KiB to remember of"
            f" {item['metadata']['name']}, found {len(text) >> 10}",
            hint="Change this object by hand; Leeward changes what it can put back.",
            code="too-large-to-keep",
        )
    return text
