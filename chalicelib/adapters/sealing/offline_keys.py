"""The break-glass key: an RSA key pair whose private half is kept on paper or a stick, not in AWS.

RSA-OAEP with SHA-256, because the plain `openssl` command can unwrap it (docs/encryption.md).
"""

from __future__ import annotations

import hashlib
import os
from base64 import b32encode, b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from chalicelib.adapters.folder.names import sync_names
from chalicelib.adapters.sealing.key_sets import Entry
from chalicelib.errors import BadInput, Tampered
from chalicelib.ports.durable import sync

KIND = "offline"
ALGORITHM = "RSA-OAEP-SHA256"
KEY_BITS = 4096
LEAST_BITS = 3072
PASSPHRASE_BYTES = 15  # 24 characters of base32


class OfflinePublicKey:
    """Recipient. `pem`: SubjectPublicKeyInfo. Raises BadInput (code "not-an-offline-key")."""

    def __init__(self, pem: bytes) -> None:
        self._key = _public_key(pem)
        self.name = _name(self._key)

    def wrap(self, secret: bytes, bound_to: Mapping[str, str]) -> dict[str, Any]:
        """`bound_to` is not needed: the id of a data key is made from its secret."""
        wrapped = b64encode(self._key.encrypt(secret, _padding())).decode()
        return {
            "kind": KIND, "recipient": self.name, "algorithm": ALGORITHM, "wrapped": wrapped,
        }  # fmt: skip


class OfflinePrivateKey:
    """Opener. `pem`: PKCS#8, encrypted with the passphrase or not.

    Raises:
        BadInput: "not-an-offline-key", "wrong-passphrase".
    """

    def __init__(self, pem: bytes, passphrase: str = "") -> None:
        self._key = _private_key(pem, passphrase)
        self.name = _name(self._key.public_key())

    def fits(self, entry: Entry) -> bool:
        return entry.get("kind") == KIND and entry["recipient"] == self.name

    def unwrap(self, entry: Entry, bound_to: Mapping[str, str]) -> bytes:
        try:
            return self._key.decrypt(b64decode(entry["wrapped"]), _padding())
        except ValueError as error:
            raise Tampered(
                f"expected {self.name} to open data key {bound_to['leeward-key']}, it was not "
                "wrapped for it",
                code="wrong-key",
                hint="The key set was altered; take the file of that name from a backup of keys/.",
                **bound_to,
            ) from error


def create_key_pair(folder: Path, passphrase: str) -> tuple[Path, Path]:
    """Write offline-private.pem (mode 0600) and offline-public.pem; both on disk at return.

    Raises:
        BadInput: code "exists"; neither is written when one is there.
    """
    private, public = folder / "offline-private.pem", folder / "offline-public.pem"
    for path in (private, public):
        if path.exists():
            raise _exists(path)
    key = generate_private_key(65537, KEY_BITS)
    encryption = BestAvailableEncryption(passphrase.encode())
    _write(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), 0o600)
    _write(public, _pem(key.public_key()), 0o644)
    return private, public


def make_passphrase() -> str:
    """120 random bits as six groups of four letters and digits.

    PEM slows guessing down by 2,048 rounds alone, so the passphrase itself must not be guessable.
    """
    text = b32encode(os.urandom(PASSPHRASE_BYTES)).decode().lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def _padding() -> OAEP:
    return OAEP(mgf=MGF1(SHA256()), algorithm=SHA256(), label=None)


def _name(key: RSAPublicKey) -> str:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"offline:{hashlib.sha256(der).hexdigest()}"


def _pem(key: RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _public_key(pem: bytes) -> RSAPublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_offline_key("public") from error
    if not isinstance(key, RSAPublicKey) or key.key_size < LEAST_BITS:
        raise _no_offline_key("public")
    return key


def _private_key(pem: bytes, passphrase: str) -> RSAPrivateKey:
    locked = b"ENCRYPTED" in pem
    try:
        key = load_pem_private_key(pem, passphrase.encode() if locked else None)
    except ValueError as error:
        raise _wrong_passphrase() if locked else _no_offline_key("private") from error
    except UnsupportedAlgorithm as error:
        raise _no_offline_key("private") from error
    if not isinstance(key, RSAPrivateKey):
        raise _no_offline_key("private")
    return key


def _write(path: Path, data: bytes, mode: int) -> None:
    """Never over a file that is there, and never readable by others for a moment."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise _exists(path) from error
    with open(handle, "wb") as file:
        file.write(data)
        file.flush()
        sync(file.fileno())
    sync_names(path.parent)


def _exists(path: Path) -> BadInput:
    return BadInput(
        f"expected no file {path}, found one",
        code="exists",
        hint="A key pair is never overwritten: name another folder.",
    )


def _no_offline_key(half: str) -> BadInput:
    return BadInput(
        f"expected the {half} half of an RSA key of at least {LEAST_BITS} bits in PEM",
        code="not-an-offline-key",
        hint="`leeward keys create` makes a pair.",
    )


def _wrong_passphrase() -> BadInput:
    return BadInput(
        "expected the passphrase of the private key, found another one or a damaged file",
        code="wrong-passphrase",
        hint="It is what `leeward keys create` was given or printed when the pair was made.",
    )
