"""Tokens and links: good once, for as long as they say, until they are taken back."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.adapters.jwt_tokens import JwtTokens
from chalicelib.errors import BadInput, LeewardError
from chalicelib.incidents.tokens import (
    LINK_GOOD_FOR,
    Claims,
    TokenDesk,
    check_token,
    issue_link,
    issue_token,
    list_tokens,
    redeem_link,
    revoke_token,
)
from chalicelib.services.people.tokens import read_bearer, read_cookie
from chalicelib.services.views.paging import Page, cursor_of, cut_page, read_page
from tests.fakes_state import InMemoryState, ManualClock


class LocalMac:
    """As KMS's, with a key that this process holds."""

    def __init__(self, key: bytes = b"k" * 32) -> None:
        self._key = key

    def make(self, message: bytes) -> bytes:
        return hmac.new(self._key, message, hashlib.sha256).digest()

    def holds(self, message: bytes, mac: bytes) -> bool:
        return hmac.compare_digest(self.make(message), mac)


@pytest.fixture
def desk() -> TokenDesk:
    now = datetime.now(UTC)  # PyJWT looks at the clock of the machine
    return TokenDesk(InMemoryState(), JwtTokens(LocalMac(), "leeward"), ManualClock(now))


def code_of(work: Any) -> str:
    with pytest.raises(LeewardError) as caught:
        work()
    return caught.value.instance_code


def test_a_token_says_who_asks(desk: TokenDesk) -> None:
    token, made = issue_token("cto", "act", timedelta(hours=1), by="operator", desk=desk)
    found = check_token(token, "act", desk=desk)
    assert (found, found.person) == (made, "cto")
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}


def test_a_program_is_nobody_who_could_agree(desk: TokenDesk) -> None:
    token, _ = issue_token("system:ci", "read", timedelta(days=90), by="operator", desk=desk)
    assert check_token(token, "read", desk=desk).person is None
    with pytest.raises(BadInput):
        issue_token("system:ci", "act", timedelta(days=1), by="operator", desk=desk)


@pytest.mark.parametrize(
    ("subject", "good_for"),
    [("cto", timedelta(hours=12, seconds=1)), ("cto", timedelta(0)), ("cto", timedelta(-1)),
     ("system:ci", timedelta(days=91))],
)  # fmt: skip
def test_none_lasts_longer_than_it_may(desk: TokenDesk, subject: str, good_for: timedelta) -> None:
    with pytest.raises(BadInput):
        issue_token(subject, "read", good_for, by="operator", desk=desk)


def test_a_token_that_reads_does_not_act(desk: TokenDesk) -> None:
    token, _ = issue_token("cto", "read", timedelta(hours=1), by="operator", desk=desk)
    assert check_token(token, "read", desk=desk).scope == "read"
    assert code_of(lambda: check_token(token, "act", desk=desk)) == "wrong-scope"


def test_a_revoked_token_is_good_no_more_and_revoking_repeats(desk: TokenDesk) -> None:
    token, made = issue_token("cto", "read", timedelta(hours=1), by="operator", desk=desk)
    assert revoke_token(made.id, by="operator", desk=desk) == "cto"
    assert revoke_token(made.id, by="operator", desk=desk) == "cto"
    assert code_of(lambda: check_token(token, "read", desk=desk)) == "token-revoked"
    assert code_of(lambda: revoke_token("no-such", by="x", desk=desk)) == "unknown-token"


def test_a_token_that_was_not_recorded_here_is_refused_however_well_signed(
    desk: TokenDesk,
) -> None:
    now = datetime.now(UTC)
    forged = Claims("cto", "act", "00" * 12, now, now + timedelta(hours=1))
    token = desk.signer.sign(forged.to_jwt())
    assert code_of(lambda: check_token(token, "read", desk=desk)) == "bad-token"


