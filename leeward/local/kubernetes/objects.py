"""The objects of the cluster: stored whole, each write a new version, stale writes refused."""

from __future__ import annotations

import copy
import itertools
import json
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from leeward.local.kubernetes.patch import left_out, merge_strategic

Object = dict[str, Any]
Kind = tuple[str, bool]
"""The plural, and whether it lies in a namespace."""

KINDS: dict[str, dict[str, Kind]] = {
    "v1": {
        "Namespace": ("namespaces", False),
        "Pod": ("pods", True),
        "Service": ("services", True),
        "ConfigMap": ("configmaps", True),
        "Secret": ("secrets", True),
        "ServiceAccount": ("serviceaccounts", True),
    },
    "apps/v1": {"Deployment": ("deployments", True)},
    "networking.k8s.io/v1": {"Ingress": ("ingresses", True)},
    "autoscaling/v2": {"HorizontalPodAutoscaler": ("horizontalpodautoscalers", True)},
    "policy/v1": {"PodDisruptionBudget": ("poddisruptionbudgets", True)},
}
ANNOTATIONS_BYTES = 256 << 10


class Key(NamedTuple):
    """`namespace` is "" for what belongs to the whole cluster."""

    version: str
    plural: str
    namespace: str
    name: str


class ApiError(Exception):
    """What the API answers: a Status object of this code and reason."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


class Objects:
    """All of it under one lock; `changed` wakes whoever waits for a write."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._items: dict[Key, Object] = {}
        self._applied: dict[tuple[str, str], Object] = {}
        self._versions = itertools.count(1)

    def find(self, key: Key) -> Object | None:
        with self.changed:
            found = self._items.get(key)
            return copy.deepcopy(found) if found else None

    def get(self, key: Key) -> Object:
        found = self.find(key)
        if found is None:
            raise ApiError(404, "NotFound", f'{key.plural} "{key.name}" not found')
        return found

    def list(self, version: str, plural: str, namespace: str = "") -> list[Object]:
        """Of all namespaces when none is given."""
        with self.changed:
            return [
                copy.deepcopy(item)
                for key, item in sorted(self._items.items())
                if key[:2] == (version, plural) and namespace in ("", key.namespace)
            ]

    def create(self, key: Key, item: Object) -> Object:
        with self.changed:
            if key in self._items:
                raise ApiError(409, "AlreadyExists", f'{key.plural} "{key.name}" already exists')
            self._require_namespace(key)
            return self._store(key, item, None)

    def update(self, key: Key, item: Object) -> Object:
        """Replace; its resourceVersion, when it names one, must be the newest."""
        with self.changed:
            before = self.get(key)
            _refuse_stale(key, item, before)
            return self._store(key, item, before)

    def edit(self, key: Key, change: Callable[[Object], Object]) -> Object:
        """Read, change and write as one act."""
        with self.changed:
            return self.update(key, change(self.get(key)))

    def apply(self, key: Key, wanted: Object, manager: str) -> Object:
        """Server-side apply with force: what the manager set before and leaves out now is gone."""
        with self.changed:
            before = self.find(key)
            _refuse_stale(key, wanted, before)
            if before is None:
                self._require_namespace(key)
            owned = self._applied.get(((before or {}).get("metadata", {}).get("uid", ""), manager))
            wanted = _without_version(wanted)
            merged = merge_strategic(before or {}, left_out(owned, wanted) if owned else {})
            stored = self._store(key, merge_strategic(merged, wanted), before)
            self._applied[stored["metadata"]["uid"], manager] = copy.deepcopy(wanted)
            return stored

    def set_status(self, key: Key, status: Object) -> None:
        """Nothing when the object is gone, or has this status."""
        with self.changed:
            before = self._items.get(key)
            if before is not None and before.get("status") != status:
                self._store(key, {**before, "status": status}, before)

    def annotate(self, key: Key, annotations: dict[str, str]) -> None:
        """By the cluster itself: no new generation."""
        self.edit(key, lambda it: merge_strategic(it, {"metadata": {"annotations": annotations}}))

    def remove(self, key: Key) -> None:
        with self.changed:
            if self._items.pop(key, None) is not None:
                next(self._versions)
                self.changed.notify_all()

    def mark_ending(self, key: Key) -> None:
        """Deletion was asked for; whoever runs it removes it at its end."""
        with self.changed:
            before = self._items.get(key)
            if before and "deletionTimestamp" not in before["metadata"]:
                metadata = {**before["metadata"], "deletionTimestamp": now_text()}
                self._store(key, {**before, "metadata": metadata}, before)

    def _require_namespace(self, key: Key) -> None:
        if key.namespace and Key("v1", "namespaces", "", key.namespace) not in self._items:
            raise ApiError(404, "NotFound", f'namespaces "{key.namespace}" not found')

    def _store(self, key: Key, item: Object, before: Object | None) -> Object:
        stored = copy.deepcopy(item)
        old = (before or {}).get("metadata", {})
        stored["metadata"] = stored.get("metadata", {}) | {
            "name": key.name,
            "uid": old.get("uid") or str(uuid.uuid4()),
            "creationTimestamp": old.get("creationTimestamp") or now_text(),
            "generation": _generation(stored, before),
        }
        if key.namespace:
            stored["metadata"]["namespace"] = key.namespace
        check(key, stored, before)
        stored["metadata"]["resourceVersion"] = old.get("resourceVersion", "")
        if before is None or stored != before:
            stored["metadata"]["resourceVersion"] = str(next(self._versions))
            self._items[key] = stored
            self.changed.notify_all()
        return copy.deepcopy(stored)


