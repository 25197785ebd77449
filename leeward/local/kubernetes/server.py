"""The API of the local cluster over TLS on loopback."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET
from struct import pack
from types import TracebackType
from typing import Any, Literal, Protocol, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from leeward.local.kubernetes.control import Control
from leeward.local.kubernetes.login import Denied, EksLogin, make_certificates
from leeward.local.kubernetes.objects import KINDS, ApiError, Key, Object, Objects, now_text
from leeward.local.kubernetes.patch import merge, merge_strategic
from leeward.local.kubernetes.pods import Node, Pod, wait_until
from leeward.local.reaper import Reaper

Fault = Literal["refuse", "hang", "503", "429", "reset", "lost"]
"""lost: the request is carried out and the connection ends before the answer."""
PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"(?:/(?P<plural>[^/]+))?(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?"
)
HANG_SECONDS = 3600.0


class Region(Protocol):
    """Where the cluster is, as far as it fails."""

    def fault_of(self, method: str) -> Fault | None:
        """How a request to the API fails now."""

    def is_cut_off(self) -> bool:
        """Whether nothing in it can be reached, the application neither."""


class SoundRegion:
    def fault_of(self, method: str) -> Fault | None:
        return None

    def is_cut_off(self) -> bool:
        return False


@dataclass(frozen=True)
class Asked:
    """One request. `name` is "" for all of a kind, `sub` a subresource."""

    method: str
    key: Key
    kind: str
    sub: str
    query: Mapping[str, str]
    content_type: str
    body: Any


class LocalKubernetes:
    """A context manager. `endpoint`, `ca` and `cluster` are what a plan's cluster says.

    Args:
        sts_url: the AWS whose STS knows who a token's signer is.
        secrets: secret keys of that AWS by access key id.
        images: a command for the name of each image (leeward/local/kubernetes/pods.py).
        environment: of every process, besides its container's own.
        namespaces: those that exist at the start, besides closed ones, where nobody may write.
    """

    def __init__(
        self,
        folder: Path,
        reaper: Reaper,
        *,
        cluster: str,
        sts_url: str,
        secrets: Mapping[str, str],
        images: Mapping[str, Sequence[str]],
        environment: Mapping[str, str],
        namespaces: Iterable[str] = ("default",),
        closed_namespaces: Iterable[str] = ("kube-system",),
        region: Region | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.cluster, self.folder = cluster, folder
        self.ca, self._certificate = make_certificates(folder)
        self.login = EksLogin(cluster, sts_url, secrets)
        self.objects = Objects()
        self.closed = frozenset(closed_namespaces)
        self.fault: Fault | None = None
        self.faults_left: int | None = None
        self.requests: list[tuple[str, str, int]] = []
        self.denials: list[str] = []
        self._region = region or SoundRegion()
        node = Node(images, environment, folder, reaper, self.objects)
        self._control = Control(node, self._region.is_cut_off)
        self._ending = threading.Event()
        for name in (*namespaces, *self.closed):
            self.objects.create(
                Key("v1", "namespaces", "", name),
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
            )

    def start(self) -> Self:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate)
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        # The handshake is made in the connection's thread: one that hangs holds up nobody else.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.endpoint = f"https://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self._control.start()
        return self

    def stop(self) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._control.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def fail(self, fault: Fault | None, times: int | None = None) -> None:
        """From now on requests end so; `times`: only that many of them. None: no more."""
        self.fault, self.faults_left = fault, times

    def pods(self) -> list[Pod]:
        """The pods whose processes run, also those that are ending."""
        return self._control.pods()

    def address_of(self, service: str, namespace: str = "default") -> str:
        """http://127.0.0.1:PORT, by which a service's ready pods are reached."""
        spec = self.objects.get(Key("v1", "services", namespace, service))["spec"]
        return f"http://127.0.0.1:{spec['ports'][0]['nodePort']}"

    def apply(self, manifests: str, *, wait_seconds: float = 30.0) -> None:
        """What somebody deploys before anything happens; waits until it serves, 0: not.

        Raises TimeoutError.
        """
        for item in yaml.safe_load_all(manifests):
            plural, namespaced = KINDS[item["apiVersion"]][item["kind"]]
            namespace = item["metadata"].get("namespace", "default") if namespaced else ""
            key = Key(item["apiVersion"], plural, namespace, item["metadata"]["name"])
            self.objects.apply(key, item, "kubectl")
        if wait_seconds:
            self.wait_settled(wait_seconds)

    def wait_settled(self, seconds: float) -> None:
        """Until every deployment serves. Raises TimeoutError."""
        if not wait_until(self._is_settled, seconds):
            raise TimeoutError(f"the deployments do not serve; see the logs in {self.folder}")

    def _is_settled(self) -> bool:
        served = [
            it["spec"].get("replicas", 1) == it.get("status", {}).get("readyReplicas", 0)
            for it in self.objects.list("apps/v1", "deployments")
        ]
        addressed = ["clusterIP" in it["spec"] for it in self.objects.list("v1", "services")]
        return all(served) and all(addressed)

    def takes_fault(self, method: str) -> Fault | None:
        if self.fault is None or self.faults_left == 0:
            return self._region.fault_of(method)
        if self.faults_left is not None:
            self.faults_left -= 1
        return self.fault

    def wait_for_end(self) -> None:
        self._ending.wait(HANG_SECONDS)

    def answer(self, asked: Asked) -> tuple[int, Object]:
        """Raises ApiError."""
        if asked.method not in ("GET", "HEAD") and asked.key.namespace in self.closed:
            what = f'{asked.key.plural} "{asked.key.name}" is forbidden'
            raise ApiError(403, "Forbidden", f"{what}: User cannot {asked.method.lower()} resource")
        if asked.sub == "scale":
            return self._scale(asked)
        if asked.method == "GET":
            return 200, self._read(asked)
        if asked.method == "DELETE":
            return self._delete(asked)
        if asked.method == "POST":
            name = asked.body["metadata"]["name"]
            return 201, self.objects.create(asked.key._replace(name=name), asked.body)
        if asked.method == "PUT":
            return 200, self.objects.update(asked.key, asked.body)
        return self._patch(asked)

    def _read(self, asked: Asked) -> Object:
        if asked.key.name:
            return self.objects.get(asked.key)
        wanted = dict(
            part.split("=", 1) for part in asked.query.get("labelSelector", "").split(",") if part
        )
        found = self.objects.list(asked.key.version, asked.key.plural, asked.key.namespace)
        items = [it for it in found if wanted.items() <= it["metadata"].get("labels", {}).items()]
        return {"apiVersion": asked.key.version, "kind": f"{asked.kind}List", "items": items}

    def _patch(self, asked: Asked) -> tuple[int, Object]:
        key = asked.key
        if asked.content_type == "application/apply-patch+yaml":
            if "fieldManager" not in asked.query:
                raise ApiError(400, "BadRequest", "PatchOptions.fieldManager: Required value")
            existed = self.objects.find(key) is not None
            item = self.objects.apply(key, asked.body, asked.query["fieldManager"])
            return (200 if existed else 201), item
        kinds = {
            "application/strategic-merge-patch+json": merge_strategic,
            "application/merge-patch+json": merge,
        }
        if asked.content_type not in kinds:
            raise ApiError(415, "UnsupportedMediaType", f"{asked.content_type} is not supported")
        patch = kinds[asked.content_type]
        return 200, self.objects.edit(key, lambda item: patch(item, asked.body))

    def _scale(self, asked: Asked) -> tuple[int, Object]:
        if asked.method != "GET":
            wanted = asked.body["spec"]["replicas"]
            patch = {"spec": {"replicas": wanted}}
            self.objects.edit(asked.key, lambda item: merge(item, patch))
        item = self.objects.get(asked.key)
        status = {"replicas": item.get("status", {}).get("replicas", 0)}
        replicas = {"replicas": item["spec"].get("replicas", 1)}
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": item["metadata"]}
        return 200, {**scale, "spec": replicas, "status": status}

    def _delete(self, asked: Asked) -> tuple[int, Object]:
        item = self.objects.get(asked.key)
        uid = (asked.body or {}).get("preconditions", {}).get("uid")
        if uid not in (None, item["metadata"]["uid"]):
            raise ApiError(409, "Conflict", "the UID in the precondition does not match")
        if asked.key.plural == "pods":
            self.objects.mark_ending(asked.key)
        else:
            self.objects.remove(asked.key)
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that give up, or do not speak TLS, are no news."""


class _Handler(BaseHTTPRequestHandler):
    api: LocalKubernetes
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.request.settimeout(60)
        self.request.do_handshake()
        super().setup()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.api.takes_fault(self.command)
        if fault in ("hang", "reset", "refuse"):
            self._break_off(hang=fault == "hang")
            return
        if fault in ("503", "429"):
            status, answer = int(fault), _status(int(fault), "NotNow", "not now")
        else:
            status, answer = self._answer(body)
        self.api.requests.append((self.command, self.path, status))
        if fault == "lost":
            self._break_off(hang=False)
            return
        self._send(status, answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _serve

    def _answer(self, body: bytes) -> tuple[int, Object]:
        try:
            self.api.login.identify(self.headers.get("Authorization", ""))
            found = _resources(urlsplit(self.path).path)
            return (200, found) if found else self.api.answer(self._asked(body))
        except Denied as error:
            self.api.denials.append(str(error))
            return 401, _status(401, "Unauthorized", "Unauthorized")
        except ApiError as error:
            return error.code, _status(error.code, error.reason, error.message)

    def _asked(self, body: bytes) -> Asked:
        parts = urlsplit(self.path)
        found = PATH.fullmatch(parts.path)
        version = (found["core"] or found["group"]) if found else ""
        kinds = {plural: kind for kind, (plural, _) in KINDS.get(version, {}).items()}
        if found is None or found["plural"] not in kinds:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        namespace, name = unquote(found["namespace"] or ""), unquote(found["name"] or "")
        try:
            content = yaml.safe_load(body) if body else None
        except yaml.YAMLError as error:
            raise ApiError(400, "BadRequest", "the body cannot be read") from error
        return Asked(
            self.command,
            Key(version, found["plural"], namespace, name),
            kinds[found["plural"]],
            found["sub"] or "",
            dict(parse_qsl(parts.query)),
            self.headers.get("Content-Type", ""),
            content,
        )

    def _send(self, status: int, answer: Object) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _break_off(self, *, hang: bool) -> None:
        if hang:
            self.api.wait_for_end()
        self.close_connection = True
        self.request.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
        self.request.shutdown(SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _resources(path: str) -> Object | None:
    """The list of a version's kinds, when it is that which is asked for."""
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if path not in (f"/api/{version}", f"/apis/{version}") or version not in KINDS:
        return None
    listed = [
        {"name": plural, "kind": kind, "namespaced": namespaced, "verbs": ["get", "list", "patch"]}
        for kind, (plural, namespaced) in KINDS[version].items()
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": listed}


def _status(code: int, reason: str, message: str) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {"at": now_text()},
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
