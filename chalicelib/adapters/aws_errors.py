"""Maps botocore's errors to Leeward's, once, for every adapter that calls AWS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
)

from chalicelib.adapters.aws_codes import DENIED as DENIED
from chalicelib.adapters.aws_codes import REJECTED_CREDENTIALS
from chalicelib.errors import LeewardError, NotReady, Refused, Throttled, Unavailable

# Error codes that mean "not now", over all services. Source: botocore's retry handler.
THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestLimitExceeded",
        "ProvisionedThroughputExceededException",
        "TooManyRequestsException",
        "SlowDown",
        "PriorRequestNotComplete",
        "TransactionInProgressException",
        "LimitExceededException",
    }
)


def error_code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def http_status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def mapped(service: str, **context: Any) -> Iterator[None]:
    """Raise Leeward's error for any of botocore's; codes the caller handles must be caught inside.

    Raises: Throttled, Unavailable (both retryable), Refused (code "access-denied"), NotReady.
    """
    try:
        yield
    except ClientError as error:
        raise _from_client_error(service, error, context) from error
    except NoCredentialsError as error:
        raise NotReady(
            f"no AWS credentials for {service}",
            hint="set AWS_PROFILE, or the key variables, or run where a role is attached",
            code="no-credentials",
        ) from error
    except NoRegionError as error:
        raise NotReady(
            f"no AWS region for {service}",
            hint="set AWS_DEFAULT_REGION to the plan's primary region, or one in the profile",
            code="no-region",
        ) from error
    except (ConnectionError, HTTPClientError) as error:
        raise Unavailable(
            f"{service} did not answer{_of(context)}: {type(error).__name__}",
            hint="check the network and the region's state; the call is tried again",
            **context,
        ) from error
    except BotoCoreError as error:
        raise NotReady(
            f"{service} cannot be called: {type(error).__name__}",
            hint="check the AWS configuration: the AWS_ variables and ~/.aws/config",
            **context,
        ) from error


def _from_client_error(service: str, error: ClientError, context: dict[str, Any]) -> LeewardError:
    code, status = error_code(error), http_status(error)
    text = f"{service} refused {error.operation_name}{_of(context)}: {code} (HTTP {status})"
    if code in THROTTLED or status == 503:
        return Throttled(text, hint="it is tried again later", **context)
    if status >= 500 or code in ("RequestTimeout", "InternalError"):
        return Unavailable(text, hint="it is tried again later", **context)
    if code in REJECTED_CREDENTIALS:
        hint = "renew the credentials, or look which ones AWS_PROFILE names, and at this clock"
        return NotReady(text, hint=hint, code="credentials-rejected", **context)
    if code in DENIED or status == 403:
        hint = "compare the call with the rights of who calls: policies/iam/, docs/operator-role.md"
        return Refused(text, hint=hint, code="access-denied", **context)
    return NotReady(text, hint="does the resource exist, and is its name right?", **context)


def _of(context: dict[str, Any]) -> str:
    """What was asked of; whom a message goes to is nobody's business."""
    named = [f"{what} {value}" for what, value in context.items() if what != "to"]
    return f" of {', '.join(named)}" if named else ""
