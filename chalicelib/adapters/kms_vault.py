"""Small secrets encrypted by a KMS key of their own; nobody else's key opens them."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.errors import Damaged


class KmsVault:
    """The `Vault` port. The person is in KMS's encryption context: a secret that is copied to
    another person's entry does not open there."""

    def __init__(self, client: Any, key: str) -> None:
        self._client, self._key = client, key

    def close(self, secret: bytes, person: str) -> str:
        with mapped("kms", key=self._key):
            answer = self._client.encrypt(
                KeyId=self._key, Plaintext=secret, EncryptionContext={"person": person}
            )
        return b64encode(answer["CiphertextBlob"]).decode()

    def open(self, closed: str, person: str) -> bytes:
        with mapped("kms", key=self._key):
            try:
                answer = self._client.decrypt(
                    KeyId=self._key,
                    CiphertextBlob=b64decode(closed),
                    EncryptionContext={"person": person},
                )
            except ClientError as error:
                if error_code(error) not in ("InvalidCiphertextException", "IncorrectKeyException"):
                    raise
                raise Damaged(
                    f"the second factor of {person} does not open",
                    hint=f"enrol again: leeward people enrol {person} --replace",
                    code="factor-unreadable",
                ) from error
        return bytes(answer["Plaintext"])
