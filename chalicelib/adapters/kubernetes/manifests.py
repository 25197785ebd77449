"""Manifests: YAML documents, applied in their order, and undone in the opposite one."""

from __future__ import annotations

from typing import Any

import yaml

from chalicelib.adapters.kubernetes import kept
from chalicelib.adapters.kubernetes.api import CONFLICTS, KubernetesApi, Object, Place, pinned
from chalicelib.errors import BadInput, Unavailable
from chalicelib.ports.workloads import What

# What others may have put into it since would go with it.
NEVER_DELETED = ("Namespace", "CustomResourceDefinition", "PersistentVolumeClaim")


def read_manifests(text: str) -> list[Object]:
    """The objects of all documents; those of a List, one by one.

    Raises BadInput (code "bad-manifest").
    """
    try:
        documents = [it for it in yaml.safe_load_all(text) if it is not None]
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise _bad(f"YAML, found something else{line}") from error
    items = [item for it in documents for item in _items(it)]
    if not items:
        raise _bad("at least one object, found none")
    return [_checked(item) for item in items]


def apply_manifests(
    api: KubernetesApi, text: str, *, namespace: str, keep: str
) -> tuple[tuple[Place, What], ...]:
    """What was done to each object.

    Everything is read before anything is applied; kinds are looked up as they come, since a
    manifest may define the kind of the next."""
    return tuple(_apply(api, item, namespace, keep) for item in read_manifests(text))


def put_back(api: KubernetesApi, text: str, *, namespace: str, keep: str) -> tuple[str, ...]:
    done = [_put_back(api, item, namespace, keep) for item in reversed(read_manifests(text))]
    return tuple(name for name in done if name)


def _apply(api: KubernetesApi, item: Object, namespace: str, keep: str) -> tuple[Place, What]:
    place = api.place_of(item, namespace)
    for _ in range(CONFLICTS):
        before = api.find(place)
        remembered = kept.with_object(before, keep)
        expected = before["metadata"]["resourceVersion"] if before else ""
        after = api.apply(place, _annotated(item, place, remembered), expected)
        if after is not None:
            return place, _what(before, after)
    raise _contended(place)


def _what(before: Object | None, after: Object) -> What:
    if before is None:
        return "created"
    return "unchanged" if kept.bare(before) == kept.bare(after) else "changed"


def _put_back(api: KubernetesApi, item: Object, namespace: str, keep: str) -> str:
    """The object's name, "" when there was nothing to put back."""
    place = api.place_of(item, namespace)
    for _ in range(CONFLICTS):
        now = api.find(place)
        mine = kept.kept_of(now).get(keep, {}) if now else {}
        if now is None or "object" not in mine:
            return ""
        before = mine["object"]
        if before is None:
            if item["kind"] in NEVER_DELETED:
                return ""
            api.delete(place, now["metadata"]["uid"])
            return str(place)
        annotation = kept.without(kept.kept_of(now), keep, "object")
        if api.replace(place, _restored(before, now, annotation)) is not None:
            return str(place)
    raise _contended(place)


def _restored(before: Object, now: Object, annotation: str | None) -> Object:
    restored = _annotated(before, None, annotation) if annotation else before
    return pinned(restored, now)


def _annotated(item: Object, place: Place | None, annotation: str) -> Object:
    metadata = dict(item["metadata"])
    if place and place.namespace:
        metadata["namespace"] = place.namespace
    metadata["annotations"] = {**metadata.get("annotations", {}), kept.BEFORE: annotation}
    return {**item, "metadata": metadata}


def _items(document: Any) -> list[Any]:
    is_list = isinstance(document, dict) and str(document.get("kind", "")).endswith("List")
    return list(document.get("items", ())) if is_list else [document]


def _checked(item: Any) -> Object:
    named = isinstance(item, dict) and isinstance(item.get("metadata"), dict)
    if not named or not all(isinstance(item.get(key), str) for key in ("apiVersion", "kind")):
        raise _bad("objects with apiVersion, kind and metadata, found other")
    if not isinstance(item["metadata"].get("name"), str):
        raise _bad(f"a name in each {item['kind']}, found one without")
    return dict(item)


def _bad(what: str) -> BadInput:
    return BadInput(
        f"expected manifests as {what}",
        hint="Try them with `kubectl apply --dry-run=server -f`.",
        code="bad-manifest",
    )


def _contended(place: Place) -> Unavailable:
    return Unavailable(
        f"expected to change {place}, found it changed by others each time it was tried",
        hint="Find out which controller changes it all the time; the step is tried again.",
        code="contended",
    )
