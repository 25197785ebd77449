"""Message authentication codes by an HMAC key of KMS, which never leaves it."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped

ALGORITHM = "HMAC_SHA_256"
# Source: docs.aws.amazon.com, KMS API, GenerateMac and VerifyMac.
LONGEST_MESSAGE, MAC_BYTES = 4096, 32


class KmsMac:
    """The `Mac` port."""

    def __init__(self, client: Any, key: str) -> None:
        self._client, self._key = client, key

    def make(self, message: bytes) -> bytes:
        with mapped("kms", key=self._key):
            answer = self._client.generate_mac(
                KeyId=self._key, Message=message, MacAlgorithm=ALGORITHM
            )
        return bytes(answer["Mac"])

    def holds(self, message: bytes, mac: bytes) -> bool:
        """What KMS would not even take is not asked for."""
        if len(mac) != MAC_BYTES or not 0 < len(message) <= LONGEST_MESSAGE:
            return False
        with mapped("kms", key=self._key):
            try:
                self._client.verify_mac(
                    KeyId=self._key, Message=message, Mac=mac, MacAlgorithm=ALGORITHM
                )
            except ClientError as error:
                if error_code(error) == "KMSInvalidMacException":
                    return False
                raise
        return True
