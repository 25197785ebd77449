"""ARC routing controls: on/off switches, set beforehand into health checks, in five regions.

The cluster's endpoints are known beforehand too, since describing the cluster needs ARC's control
plane. They are tried in turn; any one that has the cluster's quorum is enough.
Source: Amazon Application Recovery Controller developer guide, "Best practices" (store the
endpoints, choose one at random and try the others).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.errors import BadInput, Refused, Unavailable
from chalicelib.ports.traffic import Moved, Switch

SERVICE = "route53-recovery-cluster"
ON, OFF = "On", "Off"

# A dead endpoint is given up after this; there are four more.
CONNECT_SECONDS, READ_SECONDS = 2, 5

Connect = Callable[[str, str], Any]


def connect_endpoint(region: str, url: str) -> Any:
    """A client of one endpoint, which tries once."""
    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
    )
    return boto3.client(SERVICE, region_name=region, endpoint_url=url, config=config)


class RoutingControls:
    """The port Traffic.

    controls: ARN by site. endpoints: by region. connect(region, url): a client that gives up on a
    dead endpoint within seconds.
    """

    resolves = True

    def __init__(
        self, controls: Mapping[str, str], endpoints: Mapping[str, str], connect: Connect
    ) -> None:
        self._controls = controls
        self._endpoints = endpoints
        self._connect = connect

    def state(self) -> str:
        on = [site for site, arn in self._controls.items() if self._is_on(arn)]
        return on[0] if len(on) == 1 else ""

    def _is_on(self, arn: str) -> bool:
        answer = self._ask("get_routing_control_state", RoutingControlArn=arn)
        return bool(answer["RoutingControlState"] == ON)

    def switch(self, switch: Switch) -> Moved:
        """All controls in one call, which the cluster does as one or not at all."""
        if switch.to not in self._controls:
            raise BadInput(
                f"expected one of {', '.join(self._controls)}, found {switch.to}",
                hint="give the site a routing control in the plan",
                code="no-such-site",
            )
        entries = [
            {"RoutingControlArn": arn, "RoutingControlState": ON if site == switch.to else OFF}
            for site, arn in self._controls.items()
        ]
        self._ask("update_routing_control_states", UpdateRoutingControlStateEntries=entries)
        return Moved(
            f"set the routing control of {switch.to} on, those of the other sites off",
            f"set that of {switch.came_from or 'the site before'} on and the others off, "
            f"at any of {', '.join(self._endpoints.values())}",
        )

    def _ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        silent: list[str] = []
        for region, client in self._clients():
            try:
                with mapped(SERVICE, region=region), _mapped_rules():
                    answer: dict[str, Any] = getattr(client, operation)(**parameters)
                    return answer
            except Unavailable as error:
                silent.append(f"{region}: {error.message}")
        raise Unavailable(
            f"none of the {len(self._endpoints)} endpoints did it: {'; '.join(silent)}",
            hint="are the endpoints in the plan those of the cluster? the call is tried again",
            code="no-endpoint",
        )

    def _clients(self) -> Iterator[tuple[str, Any]]:
        return ((region, self._connect(region, url)) for region, url in self._endpoints.items())


@contextmanager
def _mapped_rules() -> Iterator[None]:
    """A safety rule's refusal, which no other endpoint would judge differently."""
    try:
        yield
    except ClientError as error:
        if error_code(error) != "ConflictException":
            raise
        raise Refused(
            "a safety rule of the recovery cluster forbids this combination of sites",
            hint="look at the cluster's safety rules; overriding one is for a person in ARC",
            code="safety-rule",
        ) from error
