"""S3 Object Lock: locks can be read, and are never shortened.

moto answers GetObjectRetention with the object itself, and lets anybody shorten a COMPLIANCE lock,
so a program that forgets to only extend would look right here and fail in AWS.
Source: "How Object Lock works" in the user guide of S3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

from moto.s3.exceptions import AccessDeniedByLock, MissingKey
from moto.s3.models import S3Backend
from moto.s3.responses import S3Response

from leeward.local.shims import replaced

RETENTION = """<?xml version="1.0" encoding="UTF-8"?>
<Retention xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate>
</Retention>"""
NO_RETENTION = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{code}</Code><Message>There is no retention to tell.</Message></Error>"""


@contextmanager
def repaired() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(replaced(S3Response, "_key_response_get", _readable))
        stack.enter_context(replaced(S3Backend, "put_object_retention", _only_extended))
        yield


def _readable(original: Any) -> Any:
    def get(self: S3Response, query: dict[str, Any], key_name: str) -> Any:
        if "retention" not in query:
            return original(self, query, key_name)
        self._set_action("KEY", "GET", query)
        self._authenticate_and_authorize_s3_action(bucket_name=self.bucket_name, key_name=key_name)
        key, _ = self._get_key()
        if not self.backend.get_bucket(self.bucket_name).object_lock_enabled:
            return 400, {}, NO_RETENTION.format(code="InvalidRequest")
        if not key.lock_until:
            return 404, {}, NO_RETENTION.format(code="NoSuchObjectLockConfiguration")
        return 200, {}, RETENTION.format(mode=key.lock_mode, until=key.lock_until)

    return get


def _only_extended(original: Any) -> Any:
    def put(
        self: S3Backend,
        bucket_name: str,
        key_name: str,
        version_id: str | None,
        retention: tuple[str | None, str | None],
    ) -> Any:
        key = self.get_object(bucket_name, key_name, version_id=version_id)
        if key is None:
            raise MissingKey(key=key_name)
        until = retention[1]
        if key.lock_until and (until is None or _time(until) < _time(key.lock_until)):
            raise AccessDeniedByLock
        return original(self, bucket_name, key_name, version_id, retention)

    return put


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
