"""What the policies need to know of the plan's infrastructure: its projects, logs and outputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from chalicelib.plan.components import Infrastructure
from chalicelib.plan.model import Plan

# IAM takes no empty list: without infrastructure there is a name that nothing has.
NONE = "leeward-no-infrastructure"


def infrastructure_parameters(plan: Plan) -> dict[str, Any]:
    """ARNs of the CodeBuild projects, of their builds' logs, and of the outputs they leave."""
    found = [it for it in plan.components.values() if isinstance(it, Infrastructure)]
    projects = sorted({it.project for it in found}) or [NONE]
    outputs = sorted({_objects(it.outputs) for it in found if it.outputs}) or [f"{NONE}/*"]
    return {
        "InfrastructureProjects": _list(f"arn:aws:codebuild:*:*:project/{it}" for it in projects),
        "InfrastructureLogs": _list(
            f"arn:aws:logs:*:*:log-group:/aws/codebuild/{it}:log-stream:*" for it in projects
        ),
        "InfrastructureOutputs": _list(f"arn:aws:s3:::{it}" for it in outputs),
    }


def _objects(address: str) -> str:
    parts = urlsplit(address)
    prefix = parts.path.strip("/")
    return f"{parts.netloc}/{prefix}/*" if prefix else f"{parts.netloc}/*"


def _list(arns: Iterable[str]) -> dict[str, str]:
    return {"Type": "CommaDelimitedList", "Default": ",".join(arns)}
