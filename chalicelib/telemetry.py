"""Structured logs and metrics of every Lambda, as one Chalice middleware each.

No Tracer: importing aws_xray_sdk alone takes four times as long as everything else here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger, Metrics
from chalice.app import ConvertToMiddleware

if TYPE_CHECKING:
    from chalice import Chalice

logger = Logger(service="leeward")
metrics = Metrics(namespace="Leeward/Runtime", service="leeward")


def install(app: Chalice) -> None:
    """Every invocation logs with its request id, counts its cold start and its exception."""
    app.register_middleware(
        ConvertToMiddleware(partial(logger.inject_lambda_context, clear_state=True)), "all"
    )
    app.register_middleware(
        ConvertToMiddleware(partial(metrics.log_metrics, capture_cold_start_metric=True)), "all"
    )
