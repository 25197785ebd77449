"""The targets of a load balancer: the new ones are in and healthy before the old ones go.

Names keep leading to the load balancer, so that nothing waits for a cache. The API is the control
plane of the load balancer's own region.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.errors import BadInput, Unavailable
from chalicelib.ports import Clock
from chalicelib.ports.traffic import Moved, Switch

SERVICE = "elasticloadbalancing"
POLL_SECONDS = 2.0
HEALTHY_SECONDS = 240.0
# What a target that was taken away may still be called. Source: TargetHealth in the API reference.
GONE = frozenset({"unused", "draining", "unavailable"})


def connect_elb(target_group: str) -> Any:
    """A client in the region of the target group, which its ARN names."""
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=5, read_timeout=20
    )
    return boto3.client("elbv2", region_name=target_group.split(":")[3], config=config)


class LoadBalancerTargets:
    """The port Traffic, with a client of Elastic Load Balancing v2.

    targets: by site, the ids of instances or IP addresses.
    """

    resolves = False

    def __init__(
        self,
        client: Any,
        target_group: str,
        targets: Mapping[str, Sequence[str]],
        *,
        clock: Clock,
        limit_seconds: float = HEALTHY_SECONDS,
    ) -> None:
        self._client = client
        self._group = target_group
        self._targets = targets
        self._clock = clock
        self._limit_seconds = limit_seconds

    def state(self) -> str:
        """The site whose targets are all there and healthy, and nobody else's."""
        health = self._health()
        for site, ids in self._targets.items():
            if set(health) == set(ids) and set(health.values()) == {"healthy"}:
                return site
        return ""

    def switch(self, switch: Switch) -> Moved:
        """Raises Unavailable (code "targets-not-healthy"); then the old targets are still in."""
        wanted = self._targets.get(switch.to)
        if not wanted:
            raise BadInput(
                f"expected targets of the site {switch.to}, found none in the plan",
                hint="name them under `targets` of the component",
                code="no-such-site",
            )
        self._register(wanted)
        self._wait_healthy(wanted)
        others = [one for one in self._health() if one not in wanted]
        self._deregister(others)
        gone = ", ".join(others) or "nobody"
        return Moved(
            f"registered {', '.join(wanted)}, and when they were healthy took out {gone}",
            f"register {gone} at {self._group}, and take out {', '.join(wanted)}",
        )

    def _health(self) -> dict[str, str]:
        """State by id, of those that are registered."""
        with mapped(SERVICE, group=self._group):
            answer = self._client.describe_target_health(TargetGroupArn=self._group)
        found = answer["TargetHealthDescriptions"]
        states = {it["Target"]["Id"]: it["TargetHealth"]["State"] for it in found}
        return {one: state for one, state in states.items() if state not in GONE}

    def _register(self, ids: Iterable[str]) -> None:
        with mapped(SERVICE, group=self._group):
            self._client.register_targets(
                TargetGroupArn=self._group, Targets=[{"Id": one} for one in ids]
            )

    def _deregister(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        with mapped(SERVICE, group=self._group):
            try:
                self._client.deregister_targets(
                    TargetGroupArn=self._group, Targets=[{"Id": one} for one in ids]
                )
            except ClientError as error:
                if error_code(error) != "InvalidTarget":  # gone already
                    raise

    def _wait_healthy(self, wanted: Sequence[str]) -> None:
        started = self._clock.now()
        while True:
            health = self._health()
            ill = {one: health.get(one, "absent") for one in wanted if health.get(one) != "healthy"}
            if not ill:
                return
            if (self._clock.now() - started).total_seconds() > self._limit_seconds:
                told = ", ".join(f"{one} {state}" for one, state in ill.items())
                raise Unavailable(
                    f"expected healthy targets in {self._limit_seconds:.0f} s, found {told}",
                    hint="the old targets still serve; look at the new ones' health check",
                    code="targets-not-healthy",
                )
            self._clock.sleep(POLL_SECONDS)
