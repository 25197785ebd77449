"""What S3's answers mean, as Leeward's errors: by status and code, never by message."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from chalicelib.adapters.aws_codes import REJECTED_CREDENTIALS
from chalicelib.adapters.http.text import parse_date
from chalicelib.adapters.s3.xml import ServerError, parse_error
from chalicelib.errors import (
    BadInput,
    DigestMismatch,
    LeewardError,
    NotReady,
    Refused,
    Throttled,
    Truncated,
    Unavailable,
)

# Codes that mean "not now", whatever the status. Source: S3's list of error responses.
SLOW = frozenset({"SlowDown", "Throttling", "TooManyRequests", "RequestLimitExceeded"})
PASSING = frozenset(
    {
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "IncompleteBody",
        "BadDigest",
        "XAmzContentSHA256Mismatch",
        "XAmzContentChecksumMismatch",
    }
)
# To a GET, and to a copy.
ARCHIVED = frozenset({"InvalidObjectState", "ObjectNotInActiveTierError"})
# How S3 says that a bucket is in another region; the region itself is in a header or the body.
ELSEWHERE = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "TemporaryRedirect",
    }
)


def error_of(
    status: int, headers: Mapping[str, str], body: bytes, *, bucket: str, key: str
) -> LeewardError:
    """The error for an answer that is none of those hoped for."""
    said = parse_error(body)
    code = said.code or headers.get("x-amz-error-code", "")
    context: dict[str, Any] = {"bucket": bucket, "status": status, "s3_code": code}
    if key:
        context["key"] = key
    what = f"{code or 'no code'} (HTTP {status}) for {_name(bucket, key)}"
    if code in SLOW or status in (429, 503):
        return Throttled(f"s3 answered {what}", hint="It is tried again later.", **context)
    if code in PASSING or status >= 500:
        return Unavailable(f"s3 answered {what}", hint="It is tried again later.", **context)
    return (
        _about_caller(code, status, headers, what, context)
        or _about_bucket(code, status, headers, said, context)
        or _about_object(code, status, what, context)
    )


def region_of(error: LeewardError) -> str:
    """Where the bucket is, "" when the error is not about that."""
    return str(error.context.get("found_region", ""))


def ahead_of(error: LeewardError) -> float | None:
    """How far this machine's clock is ahead of S3's, None when the error is not about that."""
    found = error.context.get("seconds_ahead")
    return None if found is None else float(found)


def _about_caller(
    code: str, status: int, headers: Mapping[str, str], what: str, context: dict[str, Any]
) -> LeewardError | None:
    if code == "RequestTimeTooSkewed":
        return NotReady(
            f"expected the clock of this machine to agree with s3's, found it {_skew(headers)}",
            code="clock-skewed",
            hint="Set the clock (timedatectl set-ntp true), then run it again.",
            seconds_ahead=_seconds_ahead(headers),
            **context,
        )
    if code in REJECTED_CREDENTIALS:
        return NotReady(
            f"expected credentials that s3 accepts, found {what}",
            code="credentials-rejected",
            hint="Renew the credentials, or look which ones AWS_PROFILE names.",
            **context,
        )
    if code in ARCHIVED:
        return NotReady(
            f"expected an object that can be read at once, found {what}",
            code="archived",
            hint="Ask S3 to restore the object from its archive, wait, then run it again.",
            **context,
        )
    if status == 403 or code == "AccessDenied":
        return Refused(
            f"expected to be allowed, found {what}",
            code="access-denied",
            hint="Compare the caller's rights with the bucket's policy and its KMS key's policy.",
            **context,
        )
    return None


def _about_bucket(
    code: str, status: int, headers: Mapping[str, str], said: ServerError, context: dict[str, Any]
) -> LeewardError | None:
    bucket = context["bucket"]
    if code == "NoSuchBucket":
        return NotReady(
            f"expected a bucket {bucket}, found none",
            code="no-bucket",
            hint="Is the name right, and the account the one that owns it?",
            **context,
        )
    if code in ELSEWHERE or status in (301, 307):
        found = headers.get("x-amz-bucket-region", "") or said.region
        return NotReady(
            f"expected {bucket} in the region asked, found it in {found or 'another one'}",
            code="wrong-region",
            hint="Name the bucket's own region in the plan.",
            found_region=found,
            **context,
        )
    return None


def _about_object(code: str, status: int, what: str, context: dict[str, Any]) -> LeewardError:
    if code in ("NoSuchKey", "NoSuchVersion", "NoSuchUpload") or status == 404:
        return Truncated(
            f"expected an object, found {what}",
            code="upload-missing" if code == "NoSuchUpload" else "object-missing",
            hint="List the bucket again: it was deleted meanwhile, or never there.",
            **context,
        )
    if status == 412:
        return DigestMismatch(
            f"expected the object to stay as it was listed, found {what}",
            code="object-changed",
            hint="Run it again; find out who writes when it repeats.",
            **context,
        )
    if status == 416:
        return BadInput(
            f"expected a range within the object, found {what}",
            hint="Ask for its size first.",
            **context,
        )
    return NotReady(
        f"expected s3 to do it, found {what}",
        code="s3-refused",
        hint="Look the code up in S3's list of error responses.",
        **context,
    )


def _name(bucket: str, key: str) -> str:
    return f"{bucket}/{key!r}" if key else bucket


def _skew(headers: Mapping[str, str]) -> str:
    seconds = _seconds_ahead(headers)
    if seconds is None:
        return "more than 15 minutes off"
    return f"{abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"


def _seconds_ahead(headers: Mapping[str, str]) -> float | None:
    """None without a date, and for one that something in between has mangled.

    A date without a zone is GMT. Source: RFC 9110, 5.6.7.
    """
    try:
        told = parse_date(headers.get("Date", ""))
    except ValueError:
        return None
    at = told if told.tzinfo else told.replace(tzinfo=UTC)
    return (datetime.now(UTC) - at).total_seconds()
