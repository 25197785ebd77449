"""What functions print, kept in CloudWatch Logs under the names that AWS gives."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from leeward.local.iam import ACCOUNT

if TYPE_CHECKING:
    from leeward.local.sandbox import Function

_lock = threading.Lock()


def store_log(function: Function, stream: str, line: str) -> None:
    """Append one line to the stream of a sandbox, in the group of its function."""
    store_line(function.region, _group(function), stream, line)


def store_line(region: str, group: str, stream: str, line: str) -> None:
    """Append one line; group and stream are made when they are not there."""
    backend = _backend(region)
    event = {"timestamp": int(time.time() * 1000), "message": line + "\n"}
    with _lock:
        backend.ensure_log_group(group)
        if stream not in backend.groups[group].streams:
            backend.create_log_stream(group, stream)
        backend.put_log_events(group, stream, [event])


def read_log(function: Function) -> str:
    """Every line that a function's sandboxes logged, sandbox by sandbox."""
    with _lock:
        found = _backend(function.region).groups.get(_group(function))
        streams = list(found.streams.values()) if found else []
        return "".join(event.message for stream in streams for event in stream.events)


def _group(function: Function) -> str:
    return f"/aws/lambda/{function.name}"


def _backend(region: str) -> Any:
    from moto.logs.models import logs_backends

    return logs_backends[ACCOUNT][region]
