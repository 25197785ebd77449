"""Access keys disabled, and sessions revoked, of users and roles of IAM.

A disabled key ends no session that was made with it, and a role has no key: sessions are refused by
a deny on those that were issued before now. A new one, of who may still get one, works.
Source: IAM user guide, "Revoke IAM role temporary security credentials" (AWSRevokeOlderSessions).
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.ports import Clock
from chalicelib.ports.isolation import Barrier, Lowered, Raised

POLICY = "LeewardIsolation"


class AccessKeysBarrier(Barrier):
    """All access keys of a user. `client`: boto3's for IAM."""

    def __init__(self, client: Any, user: str) -> None:
        self._client = client
        self._user = user

    def look(self) -> dict[str, Any]:
        return {"keys": self._keys()}

    def raise_up(self, before: dict[str, Any]) -> Raised:
        active = [key for key, status in self._keys().items() if status == "Active"]
        for key in active:
            self._set(key, "Inactive")
        named = ", ".join(before["keys"]) or "none"
        return Raised(f"no access key of {self._user} works (keys: {named})")

    def lower(self, before: dict[str, Any], *, as_found: bool = False) -> Lowered:
        now, opened = self._keys(), []
        for key, status in before["keys"].items():
            if key in now and status == "Active":
                self._set(key, "Active")
                opened.append(key)
        since = [f"{key} was made since and stays as it is" for key in now.keys() - before["keys"]]
        named = ", ".join(opened) or "none"
        return Lowered(f"access keys of {self._user} that work again: {named}", tuple(since))

    def _keys(self) -> dict[str, str]:
        """A user has at most two."""
        with mapped("iam", user=self._user):
            found = self._client.list_access_keys(UserName=self._user)["AccessKeyMetadata"]
        return {it["AccessKeyId"]: it["Status"] for it in found}

    def _set(self, key: str, status: str) -> None:
        with mapped("iam", user=self._user):
            self._client.update_access_key(UserName=self._user, AccessKeyId=key, Status=status)


class SessionsBarrier(Barrier):
    """All sessions of "user/NAME" or "role/NAME" so far. `client`: boto3's for IAM."""

    def __init__(self, client: Any, identity: str, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._kind, _, self._name = identity.partition("/")

    def look(self) -> dict[str, Any]:
        return {"policy": self._read()}

    def raise_up(self, before: dict[str, Any]) -> Raised:
        # Tokens bear whole seconds: one that is issued within this second counts as before.
        until = (self._clock.now() + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._write(json.dumps(_revoked(until)))
        return Raised(f"sessions of {self._kind} {self._name} issued before {until} are refused")

    def lower(self, before: dict[str, Any], *, as_found: bool = False) -> Lowered:
        if before["policy"] is not None:
            self._write(before["policy"])
        elif self._read() is not None:
            self._call("delete", PolicyName=POLICY)
        return Lowered(f"sessions of {self._kind} {self._name} are as they were")

    def _read(self) -> str | None:
        try:
            found = self._call("get", PolicyName=POLICY)
        except ClientError as error:
            if error_code(error) == "NoSuchEntity":
                return None
            with mapped("iam", identity=self._name):
                raise
        document = found["PolicyDocument"]
        return document if isinstance(document, str) else json.dumps(document)

    def _write(self, text: str) -> None:
        with mapped("iam", identity=self._name):
            self._call("put", PolicyName=POLICY, PolicyDocument=text)

    def _call(self, what: str, **more: str) -> Any:
        name = f"{'User' if self._kind == 'user' else 'Role'}Name"
        return getattr(self._client, f"{what}_{self._kind}_policy")(**{name: self._name}, **more)


def _revoked(until: str) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": POLICY,
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {"DateLessThan": {"aws:TokenIssueTime": until}},
            }
        ],
    }