def forge(change: dict[str, Any], key: bytes = b"k" * 32, **header: Any) -> str:
    now = int(datetime.now(UTC).timestamp())
    body = {"iss": "leeward", "aud": "leeward", "sub": "cto", "scope": "act", "jti": "x",
            "iat": now, "exp": now + 86400} | change  # fmt: skip
    body = {name: value for name, value in body.items() if value is not None}
    jws = jwt.PyJWS(algorithms=["HS256", "none"])

    return jws.encode(json.dumps(body).encode(), key, **({"algorithm": "HS256"} | header))


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("", "bad-token"),
        ("x", "bad-token"),
        ("a.b.c", "bad-token"),
        ("é.é.é", "bad-token"),
        ("." * 3000, "bad-token"),
        (forge({}, key=b"another" * 8), "bad-token"),
        (forge({"aud": "another"}), "bad-token"),
        (forge({"iss": "another"}), "bad-token"),
        (forge({"jti": None}), "bad-token"),
        (forge({"exp": None}), "bad-token"),
        (forge({"exp": 1}), "token-expired"),
        (forge({"exp": "soon"}), "bad-token"),
        (forge({}, key="", algorithm="none"), "bad-token"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_is_forged_changed_or_over_is_refused(desk: TokenDesk, token: str, code: str) -> None:
    assert code_of(lambda: check_token(token, "read", desk=desk)) == code


def test_one_changed_letter_is_noticed(desk: TokenDesk) -> None:
    token, _ = issue_token("cto", "act", timedelta(hours=1), by="operator", desk=desk)
    head, body, mac = token.split(".")
    for spoilt in (f"{head}.{body}.{mac[::-1]}", f"{head}.{body[:-2]}AA.{mac}", f"{head}.{body}."):
        assert code_of(lambda spoilt=spoilt: check_token(spoilt, "read", desk=desk)) == "bad-token"


def test_the_list_has_what_is_good_and_no_token(desk: TokenDesk) -> None:
    token, made = issue_token("cto", "read", timedelta(hours=1), by="operator", desk=desk)
    [listed] = list_tokens(desk.state, now=desk.clock.now())
    assert (listed["id"], listed["for"], listed["by"]) == (made.id, "cto", "operator")
    assert token.rpartition(".")[2] not in str(listed)
    assert list_tokens(desk.state, now=desk.clock.now() + timedelta(hours=2)) == []


def test_a_link_lets_in_once(desk: TokenDesk) -> None:
    link, _ = issue_link("cto", desk=desk)
    session = redeem_link(link, desk=desk)
    assert check_token(session.token, "act", desk=desk).person == session.person == "cto"
    assert code_of(lambda: redeem_link(link, desk=desk)) == "bad-link"


@pytest.mark.parametrize("wrong", ["", "x", "é", "0" * 5000])
def test_a_link_that_nobody_made_lets_nobody_in(desk: TokenDesk, wrong: str) -> None:
    assert code_of(lambda: redeem_link(wrong, desk=desk)) == "bad-link"


def test_a_link_is_good_for_minutes_and_is_not_kept(desk: TokenDesk) -> None:
    link, until = issue_link("cto", desk=desk)
    assert until == desk.clock.now() + LINK_GOOD_FOR
    assert link not in str(list(desk.state.query("links")))
    desk.clock.sleep(LINK_GOOD_FOR.total_seconds())  # type: ignore[attr-defined]
    assert code_of(lambda: redeem_link(link, desk=desk)) == "bad-link"


@pytest.mark.parametrize(
    ("given", "found"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", ""), ("", ""), ("abc", "")],
)
def test_a_bearers_token_is_read(given: str, found: str) -> None:
    assert read_bearer({"authorization": given}) == found


def test_a_cookie_is_read_by_its_name() -> None:
    assert read_cookie({"cookie": "a=1; session=abc.d; b=2"}, "session") == "abc.d"
    assert read_cookie({"cookie": "a=1"}, "session") == ""


@given(
    st.sets(st.integers(0, 10_000), max_size=60),
    st.sets(st.integers(0, 10_000), max_size=20),
    st.integers(1, 7),
)
def test_pages_show_everything_once_whatever_is_added_in_between(
    items: set[int], added: set[int], limit: int
) -> None:
    def mark(number: int) -> str:
        return f"{number:06d}"

    shown: list[int] = []
    cursor: str | None = ""
    now = set(items)
    while cursor is not None:
        page = read_page({"limit": limit, "cursor": cursor})
        found, cursor = cut_page(now, page, mark)
        shown += found
        now |= added
    assert len(shown) == len(set(shown))
    assert items <= set(shown)
    assert shown == sorted(shown, reverse=True)


@pytest.mark.parametrize("cursor", ["%%", "é", "YQ==", "a", "x" * 600, cursor_of("\x00") + "\n"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(BadInput):
        read_page({"cursor": cursor})


@pytest.mark.parametrize("limit", [0, 101, -1, "5", True, 1.5])
def test_what_is_no_limit_is_refused(limit: Any) -> None:
    with pytest.raises(BadInput):
        read_page({"limit": limit})


def test_without_a_limit_everything_is_shown() -> None:
    assert cut_page([2, 1, 3], Page(), str) == ([3, 2, 1], None)
