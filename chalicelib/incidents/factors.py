"""The second factor of a person: one-time codes (TOTP), and recovery codes for the day the phone
is lost.

    a code comes -> a try is counted (before anything is compared) -> compared -> used up -> tries
                                                                     forgotten

must: no code is accepted twice, of whatever kind, for whatever question; not even by two workers at
once. must: at most TRIES wrong codes in TRIES_WITHIN, however many ask at the same time. The one
exception to the first: the very request that used a code up may come again (its answer was lost);
it names what it is for, so that the code is good for nothing else.

Source: RFC 6238 (section 5.2: 30 s steps, one step of tolerance, a code is accepted once), NIST
SP 800-63B 3.1.4 and 3.2.2 (look-up secrets are used once; limited attempts).
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b32encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyotp

from chalicelib.errors import NotReady, Refused
from chalicelib.plan.records import format_time, parse_time
from chalicelib.ports import Clock, StateStore
from chalicelib.ports.people import Vault

STEP_SECONDS = 30
STEPS_OF_TOLERANCE = 1
SECRET_BYTES = 20
TRIES, TRIES_WITHIN = 5, timedelta(minutes=15)
RECOVERY_CODES = 8
RECOVERY_BYTES = 10
FACTOR, COUNTER = "totp", "tries"
DIGITS = 6


@dataclass(frozen=True)
class Enrolment:
    """Shown to the person once and kept nowhere as it is: the secret, and recovery codes."""

    person: str
    secret: str
    issuer: str
    recovery_codes: tuple[str, ...]

    @property
    def address(self) -> str:
        """What an authenticator reads, as text or from a QR code."""
        totp = pyotp.TOTP(self.secret)
        return totp.provisioning_uri(name=self.person, issuer_name=self.issuer)

    def __repr__(self) -> str:
        return f"Enrolment(person={self.person!r})"


@dataclass(frozen=True)
class FactorDesk:
    """What checking codes needs."""

    state: StateStore
    vault: Vault
    clock: Clock


def new_enrolment(person: str, *, issuer: str) -> Enrolment:
    secret = b32encode(secrets.token_bytes(SECRET_BYTES)).decode()
    codes = tuple(_new_recovery_code() for _ in range(RECOVERY_CODES))
    return Enrolment(person, secret, issuer, codes)


def keep_enrolment(enrolment: Enrolment, *, desk: FactorDesk, replace: bool = False) -> None:
    """Let the codes of the enrolment be good from now on.

    Args:
        replace: the one before is no longer good, nor are its recovery codes.
    Raises:
        Refused: code "already-enrolled".
    """
    person, salt = enrolment.person, secrets.token_hex(16)
    item = {
        "secret": desk.vault.close(enrolment.secret.encode(), person),
        "salt": salt,
        "recovery": [_hashed(code, salt) for code in enrolment.recovery_codes],
        "last_step": 0,
        "last_request": "",
        "version": secrets.token_hex(8),
        "enrolled_at": format_time(desk.clock.now()),
    }
    if desk.state.create(_partition(person), FACTOR, item):
        return
    if not replace:
        raise Refused(
            f"{person} is enrolled already",
            hint="with --replace the codes of the device before are no longer good",
            code="already-enrolled",
        )
    desk.state.replace(_partition(person), FACTOR, item, expected={})


def revoke(person: str, *, state: StateStore) -> bool:
    """No code of the person is good any more; False when none was."""
    return state.remove(_partition(person), FACTOR, expected={})


def enrolled_at(person: str, *, state: StateStore) -> datetime | None:
    found = state.get(_partition(person), FACTOR)
    return None if found is None else parse_time(found["enrolled_at"])


def use_code(person: str, code: str, *, request: str, desk: FactorDesk) -> str:
    """Use a code up: "totp" or "recovery code", what it was.

    Args:
        request: digest of what it is used for; the same request may come again with its code.
    Raises:
        NotReady: code "not-enrolled".
        Refused: codes "too-many-codes", "code-used", "wrong-code".
    """
    kept = desk.state.get(_partition(person), FACTOR)
    if kept is None:
        raise NotReady(
            f"{person} has no second factor",
            hint=f"an administrator enrols them: leeward people enrol {person}",
            code="not-enrolled",
        )
    _count_try(person, desk)
    given = "".join(code.split()).replace("-", "").upper()
    how = _use(person, given, kept, request, desk)
    desk.state.remove(_partition(person), COUNTER, expected={})
    return how


def _use(person: str, code: str, kept: dict[str, Any], request: str, desk: FactorDesk) -> str:
    hashed = _hashed(code, kept["salt"])
    if hashed in kept["recovery"]:
        left = [it for it in kept["recovery"] if it != hashed]
        _replace(person, kept, {"recovery": left, "last_request": f"{request}/{hashed}"}, desk)
        return "recovery code"
    if kept["last_request"] == f"{request}/{hashed}":
        return "the same request again"
    step = _step_of(code, desk.vault.open(kept["secret"], person).decode(), desk.clock.now())
    if step is None:
        raise Refused(
            f"the code of {person} is wrong",
            hint=f"wait for the next one, and look at the clock of the device; {TRIES} wrong codes"
            f" in {TRIES_WITHIN.seconds // 60} min lock it",
            code="wrong-code",
        )
    if step <= int(kept["last_step"]):
        raise _used(person)
    _replace(person, kept, {"last_step": step, "last_request": f"{request}/{hashed}"}, desk)
    return "totp"


def _replace(person: str, kept: dict[str, Any], change: dict[str, Any], desk: FactorDesk) -> None:
    """Of two workers that use one code up one does; the other may be of the same request."""
    item = kept | change | {"version": secrets.token_hex(8)}
    expected = {"version": kept["version"]}
    if desk.state.replace(_partition(person), FACTOR, item, expected=expected):
        return
    now = desk.state.get(_partition(person), FACTOR) or {}
    if now.get("last_request") != change["last_request"]:
        raise _used(person)


def _used(person: str) -> Refused:
    return Refused(
        f"this code of {person} was used before",
        hint="wait for the next code, at most 30 s; each is good once",
        code="code-used",
    )


def _step_of(code: str, secret: str, now: datetime) -> int | None:
    """The time step that the code belongs to, the newest first; None when it is of none near."""
    current = int(now.timestamp()) // STEP_SECONDS
    totp = pyotp.TOTP(secret, digits=DIGITS, interval=STEP_SECONDS)
    for step in range(current + STEPS_OF_TOLERANCE, current - STEPS_OF_TOLERANCE - 1, -1):
        if secrets.compare_digest(totp.generate_otp(step).encode(), code.encode()):
            return step
    return None


def _count_try(person: str, desk: FactorDesk) -> None:
    """Counted before the code is compared: those who guess at once are counted one by one."""
    partition = _partition(person)
    while True:
        now = desk.clock.now()
        found = desk.state.get(partition, COUNTER)
        recent = [at for at in (found or {}).get("at", []) if now - parse_time(at) < TRIES_WITHIN]
        if len(recent) >= TRIES:
            free_at = parse_time(recent[0]) + TRIES_WITHIN
            raise Refused(
                f"{person} gave {TRIES} wrong codes within {TRIES_WITHIN.seconds // 60} min",
                hint=f"try again after {free_at:%H:%M:%S} UTC; if it was somebody else, tell the"
                " security officer",
                code="too-many-codes",
            )
        item = {"at": [*recent, format_time(now)], "version": secrets.token_hex(8)}
        if found is None:
            if desk.state.create(partition, COUNTER, item):
                return
        elif desk.state.replace(partition, COUNTER, item, expected={"version": found["version"]}):
            return


def _new_recovery_code() -> str:
    """80 random bits, so that a plain salted hash of it cannot be guessed: "ABCD-EFGH-..."."""
    text = b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def _hashed(code: str, salt: str) -> str:
    return hashlib.sha256(f"{salt}:{code.replace('-', '')}".encode()).hexdigest()


def _partition(person: str) -> str:
    return f"factor#{person}"
