"""ARC's recovery cluster: its five endpoints, with the same API, quorum and safety rules.

    with RoutingCluster(["arn:...primary", "arn:...dr"]) as cluster:
        cluster.endpoints                    {"us-east-1": "http://127.0.0.1:...", ...}
        cluster.kill("us-east-1")            the endpoint does not listen any more
        cluster.forbid("arn:...dr")          a safety rule: it may not be turned on

moto has no such service. The endpoints listen on loopback and share one state, as a cluster with a
quorum does; with fewer than three left none of them takes a change, unless `partitioned`: then the
dead are only out of reach from here.
Source: API reference of route53-recovery-cluster; ARC developer guide, "Safety rules".
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from leeward.local.serving import serve

REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-2")
QUORUM = 3
HOST = "127.0.0.1"
TYPE = "application/x-amz-json-1.0"


class RoutingCluster:
    """See the module. Controls are off at first."""

    def __init__(self, controls: Iterable[str], *, partitioned: bool = False) -> None:
        self.states = dict.fromkeys(controls, "Off")
        self.asked: list[tuple[str, str]] = []
        self._partitioned = partitioned
        self._forbidden: set[str] = set()
        self._ends: dict[str, Callable[[], None]] = {}
        self._urls: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def endpoints(self) -> dict[str, str]:
        """By region, the dead ones too: a plan names them all."""
        return dict(self._urls)

    def __enter__(self) -> Self:
        for region in REGIONS:
            server = ThreadingHTTPServer((HOST, 0), _handler(self, region))
            self._ends[region] = serve(server)
            self._urls[region] = f"http://{HOST}:{server.server_port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for region in list(self._ends):
            self.kill(region)

    def kill(self, region: str) -> None:
        """The endpoint's socket is closed."""
        self._ends.pop(region)()

    def forbid(self, arn: str) -> None:
        """From now on a change that would turn the control on is refused, as by a gating rule."""
        self._forbidden.add(arn)

    def is_on(self, arn: str) -> bool:
        return self.states.get(arn) == "On"

    def serve(
        self, region: str, operation: str, body: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        """(HTTP status, answer) of one call at the endpoint of a region."""
        with self._lock:
            self.asked.append((region, operation))
            if operation == "GetRoutingControlState":
                return self._state_of(body["RoutingControlArn"])
            if operation == "UpdateRoutingControlStates":
                entries = body["UpdateRoutingControlStateEntries"]
                wanted = {it["RoutingControlArn"]: it["RoutingControlState"] for it in entries}
                return self._update(wanted)
            return 400, _problem("ValidationException", f"unknown operation {operation}")

    def _state_of(self, arn: str) -> tuple[int, dict[str, Any]]:
        if arn not in self.states:
            return 400, _problem("ResourceNotFoundException", f"no control {arn}")
        return 200, {"RoutingControlArn": arn, "RoutingControlState": self.states[arn]}

    def _update(self, wanted: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if len(self._ends) < QUORUM and not self._partitioned:
            return 503, _problem("EndpointTemporarilyUnavailableException", "no quorum")
        if unknown := set(wanted) - set(self.states):
            return 400, _problem("ResourceNotFoundException", f"no control {sorted(unknown)}")
        after = self.states | wanted
        if any(after[arn] == "On" for arn in self._forbidden):
            return 409, _problem("ConflictException", "a gating rule does not let it be on")
        self.states = after
        return 200, {}


def _problem(kind: str, message: str) -> dict[str, Any]:
    return {"__type": kind, "message": message}


def _handler(cluster: RoutingCluster, region: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            status, answer = cluster.serve(region, operation, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", TYPE)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None: ...

    return Handler
