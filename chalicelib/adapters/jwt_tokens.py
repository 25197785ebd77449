"""Tokens as JWT (RFC 7519) with HS256, made and read by PyJWT; the MAC is made elsewhere.

PyJWT takes another implementation of an algorithm under its name; its own HS256, which needs the
secret itself, is replaced in this process.
"""

from __future__ import annotations

from typing import Any

import jwt
from jwt.algorithms import Algorithm

from chalicelib.errors import Refused
from chalicelib.ports.people import Mac

ALGORITHM = "HS256"
NEEDED = ["iss", "aud", "sub", "scope", "jti", "iat", "exp"]
LONGEST_TOKEN = 2048


class MacAlgorithm(Algorithm):
    """HS256 whose key is a `Mac`."""

    def prepare_key(self, key: Any) -> Any:
        return key

    def sign(self, msg: bytes, key: Mac) -> bytes:
        return key.make(msg)

    def verify(self, msg: bytes, key: Mac, sig: bytes) -> bool:
        return key.holds(msg, sig)

    def check_key_length(self, key: Any) -> str | None:
        return None

    @staticmethod
    def to_jwk(key_obj: Any, as_dict: bool = False) -> Any:
        raise NotImplementedError

    @staticmethod
    def from_jwk(jwk: Any) -> Any:
        raise NotImplementedError


jwt.unregister_algorithm(ALGORITHM)
jwt.register_algorithm(ALGORITHM, MacAlgorithm())


class JwtTokens:
    """The `TokenSigner` port. name: issuer and audience."""

    def __init__(self, mac: Mac, name: str) -> None:
        self._mac: Any = mac
        self._name = name

    def sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self._mac, algorithm=ALGORITHM)

    def read(self, token: str) -> dict[str, Any]:
        if len(token) > LONGEST_TOKEN:
            raise _bad("it is too long")
        try:
            return jwt.decode(
                token,
                self._mac,
                algorithms=[ALGORITHM],
                audience=self._name,
                issuer=self._name,
                options={"require": NEEDED},
            )
        except jwt.ExpiredSignatureError as error:
            raise Refused(
                "the token is over",
                hint="ask for a new one: leeward token issue, or sign in again",
                code="token-expired",
            ) from error
        except (jwt.InvalidTokenError, ValueError) as error:
            raise _bad(type(error).__name__) from error


def _bad(found: str) -> Refused:
    return Refused(
        f"expected a token of this deployment, found none that is: {found}",
        hint="send `Authorization: Bearer TOKEN`; leeward token issue makes one",
        code="bad-token",
    )
