"""Wraps and unwraps data keys with a symmetric KMS key, by kms:Encrypt and kms:Decrypt.

A multi-Region key and its replicas open what any of them has wrapped.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.adapters.sealing.key_sets import Entry
from chalicelib.errors import BadInput, Tampered

KIND = "aws-kms"
ARN = re.compile(
    r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):key/(?P<id>[\w-]+)"
)
NOT_ITS_OWN = ("InvalidCiphertextException", "IncorrectKeyException")


class KmsKey:
    """Recipient and Opener. `client`: of the key's own region; `arn`: of the key, not an alias."""

    def __init__(self, client: Any, arn: str) -> None:
        self._client, self.name = client, arn
        self._identity = _identity(_parts(arn))

    def wrap(self, secret: bytes, bound_to: Mapping[str, str]) -> dict[str, Any]:
        with mapped("kms", key=self.name):
            answer = self._client.encrypt(
                KeyId=self.name, Plaintext=secret, EncryptionContext=dict(bound_to)
            )
        wrapped = b64encode(answer["CiphertextBlob"]).decode()
        return {"kind": KIND, "recipient": self.name, "wrapped": wrapped}

    def fits(self, entry: Entry) -> bool:
        found = ARN.fullmatch(entry["recipient"]) if entry.get("kind") == KIND else None
        return found is not None and self._identity == _identity(found)

    def unwrap(self, entry: Entry, bound_to: Mapping[str, str]) -> bytes:
        with mapped("kms", key=self.name):
            try:
                answer = self._client.decrypt(
                    KeyId=self.name,
                    CiphertextBlob=b64decode(entry["wrapped"]),
                    EncryptionContext=dict(bound_to),
                )
            except ClientError as error:
                if error_code(error) not in NOT_ITS_OWN:
                    raise
                raise _wrong_key(self.name, bound_to) from error
            except ValueError as error:
                raise _wrong_key(self.name, bound_to) from error
        return bytes(answer["Plaintext"])


def region_of(arn: str) -> str:
    """The region of a key. Raises BadInput (code "not-a-key-arn")."""
    return _parts(arn)["region"]


def connect_kms(region: str, endpoint_url: str | None = None) -> Any:
    """A KMS client that gives up within half a minute: another recipient is tried then."""
    import boto3
    from botocore.config import Config

    from chalicelib.adapters.aws_answers import believing_json_alone

    config = Config(
        connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}
    )
    return believing_json_alone(
        boto3.client("kms", region_name=region, endpoint_url=endpoint_url, config=config)
    )


def _identity(parts: re.Match[str]) -> tuple[str, str]:
    """What two ARNs have in common when one key opens what the other has wrapped: replicas of a
    multi-Region key have one id, no other two keys have.

    Source: https://docs.aws.amazon.com/kms/latest/developerguide/multi-region-keys-overview.html
    """
    return parts["account"], parts["id"]


def _parts(arn: str) -> re.Match[str]:
    found = ARN.fullmatch(arn)
    if found is None:
        raise BadInput(
            f"expected the ARN of a KMS key, found {arn!r}",
            code="not-a-key-arn",
            hint="Name the key itself (`aws kms describe-key`): an alias may become another's.",
        )
    return found


def _wrong_key(name: str, bound_to: Mapping[str, str]) -> Tampered:
    return Tampered(
        f"expected {name} to open data key {bound_to['leeward-key']}, it was wrapped by another "
        "key or for another location",
        code="wrong-key",
        hint="The key set was altered; take the file of that name from a backup of keys/.",
        **bound_to,
    )
