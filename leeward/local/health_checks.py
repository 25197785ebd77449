"""Route 53's health checkers: they really ask, and what they saw decides what DNS answers.

Each check of moto's Route 53 is asked at its interval, HASTE times as often as in AWS. Its state
changes when the endpoint answered otherwise FailureThreshold times in a row. A new check counts as
healthy until then; an inverted one is the opposite of its endpoint from the beginning, so that a
new inverted check counts as unhealthy: a trap of AWS that is kept here.

Addresses of S3 (`BUCKET.s3.REGION.amazonaws.com`) are asked for at this cloud, and only what the
bucket's policy lets an anonymous caller from a checker's address read is read. Certificates are
not looked at, in AWS neither. One checker stands for all: a share of 18 % cannot disagree here.
Source: Route 53 developer guide, "How Amazon Route 53 determines whether a health check is
healthy"; API reference, HealthCheckConfig.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import sys
import threading
import time
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from leeward.local.iam import ACCOUNT

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

HASTE = 20.0
TICK_SECONDS = 0.05
# Route 53 waits 4 s for a connection and 2 s for the answer.
CONNECT_SECONDS, ANSWER_SECONDS = 4.0, 2.0
SEARCHED_BYTES = 5120
CHECKER = "15.177.0.1"
S3_HOST = re.compile(r"(?P<bucket>.+)\.s3(?:-website)?[.-](?P<region>[a-z0-9-]+)\.amazonaws\.com")


@dataclass(frozen=True)
class Standing:
    """What is known of one check. `endpoint_up`: as believed, before it is inverted."""

    endpoint_up: bool = True
    against: int = 0
    last: str = "not asked yet"
    due_at: float = 0.0

    def after(self, up: bool, told: str, *, threshold: int) -> Standing:
        """The threshold counts answers in a row that are otherwise than believed."""
        if up == self.endpoint_up:
            return replace(self, against=0, last=told)
        if self.against + 1 >= threshold:
            return replace(self, endpoint_up=up, against=0, last=told)
        return replace(self, against=self.against + 1, last=told)


class HealthChecker:
    """Asks from a thread of its own until `stop`. Reads moto's checks only when there are any."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._standings: dict[str, Standing] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def is_healthy(self, check_id: str) -> bool:
        """Of the check, inverted where it is; True for one that is not there."""
        check = health_checks().get(check_id)
        if check is None:
            return True
        return self._endpoint_up(check) != bool(check.inverted)

    def last_answer(self, check_id: str) -> str:
        """What the endpoint said when it was asked last."""
        return self._standings.get(check_id, Standing()).last

    def _endpoint_up(self, check: Any) -> bool:
        if check.disabled:
            return True
        if check.type_ == "CALCULATED":
            healthy = sum(self.is_healthy(child) for child in check.children or ())
            return healthy >= int(check.health_threshold or len(check.children or ()))
        if check.type_ == "RECOVERY_CONTROL":
            return self._cloud.control_is_on(getattr(check, "routing_control_arn", ""))
        return self._standings.get(check.id, Standing()).endpoint_up

    def _run(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            now = time.monotonic()
            for check in list(health_checks().values()):
                standing = self._standings.get(check.id, Standing())
                if check.type_ in PROBES and not check.disabled and standing.due_at <= now:
                    self._ask(check, standing, now)

    def _ask(self, check: Any, standing: Standing, now: float) -> None:
        up, told = PROBES[check.type_](self._cloud, check)
        due_at = now + float(check.request_interval) / HASTE
        known = standing.after(up, told, threshold=int(check.failure_threshold))
        self._standings[check.id] = replace(known, due_at=due_at)


def health_checks() -> dict[str, Any]:
    """moto's checks by id; nothing is imported for it, and half an import is none yet."""
    backends = getattr(sys.modules.get("moto.route53.models"), "route53_backends", None)
    found: dict[str, Any] = backends[ACCOUNT]["aws"].health_checks if backends else {}
    return found


def _probe_http(cloud: LocalCloud, check: Any) -> tuple[bool, str]:
    """(up, what it said). A status from 200 to 399 is up."""
    host = check.fqdn or check.ip_address
    path = check.resource_path or "/"
    secure = check.type_.startswith("HTTPS")
    address = (check.ip_address or host, int(check.port or (443 if secure else 80)))
    if found := S3_HOST.fullmatch(host):
        refused = may_checker_read(found["bucket"], unquote(path).lstrip("/"))
        if refused:
            return False, refused
        local = urlsplit(cloud.url)
        address, secure = (str(local.hostname), int(local.port or 80)), False
        path, host = f"/{found['bucket']}{path}", str(local.hostname)
    try:
        status, body = _get(address, host, path, secure=secure)
    except (OSError, http.client.HTTPException) as error:
        return False, f"Failure: {type(error).__name__}"
    wanted = check.search_string if check.type_.endswith("STR_MATCH") else None
    up = 200 <= status < 400 and (wanted is None or wanted.encode() in body)
    return up, f"{'Success' if up else 'Failure'}: HTTP Status Code: {status}"


def _get(address: tuple[str, int], host: str, path: str, *, secure: bool) -> tuple[int, bytes]:
    connection: http.client.HTTPConnection
    if secure:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(*address, timeout=CONNECT_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(*address, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
        connection.sock.settimeout(ANSWER_SECONDS)
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read(SEARCHED_BYTES)
    finally:
        connection.close()


def _probe_tcp(_cloud: LocalCloud, check: Any) -> tuple[bool, str]:
    try:
        address = (check.ip_address or check.fqdn, int(check.port))
        with socket.create_connection(address, CONNECT_SECONDS):
            return True, "Success: connected"
    except OSError as error:
        return False, f"Failure: {type(error).__name__}"


PROBES = {
    "HTTP": _probe_http,
    "HTTPS": _probe_http,
    "HTTP_STR_MATCH": _probe_http,
    "HTTPS_STR_MATCH": _probe_http,
    "TCP": _probe_tcp,
}


def may_checker_read(bucket: str, key: str) -> str:
    """Why an anonymous checker may not read the object, "" when it may.

    A policy without a fixed address is public, which Block Public Access takes back. An object
    under a KMS key is nobody's who signs nothing.
    """
    from moto.s3.models import s3_backends

    found = s3_backends[ACCOUNT]["aws"].buckets.get(bucket)
    if found is None:
        return "Failure: HTTP Status Code: 404"
    statements = json.loads(found.policy or b'{"Statement": []}')["Statement"]
    block = found.public_access_block
    strict = bool(block and str(block.restrict_public_buckets).lower() == "true")
    effects = {it["Effect"] for it in statements if _applies(it, bucket, key, strict=strict)}
    stored = found.keys.get(key)
    by_kms = getattr(stored, "encryption", None) == "aws:kms"
    return "" if effects == {"Allow"} and not by_kms else "Failure: HTTP Status Code: 403"


def _applies(statement: dict[str, Any], bucket: str, key: str, *, strict: bool) -> bool:
    conditions = dict(statement.get("Condition", {}))
    sources = conditions.pop("IpAddress", {}).get("aws:SourceIp")
    if conditions:  # one that is not known here is no permission, and no refusal of TLS
        return False
    here = sources is None or any(ip_address(CHECKER) in ip_network(it) for it in _listed(sources))
    is_public = sources is None and statement["Effect"] == "Allow"
    return (
        statement["Principal"] in ("*", {"AWS": "*"})
        and here
        and not (is_public and strict)
        and any(fnmatchcase("s3:GetObject", it) for it in _listed(statement["Action"]))
        and any(
            fnmatchcase(f"arn:aws:s3:::{bucket}/{key}", it) for it in _listed(statement["Resource"])
        )
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
