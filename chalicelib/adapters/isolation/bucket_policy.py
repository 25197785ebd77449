"""Statements of their own in a bucket's policy: none but Leeward writes, or one never deletes.

Source: IAM evaluates an explicit deny before any allow; `aws:PrincipalArn` of a session is the ARN
of its role. Only the account's root user can then remove the policy, besides Leeward.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.errors import NotReady
from chalicelib.ports.isolation import Barrier, Lowered, Raised

SID = "LeewardIsolation"
# What changes objects, versions, or what protects them. Reading stays allowed: the watch, the
# replicas and the investigation need it.
DENIED = (
    "s3:AbortMultipartUpload",
    "s3:BypassGovernanceRetention",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:DeleteObject",
    "s3:DeleteObjectTagging",
    "s3:DeleteObjectVersion",
    "s3:DeleteObjectVersionTagging",
    "s3:PutBucketAcl",
    "s3:PutBucketNotification",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketVersioning",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:PutObjectLegalHold",
    "s3:PutObjectRetention",
    "s3:PutObjectTagging",
    "s3:PutReplicationConfiguration",
    "s3:ReplicateDelete",
    "s3:ReplicateObject",
)


# What makes an object vanish, at once or by a rule.
DELETIONS = (
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:PutBucketVersioning",
    "s3:PutLifecycleConfiguration",
)


class StatementBarrier(Barrier):
    """One statement in a bucket's policy, told from everybody else's by its Sid.

    `client`: boto3's for S3.
    """

    sid: ClassVar[str]
    what: ClassVar[str]

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def look(self) -> dict[str, Any]:
        return {"policy": self._read()}

    def raise_up(self, before: dict[str, Any]) -> Raised:
        statement = self.statement()
        document = json.loads(self._read() or '{"Version": "2012-10-17", "Statement": []}')
        document["Statement"] = [*self._foreign(document), statement]
        self._write(json.dumps(document))
        return Raised(self.told())

    def lower(self, before: dict[str, Any], *, as_found: bool = False) -> Lowered:
        text, now = before["policy"], self._read()
        if now is None and text is None:  # a dead attempt may have lowered it
            return Lowered(f"{self._bucket} has no policy, as before")
        if now is None:
            return Lowered(f"{self._bucket} has no policy any more: somebody removed it")
        document = json.loads(now)
        foreign = self._foreign(document)
        if self._same(document | {"Statement": foreign}, text):
            self._write(text)
            return Lowered(f"the policy of {self._bucket} is what it was")
        self._write(json.dumps(document | {"Statement": foreign}) if foreign else None)
        return Lowered(
            f"{self.what} is out of the policy of {self._bucket}, which somebody changed since"
        )

    def statement(self) -> dict[str, Any]:
        """What is put in."""
        raise NotImplementedError

    def told(self) -> str:
        """What holds from then on."""
        raise NotImplementedError

    def _read(self) -> str | None:
        with mapped("s3", bucket=self._bucket):
            try:
                return str(self._client.get_bucket_policy(Bucket=self._bucket)["Policy"])
            except ClientError as error:
                if error_code(error) == "NoSuchBucketPolicy":
                    return None
                raise

    def _write(self, text: str | None) -> None:
        with mapped("s3", bucket=self._bucket):
            if text is None:
                self._client.delete_bucket_policy(Bucket=self._bucket)
            else:
                self._client.put_bucket_policy(Bucket=self._bucket, Policy=text)

    def _foreign(self, document: dict[str, Any]) -> list[dict[str, Any]]:
        """Everybody else's statements. IAM allows a single one without a list around it."""
        found = document.get("Statement", [])
        listed = found if isinstance(found, list) else [found]
        return [it for it in listed if it.get("Sid") != self.sid]

    def _same(self, left: dict[str, Any], text: str | None) -> bool:
        """Whether nobody changed what was there before."""
        if text is None:
            return not left["Statement"]
        before: dict[str, Any] = json.loads(text)
        return left == before | {"Statement": self._foreign(before)}


class BucketPolicyBarrier(StatementBarrier):
    """Nobody writes. `excepted`: ARNs of the roles that may still."""

    sid = SID
    what = "the isolation"

    def __init__(self, client: Any, bucket: str, excepted: Sequence[str]) -> None:
        super().__init__(client, bucket)
        self._excepted = sorted(excepted)

    def told(self) -> str:
        return f"nobody but Leeward writes to or deletes from {self._bucket}"

    def statement(self) -> dict[str, Any]:
        arn = f"arn:aws:s3:::{self._bucket}"
        return {
            "Sid": self.sid,
            "Effect": "Deny",
            "Principal": "*",
            "Action": list(DENIED),
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"ArnNotLike": {"aws:PrincipalArn": require_roles(self._excepted)}},
        }


class DeletionBarrier(StatementBarrier):
    """One identity deletes no longer; or, when nobody knows which, nobody removes versions.

    `principal`: ARN of a user or role, or a pattern of it; "" for everybody but `excepted`.
    """

    sid = "LeewardNoDeletion"
    what = "the refusal to delete"

    def __init__(
        self, client: Any, bucket: str, principal: str, excepted: Sequence[str] = ()
    ) -> None:
        super().__init__(client, bucket)
        self._principal = principal
        self._excepted = sorted(excepted)

    def told(self) -> str:
        if self._principal:
            return f"{self._principal} may delete nothing from {self._bucket}"
        return (
            f"nobody but Leeward may remove versions from {self._bucket}: by whom it was is"
            " unknown, and a deletion without a version can be undone"
        )

    def statement(self) -> dict[str, Any]:
        arn = f"arn:aws:s3:::{self._bucket}"
        actions = DELETIONS if self._principal else DELETIONS[1:]
        who = (
            {"ArnLike": {"aws:PrincipalArn": self._principal}}
            if self._principal
            else {"ArnNotLike": {"aws:PrincipalArn": require_roles(self._excepted)}}
        )
        return {
            "Sid": self.sid,
            "Effect": "Deny",
            "Principal": "*",
            "Action": list(actions),
            "Resource": [arn, f"{arn}/*"],
            "Condition": who,
        }


def require_roles(excepted: list[str]) -> list[str]:
    """Raises NotReady (code "no-recovery-roles"): Leeward itself would be kept out."""
    if not excepted:
        raise NotReady(
            "expected roles that may still write to the bucket, found none",
            hint="deploy the packaged template, which names Leeward's roles to the function",
            code="no-recovery-roles",
        )
    return excepted
