"""Who asked the local cloud for what: read from a request as it came over the wire.

    Authorization: AWS4-HMAC-SHA256 Credential=KEY/20261122/us-east-1/s3/aws4_request, ...

A key of a user or of a session that was made here is that identity's; any other is Leeward's and
the operator's, who made this cloud. Whoever stands in for somebody elsewhere says so in
`X-Forwarded-For`: everything here listens on loopback.
"""

from __future__ import annotations

import io
import re
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

from leeward.local.iam import ACCOUNT

Kind = Literal["user", "session", "operator"]
CREDENTIAL = re.compile(r"Credential=([^/,]+)/\d+/([^/]+)/([^/]+)/aws4_request")
DELETED = re.compile(rb"<Key>(.*?)</Key>(?:\s*<VersionId>(.*?)</VersionId>)?", re.DOTALL)
# The body of a request that is read here to know what it is about; uploads are not.
READ_BYTES = 2 << 20


@dataclass(frozen=True)
class Caller:
    """`arn`: the user's, or the session's; `role_arn`: of a session. `issued_at`: its key's."""

    kind: Kind
    arn: str
    key: str
    name: str = ""
    role_arn: str = ""
    issued_at: datetime | None = None
    active: bool = True

    @property
    def principal(self) -> str:
        """What `aws:PrincipalArn` holds."""
        return self.role_arn or self.arn


@dataclass(frozen=True)
class Asked:
    """One request. `event`: CloudTrail's name of it; `action`: IAM's. `bucket` and `key` of S3."""

    caller: Caller
    service: str
    region: str
    event: str
    action: str
    method: str
    source: str
    agent: str
    bucket: str = ""
    key: str = ""
    version_id: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    deleted: tuple[tuple[str, str], ...] = ()
    if_none_match: str = ""


# Part of a query -> IAM's action and CloudTrail's event; the first that fits, "" fits always.
Row = tuple[str, str, str]
BUCKET: dict[str, tuple[Row, ...]] = {
    "PUT": (
        ("lifecycle", "PutLifecycleConfiguration", "PutBucketLifecycle"),
        ("versioning", "PutBucketVersioning", "PutBucketVersioning"),
        ("policy", "PutBucketPolicy", "PutBucketPolicy"),
        ("notification", "PutBucketNotification", "PutBucketNotification"),
        ("encryption", "PutEncryptionConfiguration", "PutBucketEncryption"),
        ("replication", "PutReplicationConfiguration", "PutBucketReplication"),
        ("object-lock", "PutBucketObjectLockConfiguration", "PutBucketObjectLockConfiguration"),
        ("publicAccessBlock", "PutBucketPublicAccessBlock", "PutBucketPublicAccessBlock"),
        ("logging", "PutBucketLogging", "PutBucketLogging"),
        ("acl", "PutBucketAcl", "PutBucketAcl"),
        ("", "CreateBucket", "CreateBucket"),
    ),
    "DELETE": (
        ("lifecycle", "PutLifecycleConfiguration", "DeleteBucketLifecycle"),
        ("policy", "DeleteBucketPolicy", "DeleteBucketPolicy"),
        ("replication", "PutReplicationConfiguration", "DeleteBucketReplication"),
        ("encryption", "PutEncryptionConfiguration", "DeleteBucketEncryption"),
        ("", "DeleteBucket", "DeleteBucket"),
    ),
    "POST": (("delete", "DeleteObject", "DeleteObjects"),),
    "GET": (
        ("versions", "ListBucketVersions", "ListObjectVersions"),
        ("policy", "GetBucketPolicy", "GetBucketPolicy"),
        ("lifecycle", "GetLifecycleConfiguration", "GetBucketLifecycle"),
        ("versioning", "GetBucketVersioning", "GetBucketVersioning"),
        ("", "ListBucket", "ListObjects"),
    ),
    "HEAD": (("", "ListBucket", "HeadBucket"),),
}
OBJECT: dict[str, tuple[Row, ...]] = {
    "PUT": (
        ("acl", "PutObjectAcl", "PutObjectAcl"),
        ("tagging", "PutObjectTagging", "PutObjectTagging"),
        ("retention", "PutObjectRetention", "PutObjectRetention"),
        ("legal-hold", "PutObjectLegalHold", "PutObjectLegalHold"),
        ("partNumber", "PutObject", "UploadPart"),
        ("", "PutObject", "PutObject"),
    ),
    "DELETE": (
        ("tagging", "DeleteObjectTagging", "DeleteObjectTagging"),
        ("uploadId", "AbortMultipartUpload", "AbortMultipartUpload"),
        ("versionId", "DeleteObjectVersion", "DeleteObject"),
        ("", "DeleteObject", "DeleteObject"),
    ),
    "POST": (
        ("uploads", "PutObject", "CreateMultipartUpload"),
        ("restore", "RestoreObject", "RestoreObject"),
        ("uploadId", "PutObject", "CompleteMultipartUpload"),
    ),
    "GET": (("versionId", "GetObjectVersion", "GetObject"), ("", "GetObject", "GetObject")),
    "HEAD": (("", "GetObject", "HeadObject"),),
}