def check(key: Key, item: Object, before: Object | None) -> None:
    """What the API refuses with 422; the message begins as Kubernetes' own."""
    problem = _problem(key, item, before)
    if problem:
        what = f'{item.get("kind", key.plural)} "{key.name}" is invalid: {problem}'
        raise ApiError(422, "Invalid", what)


def _problem(key: Key, item: Object, before: Object | None) -> str:
    if len(json.dumps(item["metadata"].get("annotations", {}))) > ANNOTATIONS_BYTES:
        return "metadata.annotations: Too long: must have at most 262144 bytes"
    return _problem_of_deployment(item, before) if key.plural == "deployments" else ""


def _problem_of_deployment(item: Object, before: Object | None) -> str:
    spec = item.get("spec") or {}
    labels = spec.get("selector", {}).get("matchLabels")
    if not labels:
        return "spec.selector: Required value"
    if before and before["spec"]["selector"] != spec["selector"]:
        return "spec.selector: Invalid value: field is immutable"
    template = spec.get("template", {})
    if not labels.items() <= template.get("metadata", {}).get("labels", {}).items():
        return "spec.template.metadata.labels: Invalid value: `selector` does not match"
    if spec.get("replicas", 1) < 0:
        return "spec.replicas: Invalid value: must be greater than or equal to 0"
    containers = template.get("spec", {}).get("containers")
    if not containers:
        return "spec.template.spec.containers: Required value"
    return next((found for it in containers if (found := _problem_of_container(it))), "")


def _problem_of_container(container: Object) -> str:
    if not container.get("image"):
        return "spec.template.spec.containers[0].image: Required value"
    for entry in container.get("env", ()):
        if entry.get("value") and entry.get("valueFrom"):
            return "valueFrom: Invalid value: may not be specified when `value` is not empty"
    return ""


def _generation(stored: Object, before: Object | None) -> int:
    if before is None:
        return 1
    changed = stored.get("spec") != before.get("spec")
    return int(before["metadata"]["generation"]) + changed


def _refuse_stale(key: Key, item: Object, before: Object | None) -> None:
    asked = item.get("metadata", {}).get("resourceVersion")
    newest = before["metadata"]["resourceVersion"] if before else None
    if asked and asked != newest:
        text = "the object has been modified; please apply your changes to the latest version"
        raise ApiError(
            409, "Conflict", f'Operation cannot be fulfilled on {key.plural} "{key.name}": {text}'
        )


def _without_version(item: Object) -> Object:
    metadata = {k: v for k, v in item.get("metadata", {}).items() if k != "resourceVersion"}
    return {**item, "metadata": metadata}


def now_text() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
