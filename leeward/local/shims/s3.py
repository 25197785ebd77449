"""S3: conditional writes are atomic, and events tell what AWS's tell.

moto looks for the key and writes it in two steps; in 1 of 20 races both writers with
`If-None-Match: *` win. A chain of records that is extended by such writes would fork.

moto sends nothing when a delete marker is made or one version of several is deleted, gives all
events one sequencer, and swallows what goes wrong on the way to a rule's targets.
Source: "EventBridge event message structure" in the user guide of S3.
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from moto.core import serialize
from moto.events.models import events_backends
from moto.iam.access_control import PermissionResult
from moto.s3 import notifications
from moto.s3.models import FakeBucket, S3Backend
from moto.s3.responses import S3Response

from leeward.local.shims import object_lock, replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud


TIMES_KEPT = 10_000
REASONS = {
    "s3:ObjectCreated:Put": "PutObject",
    "s3:ObjectCreated:Post": "POST Object",
    "s3:ObjectCreated:Copy": "CopyObject",
    "s3:ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
}


@contextmanager
def install(_cloud: LocalCloud) -> Iterator[None]:
    lock = threading.RLock()

    def one_at_a_time(original: Any) -> Any:
        def write(self: S3Response, *args: Any, **kwargs: Any) -> Any:
            if "If-None-Match" not in self.headers and "If-Match" not in self.headers:
                return original(self, *args, **kwargs)
            with lock:
                return original(self, *args, **kwargs)

        return write

    with ExitStack() as stack:
        for name in ("put_object", "_key_response_post"):
            stack.enter_context(replaced(S3Response, name, one_at_a_time))
        stack.enter_context(_events())
        stack.enter_context(object_lock.repaired())
        stack.enter_context(replaced(FakeBucket, "get_permission", _judged_before))
        stack.enter_context(replaced(serialize, "parse_to_aware_datetime", _parsed_once))
        yield


def _parsed_once(original: Any) -> Any:
    """moto keeps times as text and parses them anew in each listing, a quarter of its cost."""
    parse_text = lru_cache(maxsize=TIMES_KEPT)(original)

    def parse(value: Any) -> datetime:
        found: datetime = parse_text(value) if isinstance(value, str) else original(value)
        return found

    return parse


def _judged_before(original: Any) -> Any:
    """guard.py has asked the bucket's policy, with its conditions, which moto leaves out."""

    def get_permission(self: FakeBucket, action: str, resource: str) -> Any:
        found = original(self, action, resource)
        return PermissionResult.NEUTRAL if found == PermissionResult.DENIED else found

    return get_permission


@contextmanager
def _events() -> Iterator[None]:
    numbers = itertools.count(1)

    def send(account: str, bucket: Any, event: str, key: Any) -> None:
        if "ObjectCreated" in event:
            detail = {"reason": REASONS[event]}
            _send(account, bucket, "Object Created", _told(key, next(numbers)), detail)

    def deleting(original: Any) -> Any:
        def delete(
            self: S3Backend,
            bucket_name: str,
            key_name: str,
            version_id: str | None = None,
            bypass: bool = False,
        ) -> Any:
            done, answer = original(self, bucket_name, key_name, version_id, bypass)
            bucket = self.get_bucket(bucket_name)
            configured = bucket.notification_configuration
            if done and configured is not None and configured.event_bridge is not None:
                marker = bucket.is_versioned and version_id is None
                kind = "Delete Marker Created" if marker else "Permanently Deleted"
                told = {"key": key_name, "sequencer": f"{next(numbers):016X}"}
                if answer.get("version-id"):
                    told["version-id"] = answer["version-id"]
                detail = {"reason": "DeleteObject", "deletion-type": kind}
                _send(self.account_id, bucket, "Object Deleted", told, detail)
            return done, answer

        return delete

    with (
        replaced(notifications, "_send_event_bridge_message", lambda _original: send),
        replaced(S3Backend, "delete_object", deleting),
    ):
        yield


def _told(key: Any, number: int) -> dict[str, Any]:
    told = {"key": key.name, "size": key.size, "etag": key.etag.strip('"')}
    told["sequencer"] = f"{number:016X}"
    if key.version_id and key.version_id != "null":
        told["version-id"] = key.version_id
    return told


def _send(
    account: str, bucket: Any, kind: str, told: dict[str, Any], detail: dict[str, Any]
) -> None:
    event = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": "aws.s3",
        "account": account,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": bucket.region_name,
        "resources": [bucket.arn],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket.name},
            "object": told,
            "requester": account,
            **detail,
        },
    }
    for bus in events_backends[account][bucket.region_name].event_buses.values():
        for rule in bus.rules.values():
            rule.send_to_targets(event, transform_input=False)
