"""Signs with an asymmetric KMS key (key spec ECC_NIST_P256, usage SIGN_VERIFY)."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cached_property
from typing import Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.plan.records import Signature

ALGORITHM = "ECDSA_SHA_256"


class KmsSigner:
    """The port Signer. `key_id`: an id, ARN or alias that KMS knows."""

    def __init__(self, client: Any, key_id: str) -> None:
        self._client = client
        self._key_id = key_id

    def sign(self, message: bytes) -> Signature:
        with mapped("kms", key=self._key_id):
            answer = self._client.sign(
                KeyId=self._key_id, Message=message, MessageType="RAW", SigningAlgorithm=ALGORITHM
            )
        der = self._public_key
        return Signature(
            algorithm=ALGORITHM,
            key_id=answer["KeyId"],
            public_key=_to_pem(der),
            fingerprint=hashlib.sha256(der).hexdigest(),
            value=b64encode(answer["Signature"]).decode(),
        )

    @cached_property
    def _public_key(self) -> bytes:
        with mapped("kms", key=self._key_id):
            return bytes(self._client.get_public_key(KeyId=self._key_id)["PublicKey"])


def _to_pem(der: bytes) -> str:
    """Source: RFC 7468, section 13; lines of 64 characters."""
    text = b64encode(der).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])
