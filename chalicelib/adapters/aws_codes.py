"""Codes of AWS's answers that several adapters know, also those that do without botocore."""

from __future__ import annotations

DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"})
# Of every service; whether a key is expired, unknown or not this one's, nobody else can tell.
REJECTED_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
# Said where a bucket has no such configuration.
NONE_SET = frozenset(
    {"NoSuchLifecycleConfiguration", "ObjectLockConfigurationNotFoundError", "NoSuchTagSet"}
)
# Said by servers that are not S3 itself.
NOT_OFFERED = frozenset({"NotImplemented", "MethodNotAllowed"})
