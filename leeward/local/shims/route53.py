"""Route 53: a health check's status is what was seen, and a batch is done as one or not at all.

moto says "Success" of every check, forgets the routing control that a check stands for, stops in
the middle of a batch at a name of another zone, and has each change in sync before it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.route53.models import Route53Backend
from moto.route53.responses import Route53

from leeward.local.health_checks import CHECKER
from leeward.local.shims import replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud


@contextmanager
def install(cloud: LocalCloud) -> Iterator[None]:
    def seen(_original: Any) -> Any:
        def get_health_check_status(self: Route53) -> ActionResult:
            identity = self._get_param("HealthCheckId")
            self.backend.get_health_check(identity)
            report = {
                "Status": cloud.health_checker.last_answer(identity),
                "CheckedTime": datetime.now(UTC),
            }
            observation = {"Region": "us-east-1", "IPAddress": CHECKER, "StatusReport": report}
            return ActionResult({"HealthCheckObservations": [observation]})

        return get_health_check_status

    def with_control(original: Any) -> Any:
        def create_health_check(self: Route53) -> ActionResult:
            answer: ActionResult = original(self)
            result: Any = answer.result
            made = result["HealthCheck"]
            config = self._get_param("HealthCheckConfig")
            made.routing_control_arn = config.get("RoutingControlArn") or ""
            return answer

        return create_health_check

    def as_one(original: Any) -> Any:
        def change(self: Route53Backend, zoneid: str, change_list: list[dict[str, Any]]) -> None:
            zone = self.get_hosted_zone(zoneid)
            before = list(zone.rrsets)
            try:
                original(self, zoneid, change_list)
            except ServiceException:
                zone.rrsets = before
                raise

        return change

    def pending(original: Any) -> Any:
        def change_resource_record_sets(self: Route53) -> ActionResult:
            answer: ActionResult = original(self)
            result: Any = answer.result
            result["ChangeInfo"]["Status"] = "PENDING"
            return answer

        return change_resource_record_sets

    with ExitStack() as stack:
        stack.enter_context(replaced(Route53, "change_resource_record_sets", pending))
        stack.enter_context(replaced(Route53Backend, "change_resource_record_sets", as_one))
        stack.enter_context(replaced(Route53, "get_health_check_status", seen))
        stack.enter_context(replaced(Route53, "create_health_check", with_control))
        yield
