"""Keeps secrets out of the evidence, which is kept for years and read by many.

Replaces rather than refuses: a password inside a server's error message must not stop a recovery.
It would rather hide a harmless word than show a secret.

Source: libpq connection strings and URIs (PostgreSQL 17 documentation, 32.1.1), `ALTER ROLE ...
PASSWORD`, password verifiers as pg_authid stores them (SCRAM-SHA-256$..., md5...), AWS access key
ids (AKIA/ASIA + 16), PEM (RFC 7468).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from chalicelib.errors import BadInput

REDACTED = "[redacted]"

_WORDS = (
    r"(?:ssl)?password|passwd|pwd|passphrase|pgpassword|client_?secret|secret_?(?:access_?)?key"
    r"|api_?key|access_?token|session_?token|auth_?token|private_?key|credentials?"
)
_SECRET_NAME = re.compile(rf"(?:^|[_\-. ])(?:{_WORDS}|secret|token|authorization)$", re.IGNORECASE)
# Single quotes to the last one of the text: how often a quote inside is escaped depends on how
# often the text was quoted on its way here.
_QUOTED = r"""\\*'.*'|"(?:[^"\\]|\\.)*"|\\".*?\\\""""

# (what to find, what to put in its place), the widest first.
_IN_TEXT = (
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S
        ),
        REDACTED,
    ),
    (re.compile(r"(://[^\s:/@]*):\S*@"), rf"\1:{REDACTED}@"),
    (
        re.compile(rf"(\bpassword\s+)(?:E?(?:{_QUOTED})|\$(\w*)\$.*?\$\2\$)", re.I | re.S),
        rf"\1{REDACTED}",
    ),
    (
        re.compile(rf"((?:{_WORDS})\\?[\"']?\s*[=:]\s*)(?:{_QUOTED}|(?:\\.|\S)+)", re.I | re.S),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(\b(?:bearer|basic)\s+)[\w\-.~+/]{8,}=*", re.I), rf"\1{REDACTED}"),
    (re.compile(r"SCRAM-SHA-256\$\S+|\bmd5[0-9a-f]{32}\b|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), REDACTED),
)


def redact(value: Any) -> Any:
    """The same JSON value without its secrets, and without text that UTF-8 cannot hold.

    Raises:
        BadInput: the value is not JSON (a type, NaN, infinity, a name that is not text).
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    if isinstance(value, dict):
        return {_name(name): _named(name, item) for name, item in value.items()}
    raise BadInput(
        f"evidence must be JSON, found {type(value).__name__}",
        hint="turn the value into text, a number, a list or an object before recording it",
    )


def redact_text(text: str) -> str:
    """The text with each secret in it replaced by "[redacted]"; JSON is looked into."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if text[:1] in ("{", "[", '"'):
        return _redact_json(text)
    return _redact_plain(text)


def _redact_json(text: str) -> str:
    try:
        value = json.loads(text, parse_constant=str)
        clean = redact(value)
    except ValueError:
        return _redact_plain(text)
    except RecursionError:
        return REDACTED
    return text if clean == value else json.dumps(clean, ensure_ascii=False)


def _redact_plain(text: str) -> str:
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _named(name: str, value: Any) -> Any:
    # A fencing token is a number and no secret.
    is_secret = isinstance(value, (str, list, tuple, dict)) and bool(value)
    return REDACTED if is_secret and _SECRET_NAME.search(name) else redact(value)


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise BadInput(
            f"a name in evidence must be text, found {type(name).__name__}",
            hint="use text as the keys of what is recorded",
        )
    return redact_text(name)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise BadInput(
            f"a number in evidence must be finite, found {value}",
            hint="record an unknown figure as null",
        )
    return value
