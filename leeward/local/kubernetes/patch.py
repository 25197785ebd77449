"""Patches of Kubernetes objects. Pure: nothing that is given is changed.

Source: RFC 7386 (merge patch); "Strategic Merge Patch" in the Kubernetes API conventions; the keys
by which lists are merged: `patchMergeKey` in k8s.io/api/core/v1/types.go.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

# Lists of objects that are merged by a key; every other list is replaced.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "hostAliases": "ip",
    "ports": "port",
}


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def merge_strategic(target: Any, patch: Any, name: str = "") -> Any:
    """As `merge`, with lists of named things merged by their names and `$patch: delete`."""
    if isinstance(patch, dict):
        return _merge_objects(target if isinstance(target, dict) else {}, patch)
    if isinstance(patch, list) and name in MERGE_KEYS:
        key = _key_of(name, patch)
        return _merge_lists(target if isinstance(target, list) else [], patch, key)
    return patch


def _key_of(name: str, items: list[Any]) -> str:
    """Ports of a service and of a container have the same name and other keys."""
    if name == "ports" and any("containerPort" in item for item in items):
        return "containerPort"
    return MERGE_KEYS[name]


def _merge_objects(target: Object, patch: Object) -> Object:
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_strategic(merged.get(name), value, name)
    return merged


def _merge_lists(target: list[Any], patch: list[Any], key: str) -> list[Any]:
    merged = {item[key]: item for item in target}
    for item in patch:
        if item.get("$patch") == "delete":
            merged.pop(item[key], None)
        else:
            merged[item[key]] = _merge_objects(merged.get(item[key], {}), item)
    return list(merged.values())


def left_out(before: Any, now: Any, name: str = "") -> Any:
    """A strategic patch that removes what an earlier apply set and the new one leaves out."""
    if isinstance(before, dict) and isinstance(now, dict):
        return _left_out_of_object(before, now)
    if isinstance(before, list) and isinstance(now, list) and name in MERGE_KEYS:
        return _left_out_of_list(before, now, _key_of(name, before))
    return {}


def _left_out_of_object(before: Object, now: Object) -> Object:
    gone: Object = {}
    for name, value in before.items():
        if name not in now:
            gone[name] = None
        elif inner := left_out(value, now[name], name):
            gone[name] = inner
    return gone


def _left_out_of_list(before: list[Any], now: list[Any], key: str) -> list[Any]:
    kept = {item[key]: item for item in now}
    gone: list[Any] = []
    for item in before:
        if item[key] not in kept:
            gone.append({key: item[key], "$patch": "delete"})
        elif inner := left_out(item, kept[item[key]]):
            gone.append({key: item[key], **inner})
    return gone
