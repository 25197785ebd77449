"""S3's events as EventBridge delivers them: at least once, in any order."""

from __future__ import annotations

from typing import Any

from chalicelib.errors import BadInput
from chalicelib.plan.records import parse_time
from chalicelib.plan.signs import BucketEvent, EventKind

_KINDS: dict[str, EventKind] = {"Object Created": "created", "Object Deleted": "deleted"}


def read_event(event: dict[str, Any]) -> BucketEvent:
    """Source: S3's event message structure for EventBridge; keys are not URL-encoded there.

    Raises:
        BadInput: it is no such event, or lacks what every one has.
    """
    try:
        kind = _KINDS[event["detail-type"]]
        detail, at = event["detail"], parse_time(event["time"])
        subject = detail["object"]
        key = str(subject["key"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"expected an S3 event of EventBridge, found none: {error!r}",
            hint="send Object Created and Object Deleted of the bucket to this function alone",
            code="not-an-s3-event",
        ) from error
    version = str(subject.get("version-id", ""))
    size = subject.get("size")
    return BucketEvent(
        id=str(subject.get("sequencer") or event.get("id", "")) + version,
        at=at,
        kind=kind,
        key=key,
        version_id=version,
        size_bytes=None if size is None else int(size),
        etag=str(subject.get("etag", "")),
        reason=str(detail.get("reason", "")),
        requester=str(detail.get("requester", "")),
        permanent=detail.get("deletion-type") == "Permanently Deleted",
    )


def bucket_of(event: dict[str, Any]) -> str:
    """Raises BadInput (code "not-an-s3-event") when the event names no bucket."""
    try:
        return str(event["detail"]["bucket"]["name"])
    except (KeyError, TypeError) as error:
        raise BadInput(
            "expected an event that names its bucket, found none",
            hint="send the events of S3 as they are, without an input transformer",
            code="not-an-s3-event",
        ) from error
