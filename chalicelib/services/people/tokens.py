"""Tokens of this stack: made by the function `answer`, checked by whatever HTTP comes to.

The function behind the API can verify tokens and make none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from chalicelib.errors import Refused
from chalicelib.incidents.tokens import (
    ISSUER,
    Claims,
    Scope,
    Session,
    TokenDesk,
    check_token,
    revoke_token,
)
from chalicelib.plan.records import parse_time
from chalicelib.services import build, environment


@cache
def token_desk() -> TokenDesk:
    from chalicelib.adapters.jwt_tokens import JwtTokens
    from chalicelib.adapters.kms_mac import KmsMac

    signer = JwtTokens(KmsMac(build.client("kms"), environment.token_key()), ISSUER)
    return TokenDesk(build.state(), signer, build.clock())


def require_token(headers: Mapping[str, str], scope: Scope, *, cookie: str = "") -> Claims:
    """Who asks: by `Authorization: Bearer`, or by the named cookie where one is named.

    Args:
        headers: names in lower case.
        cookie: its name; "" for what a browser must not be able to ask on its own (the JSON API).
    Raises:
        Refused: codes "no-token", "bad-token", "token-expired", "token-revoked", "wrong-scope".
    """
    found = read_cookie(headers, cookie) if cookie else read_bearer(headers)
    if not found:
        raise Refused(
            "expected a token, found none",
            hint="sign in: leeward dashboard --by PERSON"
            if cookie
            else "send `Authorization: Bearer TOKEN`; leeward token issue makes one",
            code="no-token",
        )
    return check_token(found, scope, desk=token_desk())


def read_bearer(headers: Mapping[str, str]) -> str:
    """Source: RFC 6750, section 2.1; the scheme's case does not count (RFC 9110, 11.1)."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def read_cookie(headers: Mapping[str, str], name: str) -> str:
    from http.cookies import CookieError, SimpleCookie

    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def redeem_link(link: str) -> Session:
    """Sign in with a link, by the function `answer`.

    Raises:
        Refused: code "bad-link".
    """
    said = ask_answer({"verb": "sign-in", "link": link})
    return Session(str(said["person"]), str(said["token"]), parse_time(said["until"]))


def sign_out(claims: Claims) -> None:
    """The token is good no more, here and in every copy of it."""
    revoke_token(claims.id, by=claims.subject, desk=token_desk())


def ask_answer(event: Mapping[str, Any]) -> dict[str, Any]:
    """Have the function `answer` do it. Raises LeewardError: what was refused, with its code."""
    return _ask("answer", event)


def ask_show(event: Mapping[str, Any]) -> dict[str, Any]:
    """What the function `show` has to show. Raises likewise."""
    return _ask("show", event)


def _ask(function: str, event: Mapping[str, Any]) -> dict[str, Any]:
    from chalicelib.adapters.chat.answering import AnswerFunction

    prefix = build.environment().function_prefix
    return AnswerFunction(build.client("lambda"), prefix, function).hear(event)
