"""Tokens of the API, made with the operator's own rights: who can make one can ask as anybody."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass
from datetime import datetime

from chalicelib.adapters.clock import SystemClock
from chalicelib.errors import BadInput
from chalicelib.incidents.tokens import ISSUER, SYSTEM, TokenDesk
from chalicelib.plan.records import format_time
from chalicelib.ports import Records
from leeward.answering import look
from leeward.enrolling import STREAM, names_of, stores_of

NEEDED = (
    "LEEWARD_STATE_TABLE",
    "LEEWARD_TOKEN_KEY",
    "LEEWARD_EVIDENCE_BUCKET",
    "LEEWARD_DATA_KEY",
)
PROGRAM = re.compile(r"system:[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True)
class TokenOffice:
    """One stack: where its tokens and its records are."""

    desk: TokenDesk
    records: Records

    def record(self, kind: str, subject: str, token: str, until: datetime | None = None) -> None:
        """Who did it is the operator's name on this machine; AWS's own trail has the identity."""
        by = getpass.getuser()
        body = {"for": subject, "token": token, "by": by}
        if until is not None:
            body["until"] = format_time(until)
        self.records.append(STREAM, kind, body, actor=by, key=f"{kind}/{token}")


def token_office(standby: str | None) -> TokenOffice:
    """Raises NotReady (code "not-deployed")."""
    import boto3

    from chalicelib.adapters.jwt_tokens import JwtTokens
    from chalicelib.adapters.kms_mac import KmsMac

    names = names_of("standby" if standby else "primary", standby, NEEDED)
    state, records = stores_of(names, standby)
    mac = KmsMac(boto3.client("kms", region_name=standby), names["LEEWARD_TOKEN_KEY"])
    return TokenOffice(TokenDesk(state, JwtTokens(mac, ISSUER), SystemClock()), records)


def require_subject(subject: str, standby: str | None) -> None:
    """A program's name, or a contact of the deployed plan.

    Raises:
        BadInput: codes "bad-name", "unknown-person".
    """
    if subject.startswith(SYSTEM):
        if not PROGRAM.fullmatch(subject):
            raise BadInput(
                f"expected system:NAME, found {subject[:100]!r}",
                hint="NAME has small letters, digits, dots and dashes",
                code="bad-name",
            )
        return
    known = [it["person"] for it in look({"verb": "people"}, standby)["people"]]
    if subject not in known:
        raise BadInput(
            f"the deployed plan has no contact {subject[:100]!r}",
            hint=f"system:NAME for a program, or one of: {', '.join(known)}",
            code="unknown-person",
        )