def read_request(environ: dict[str, Any]) -> Asked | None:
    """None for what is not signed, or is no call of AWS. The body can still be read afterwards."""
    found = CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    if found is None:
        return None
    key, region, service = found.groups()
    common = {
        "caller": caller_of(key),
        "service": service,
        "region": region,
        "method": environ["REQUEST_METHOD"],
        "source": environ.get("HTTP_X_FORWARDED_FOR") or environ.get("REMOTE_ADDR", ""),
        "agent": environ.get("HTTP_USER_AGENT", ""),
    }
    if service == "s3":
        return _s3(environ, common)
    event, parameters = _named(environ)
    return Asked(**common, event=event, action=event, parameters=parameters) if event else None


def _s3(environ: dict[str, Any], common: dict[str, Any]) -> Asked | None:
    path = environ.get("RAW_URI", environ.get("REQUEST_URI", environ["PATH_INFO"])).split("?")[0]
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    if not bucket:
        return Asked(**common, event="ListBuckets", action="ListAllMyBuckets")
    table = (OBJECT if key else BUCKET).get(common["method"], ())
    row = next((it for it in table if not it[0] or it[0] in query), None)
    if row is None:
        return None
    _, action, event = row
    if event == "PutObject" and "HTTP_X_AMZ_COPY_SOURCE" in environ:
        event = "CopyObject"
    deleted: tuple[tuple[str, str], ...] = ()
    if event == "DeleteObjects":
        deleted = tuple((k.decode(), v.decode()) for k, v in DELETED.findall(_body(environ)))
    return Asked(
        **common, event=event, action=action, bucket=bucket, key=key,
        version_id=query.get("versionId", [""])[0], deleted=deleted,
        parameters=_headers(environ), if_none_match=environ.get("HTTP_IF_NONE_MATCH", ""),
    )  # fmt: skip


def _headers(environ: dict[str, Any]) -> dict[str, str]:
    """Of the request, those that CloudTrail writes down: how it is encrypted, what is copied."""
    named = ("COPY_SOURCE", "SERVER_SIDE_ENCRYPTION", "STORAGE_CLASS")
    return {
        name[5:].lower().replace("_", "-"): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_X_AMZ_")
        and name[11:].startswith(named)
        and not name.endswith(("CUSTOMER_KEY", "CUSTOMER_KEY_MD5"))
    }


def _named(environ: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Of the protocols query (a form) and JSON (a header); others bear no name on the wire."""
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return target.rpartition(".")[2], {}
    if "x-www-form-urlencoded" not in environ.get("CONTENT_TYPE", ""):
        return "", {}
    form = {name: found[0] for name, found in parse_qs(_body(environ).decode()).items()}
    parameters = {
        name[:1].lower() + name[1:]: value
        for name, value in form.items()
        if name not in ("Action", "Version")
    }
    return form.get("Action", ""), parameters


def _body(environ: dict[str, Any]) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > READ_BYTES:
        return b""
    data: bytes = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(data)
    return data


def caller_of(key: str) -> Caller:
    """Whose key it is. No service is imported for that: without users there are no keys."""
    if "moto.iam.models" in sys.modules:
        from moto.iam.models import iam_backends

        for user in list(iam_backends[ACCOUNT]["aws"].users.values()):
            for it in user.access_keys:
                if it.access_key_id == key:
                    active = it.status == "Active"
                    return Caller("user", user.arn, key, user.name, active=active)
    if "moto.sts.models" in sys.modules:
        from moto.sts.models import sts_backends

        for role in list(sts_backends[ACCOUNT]["aws"].assumed_roles):
            if role.access_key_id == key:
                issued = role.access_key.create_date.replace(tzinfo=UTC)
                return Caller(
                    "session", role.arn, key, role.session_name, role.role_arn, issued_at=issued
                )
    own = f"arn:aws:iam::{ACCOUNT}:role/leeward-local"
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/leeward-local/leeward"
    return Caller("operator", arn, key, "leeward", role_arn=own)
