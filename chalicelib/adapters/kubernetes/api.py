"""Objects of a cluster: read, changed and applied; what the API refuses, in Leeward's words.

Requests are repeated while the cluster does not answer (http_service.Patience). Each may be: a
change names the version that it is made to, so that the second of two is a conflict, not a change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from chalicelib.adapters.http.service import Access, Answer, HttpService, Patience, Request
from chalicelib.errors import BadInput, LeewardError, NotReady, Refused, Unavailable

Object = dict[str, Any]

PATIENCE = Patience(attempts=5, seconds=30.0, connect_seconds=5.0, silence_seconds=10.0)
CONFLICTS = 8
MANAGER = "leeward"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Place:
    """Where an object lies. `namespace` is "" for what belongs to the whole cluster."""

    version: str
    plural: str
    namespace: str
    name: str

    @property
    def path(self) -> str:
        root = "/api/v1" if self.version == "v1" else f"/apis/{self.version}"
        inside = f"/namespaces/{quote(self.namespace)}" if self.namespace else ""
        name = f"/{quote(self.name)}" if self.name else ""
        return f"{root}{inside}/{self.plural}{name}"

    def __str__(self) -> str:
        inside = f" in {self.namespace}" if self.namespace else ""
        return f"{self.plural}/{self.name}{inside}"


class KubernetesApi:
    """One cluster. `ca`: PEM of the authorities that may have signed its certificate."""

    def __init__(
        self, cluster: str, endpoint: str, ca: str | None, access: Access, patience: Patience
    ) -> None:
        self.cluster = cluster
        self._endpoint = endpoint.rstrip("/")
        self._service = HttpService(f"the cluster {cluster}", access, patience=patience, ca=ca)
        self._resources: dict[str, dict[str, tuple[str, bool]]] = {}

    def find(self, place: Place) -> Object | None:
        """The object, or None."""
        answer = self._call("GET", place.path)
        return None if answer.status == 404 else self._object(answer, place)

    def get(self, place: Place) -> Object:
        """Raises NotReady (code "no-such-object")."""
        found = self.find(place)
        if found is None:
            raise NotReady(
                f"expected {place} in the cluster {self.cluster}, found none",
                hint="Is the name right, and is it the right cluster and namespace?",
                code="no-such-object",
            )
        return found

    def list(self, place: Place, selector: Mapping[str, str]) -> list[Object]:
        """Those of the place's kind and namespace that have all labels of the selector."""
        text = ",".join(f"{name}={value}" for name, value in selector.items())
        answer = self._call("GET", f"{place.path}?{urlencode({'labelSelector': text})}")
        return list(self._object(answer, place)["items"])

    def change(self, place: Place, decide: Callable[[Object], Object | None]) -> Object:
        """Patch (strategic merge) what `decide` makes of the object as it is; None: nothing.

        Somebody else's change in between is read, and decided upon, again.
        """
        for _ in range(CONFLICTS):
            before = self.get(place)
            patch = decide(before)
            if patch is None:
                return before
            answer = self._call("PATCH", place.path, pinned(patch, before), STRATEGIC)
            if answer.status != 409:
                return self._object(answer, place)
        raise self._contended(place)

    def scale(self, place: Place, replicas: int) -> None:
        patch = {"spec": {"replicas": replicas}}
        answer = self._call("PATCH", f"{place.path}/scale", patch, MERGE)
        self._object(answer, place)

    def apply(self, place: Place, wanted: Object, expected: str) -> Object | None:
        """Server-side apply, over other managers' changes; None when it was changed meanwhile.

        expected: the resourceVersion that was decided upon; "" for an object that is not there.
        """
        query = urlencode({"fieldManager": MANAGER, "force": "true"})
        wanted = pinned(wanted, {"metadata": {"resourceVersion": expected}}) if expected else wanted
        answer = self._call("PATCH", f"{place.path}?{query}", wanted, APPLY)
        return None if answer.status == 409 else self._object(answer, place)

    def replace(self, place: Place, wanted: Object) -> Object | None:
        """None when it is not the version that `wanted` names any more."""
        answer = self._call("PUT", place.path, wanted, "application/json")
        return None if answer.status == 409 else self._object(answer, place)

    def delete(self, place: Place, uid: str) -> None:
        """That very object, not another of its name; none is no error."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        answer = self._call("DELETE", place.path, body, "application/json")
        if answer.status not in (404, 409):
            self._object(answer, place)

    def place_of(self, item: Object, namespace: str) -> Place:
        """Where an object of a manifest belongs: its kind is looked up in the cluster.

        Raises BadInput (code "unknown-kind").
        """
        version, kind = item["apiVersion"], item["kind"]
        if version not in self._resources:
            self._resources[version] = self._read_resources(version)
        if kind not in self._resources[version]:
            raise BadInput(
                f"expected the cluster {self.cluster} to know {kind} of {version}, it does not",
                hint="Install its custom resource definition first, or correct the manifest.",
                code="unknown-kind",
            )
        plural, namespaced = self._resources[version][kind]
        inside = item["metadata"].get("namespace", namespace) if namespaced else ""
        return Place(version, plural, inside, item["metadata"]["name"])

    def _read_resources(self, version: str) -> dict[str, tuple[str, bool]]:
        path = "/api/v1" if version == "v1" else f"/apis/{quote(version)}"
        answer = self._call("GET", path)
        if answer.status == 404:
            return {}
        listed = self._object(answer, Place(version, "", "", ""))["resources"]
        return {
            it["kind"]: (it["name"], bool(it["namespaced"]))
            for it in listed
            if "/" not in it["name"]  # subresources
        }

    def _call(self, method: str, path: str, body: Object | None = None, kind: str = "") -> Answer:
        headers = {"Accept": "application/json", "User-Agent": "leeward"}
        if kind:
            headers["Content-Type"] = kind
        data = json.dumps(body).encode() if body is not None else b""
        return self._service.call(Request(method, self._endpoint + path, headers, data))

    def _object(self, answer: Answer, place: Place) -> Object:
        if answer.status >= 300:
            raise self._refused(answer, place)
        found = _json(answer.body)
        if found is None:
            raise Unavailable(
                f"expected the cluster {self.cluster} to answer in JSON about {place}, found other",
                hint="Is there a proxy or a login page in between? The call is tried again.",
                code="answer-unreadable",
            )
        return found

    def _refused(self, answer: Answer, place: Place) -> LeewardError:
        said = str((_json(answer.body) or {}).get("message", ""))[:300]
        where = f"the cluster {self.cluster}"
        if answer.status == 401:
            return NotReady(
                f"{where} does not accept Leeward's token",
                hint="Give the function's role an access entry, and check the cluster's name.",
                code="not-known-to-cluster",
            )
        if answer.status == 403:
            return Refused(
                f"{where} refused {place}: {said}",
                hint="Bind the role of docs/workloads.md to Leeward's group in this namespace.",
                code="access-denied",
            )
        if answer.status == 404:
            return NotReady(
                f"{where} does not have {place}: {said}",
                hint="Is there such a namespace?",
                code="no-such-object",
            )
        if answer.status == 409:
            return self._contended(place)
        if answer.status in (400, 413, 422):
            return BadInput(
                f"{where} refused {place} as it is: {said}",
                hint="Correct the manifest, or the value, as the cluster says.",
                code="object-refused",
            )
        return NotReady(
            f"{where} refused {place}: HTTP {answer.status} {said}",
            hint="Is the endpoint that of a Kubernetes API?",
        )

    def _contended(self, place: Place) -> Unavailable:
        return Unavailable(
            f"expected to change {place}, found it changed by others each time it was tried",
            hint="Find out which controller changes it all the time; the step is tried again.",
            code="contended",
        )


def pinned(patch: Object, before: Object) -> Object:
    """The patch, for that version of the object alone."""
    version = before["metadata"]["resourceVersion"]
    return {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": version}}


def _json(body: bytes) -> Object | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
