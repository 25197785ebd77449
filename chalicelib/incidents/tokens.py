"""Tokens of programs and of signed-in people, and the links that people sign in with.

    recorded (`tokens`, id) -> signed -> shown once
    a request: signature, times, audience -> recorded and not revoked -> scope

    link: kept by its SHA-256 -> used up (conditional) -> a session's token

must: a token is good only while its record says so: one that this stack did not record, or that was
revoked, is refused however well it is signed. must: a link lets one browser in, once. A token lets
nothing happen that takes a one-time code: it says who asks, never that they agree.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from chalicelib.errors import BadInput, Refused
from chalicelib.plan.records import format_time, parse_time
from chalicelib.ports import Clock, StateStore
from chalicelib.ports.people import TokenSigner

TOKENS, LINKS = "tokens", "links"
SYSTEM = "system:"
ISSUER = AUDIENCE = "leeward"
LONGEST_OF_PERSON = timedelta(hours=12)
LONGEST_OF_SYSTEM = timedelta(days=90)
SESSION = timedelta(hours=12)
LINK_GOOD_FOR = timedelta(minutes=10)
LINK_BYTES = 32

Scope = Literal["read", "act"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Claims:
    """What a token says. subject: a contact of the plan, or "system:NAME"."""

    subject: str
    scope: Scope
    id: str
    issued_at: datetime
    expires_at: datetime

    @property
    def person(self) -> str | None:
        """None for a program, which has no second factor and so agrees to nothing."""
        return None if self.subject.startswith(SYSTEM) else self.subject

    def to_jwt(self) -> dict[str, Any]:
        """Source: RFC 7519, section 4.1; `scope`: RFC 8693, section 4.2."""
        return {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": self.subject,
            "scope": self.scope,
            "jti": self.id,
            "iat": int(self.issued_at.timestamp()),
            "exp": int(self.expires_at.timestamp()),
        }


@dataclass(frozen=True)
class Session:
    """A person who signed in. token: for the browser's cookie, and for nothing else."""

    person: str
    token: str
    expires_at: datetime


@dataclass(frozen=True)
class TokenDesk:
    """What making and reading tokens needs."""

    state: StateStore
    signer: TokenSigner
    clock: Clock


def issue_token(
    subject: str, scope: Scope, good_for: timedelta, *, by: str, desk: TokenDesk
) -> tuple[str, Claims]:
    """A token, shown once and kept nowhere, and what it says.

    Raises:
        BadInput: codes "bad-lifetime", "program-acts".
    """
    if subject.startswith(SYSTEM) and scope == "act":
        raise BadInput(
            f"expected the scope read for {subject}, found act",
            hint="a program has no second factor, and agrees to nothing: a person acts",
            code="program-acts",
        )
    longest = LONGEST_OF_SYSTEM if subject.startswith(SYSTEM) else LONGEST_OF_PERSON
    if not timedelta(0) < good_for <= longest:
        raise BadInput(
            f"expected more than 0 and at most {longest} for {subject}, found {good_for}",
            hint="a person signs in anew each day; a program's token is renewed in time",
            code="bad-lifetime",
        )
    now = desk.clock.now().replace(microsecond=0)
    claims = Claims(subject, scope, secrets.token_hex(12), now, now + good_for)
    item = {
        "for": subject,
        "scope": scope,
        "by": by,
        "issued_at": format_time(claims.issued_at),
        "good_until": format_time(claims.expires_at),
        "revoked_at": "",
    }
    desk.state.create(TOKENS, claims.id, item)
    return desk.signer.sign(claims.to_jwt()), claims


def check_token(token: str, scope: Scope, *, desk: TokenDesk) -> Claims:
    """Who asks, and that the token is good for it.

    Raises:
        Refused: codes "bad-token" (forged, changed, of another stack), "token-expired",
            "token-revoked", "wrong-scope".
    """
    claims = _claims_of(desk.signer.read(token))
    kept = desk.state.get(TOKENS, claims.id)
    if kept is None:
        raise bad_token("this stack issued no such token")
    if kept["revoked_at"]:
        raise Refused(
            f"the token was revoked at {kept['revoked_at']}",
            hint="ask for a new one: leeward token issue, or sign in again",
            code="token-revoked",
        )
    if scope == "act" and claims.scope != "act":
        raise Refused(
            "the token lets read alone",
            hint="leeward token issue --scope act makes one that may act",
            code="wrong-scope",
        )
    return claims


def _claims_of(body: dict[str, Any]) -> Claims:
    """From what the signer found to be signed, and of this time."""
    if body["scope"] not in SCOPES:
        raise bad_token("its scope is none of Leeward's")
    issued, expires = (datetime.fromtimestamp(int(body[name]), tz=UTC) for name in ("iat", "exp"))
    return Claims(str(body["sub"]), body["scope"], str(body["jti"]), issued, expires)


def bad_token(found: str) -> Refused:
    return Refused(
        f"expected a token of this deployment: {found}",
        hint="send `Authorization: Bearer TOKEN`; leeward token issue makes one",
        code="bad-token",
    )


def revoke_token(token_id: str, *, by: str, desk: TokenDesk) -> str:
    """The subject whose token it was. Safe to repeat.

    Raises:
        BadInput: code "unknown-token".
    """
    kept = desk.state.get(TOKENS, token_id)
    if kept is None:
        raise BadInput(
            f"there is no token {token_id[:100]!r}",
            hint="leeward token list names them",
            code="unknown-token",
        )
    if not kept["revoked_at"]:
        item = kept | {"revoked_at": format_time(desk.clock.now()), "revoked_by": by}
        desk.state.replace(TOKENS, token_id, item, expected={"revoked_at": ""})
    return str(kept["for"])


def list_tokens(state: StateStore, *, now: datetime) -> list[dict[str, Any]]:
    """Those that are not over, the newest first; never a token itself."""
    kept = [it for it in state.query(TOKENS) if parse_time(it["good_until"]) > now]
    found = [{"id": it["sort"], **{k: v for k, v in it.items() if k != "sort"}} for it in kept]
    return sorted(found, key=lambda it: str(it["issued_at"]), reverse=True)


def issue_link(person: str, *, desk: TokenDesk) -> tuple[str, datetime]:
    """The secret of a link with which the person signs in once, and until when."""
    secret = secrets.token_urlsafe(LINK_BYTES)
    until = desk.clock.now() + LINK_GOOD_FOR
    item = {"person": person, "good_until": format_time(until), "used": False}
    desk.state.create(LINKS, _digest(secret), item)
    return secret, until


def redeem_link(secret: str, *, desk: TokenDesk) -> Session:
    """Use a link up for a session.

    Raises:
        Refused: code "bad-link": unknown, old, or used before; which is nobody's business.
    """
    kept = desk.state.get(LINKS, _digest(secret))
    good = kept is not None and desk.clock.now() < parse_time(kept["good_until"])
    if kept is None or not good or not _use(secret, kept, desk):
        raise Refused(
            "this link is unknown, too old, or was used before",
            hint="ask for a new one: leeward dashboard --by PERSON, or /dr dashboard",
            code="bad-link",
        )
    person = str(kept["person"])
    token, claims = issue_token(person, "act", SESSION, by=person, desk=desk)
    return Session(person, token, claims.expires_at)


def _use(secret: str, kept: dict[str, Any], desk: TokenDesk) -> bool:
    """Of two browsers that use it at once, one does."""
    item = kept | {"used": True}
    return desk.state.replace(LINKS, _digest(secret), item, expected={"used": False})


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
