"""Elastic Load Balancing (moto: elb, both versions): a target here is as healthy as it answers.

moto calls every registered target healthy. Here the health check's path is really asked for each
time somebody wants to know, on the address of a host of the local cloud or on a loopback address;
whoever is neither is as moto says. Thresholds are not counted: an answer is healthy at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from moto.elbv2.models import FakeHealthStatus, FakeTargetGroup

from chalicelib.adapters.http.page import fetch_page
from chalicelib.errors import Unavailable
from leeward.local.shims import replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

ANSWER_SECONDS = 2.0


@contextmanager
def install(cloud: LocalCloud) -> Iterator[None]:
    def asked(original: Any) -> Any:
        def health_for(self: FakeTargetGroup, target: dict[str, Any], ec2: Any) -> Any:
            told = original(self, target, ec2)
            address = _address(cloud, target["Id"])
            if told.status != "healthy" or not address:
                return told
            port = self.targets[target["Id"]].get("Port") or self.port
            url = f"http://{address}:{port}{self.health_check_path or '/'}"
            return _status(target["Id"], port, url)

        return health_for

    with replaced(FakeTargetGroup, "health_for", asked):
        yield


def _address(cloud: LocalCloud, target: str) -> str:
    """Where the target is on this machine, "" when it is not."""
    if cloud.hosts.is_known(target):
        return cloud.hosts.address(target)
    return target if target.startswith("127.") else ""


def _status(target: str, port: Any, url: str) -> FakeHealthStatus:
    try:
        status, _ = fetch_page(url, seconds=ANSWER_SECONDS)
    except Unavailable as error:
        return FakeHealthStatus(target, port, port, "unhealthy", "Target.Timeout", error.message)
    if status == 200:
        return FakeHealthStatus(target, port, port, "healthy")
    why = f"Health checks failed with these codes: [{status}]"
    return FakeHealthStatus(target, port, port, "unhealthy", "Target.ResponseCodeMismatch", why)
