"""Structured logs and metrics of every Lambda, as one Chalice middleware each.

No Tracer: importing aws_xray_sdk alone takes four times as long as everything else here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from chalice.app import ConvertToMiddleware

if TYPE_CHECKING:
    from chalice.app import Chalice

logger = Logger(service="leeward")
metrics = Metrics(namespace="Leeward/Runtime", service="leeward")


def install(app: Chalice) -> None:
    """Every invocation logs with its request id, and counts itself and its cold start."""
    app.register_middleware(
        ConvertToMiddleware(partial(logger.inject_lambda_context, clear_state=True)), "all"
    )
    app.register_middleware(
        ConvertToMiddleware(partial(metrics.log_metrics, capture_cold_start_metric=True)), "all"
    )
    app.register_middleware(_count, "all")


def _count(event: Any, get_response: Callable[[Any], Any]) -> Any:
    metrics.add_metric(name="Handled", unit=MetricUnit.Count, value=1)
    return get_response(event)
