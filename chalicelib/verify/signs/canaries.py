"""Objects that nobody needs, planted among those that somebody does.

Nobody has a reason to write, rename or delete one, so whoever does goes through everything. Their
names sort first and last in their folder, look like the papers of an office, and follow from a
secret seed: who knows Leeward does not know them.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.plan.records import Record
from chalicelib.plan.signs import BucketEvent, Sign
from chalicelib.ports.samples import Sample
from chalicelib.verify.signs.content import look_at

# A canary that is gone may be a folder that somebody removed; one that was rewritten cannot be.
DELETED_SCORE = 0.8
CHANGED_SCORE = 0.9
ENCRYPTED_SCORE = 0.97

_FIRST = ("2019 accounts", "2020 contracts", "1099 summary", "2021 invoices", "2018 minutes")
_LAST = ("year end review", "vendor terms", "wages overview", "works council", "yearly plan")
_WORDS = (
    "account amount approved archive balance budget carried closing contract cost customer date"
    " department due estimate figure forward invoice item net office order paid period quarter"
    " receipt reference remaining review signed supplier tax total transfer value year"
)


@dataclass(frozen=True)
class Canary(Record):
    """An object as it was planted. `sha256` is of its content, in hex."""

    key: str
    sha256: str
    planted_at: datetime
    version_id: str = ""


def make_canary(seed: bytes, prefix: str, place: str) -> tuple[str, bytes]:
    """Key and content; the same for the same arguments, on any machine and at any time.

    Args:
        prefix: "" or ends with a slash.
        place: "first" or "last" among its neighbours.
    """
    digest = hmac.new(seed, f"{place}:{prefix}".encode(), hashlib.sha256).digest()
    stem = (_FIRST if place == "first" else _LAST)[digest[0] % 5]
    name, kind = f"{stem} {digest[1] % 90 + 10}", ("docx", "csv")[digest[2] % 2]
    lines = _lines(digest, 120 + digest[3])
    content = _docx(lines) if kind == "docx" else "\r\n".join(lines).encode()
    return f"{prefix}{name}.{kind}", content


def _lines(digest: bytes, count: int) -> list[str]:
    """Rows of words and figures drawn from the digest."""
    rows, words = [], _WORDS.split()
    for number in range(count):
        drawn = hashlib.sha256(digest + number.to_bytes(4, "big")).digest()
        said = [words[byte % len(words)] for byte in drawn[:6]]
        amount = int.from_bytes(drawn[6:9], "big") % 1_000_000 / 100
        rows.append(f"{number + 1},{' '.join(said)},{amount:.2f},{drawn[9] % 28 + 1:02d}")
    return rows


def _docx(lines: Iterable[str]) -> bytes:
    """The least that a word processor opens; every timestamp is the format's first."""
    text = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in lines)
    parts = {
        "[Content_Types].xml": _CONTENT_TYPES,
        "_rels/.rels": _RELATIONS,
        "word/document.xml": f"{_HEAD}<w:document {_SPACE}><w:body>{text}</w:body></w:document>",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in parts.items():
            archive.writestr(zipfile.ZipInfo(name), body)
    return buffer.getvalue()


_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
_SPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006"
_MEDIA = "application/vnd.openxmlformats"
_CONTENT_TYPES = (
    f'{_HEAD}<Types xmlns="{_PACKAGE}/content-types">'
    f'<Default Extension="rels" ContentType="{_MEDIA}-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" ContentType="'
    f'{_MEDIA}-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONS = (
    f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
    f'Type="{_OFFICE}/relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)


def judge_canary(canary: Canary, found: Sample, now: datetime) -> Sign | None:
    """Compare a canary with what lies there now; None when it is as it was planted.

    One that this role may not read says nothing either way: the watch names it as a blind spot.
    """
    if found.problem == "denied":
        return None
    if found.problem == "gone":
        return _sign(canary, DELETED_SCORE, now, "is gone")
    if found.problem == "sse-c":
        return _sign(canary, ENCRYPTED_SCORE, now, "was rewritten under a key of its writer's")
    if hashlib.sha256(found.data).hexdigest() == canary.sha256:
        return None
    look = look_at(canary.key, found.data)
    score = ENCRYPTED_SCORE if look.encrypted else CHANGED_SCORE
    return _sign(canary, score, now, "was rewritten", flag=look.flag, size=found.size_bytes)


def find_touched(canaries: Iterable[Canary], events: Iterable[BucketEvent]) -> list[Sign]:
    """Canaries that an event names, other than their planting: sooner than the next look at them.

    What planted a canary may be told late; it bears the version that is on record.
    """
    by_key = {canary.key: canary for canary in canaries}
    return [
        _sign(
            by_key[event.key],
            DELETED_SCORE if event.kind == "deleted" else CHANGED_SCORE,
            event.at,
            f"was {'deleted' if event.kind == 'deleted' else 'rewritten'} ({event.reason})",
            requester=event.requester,
        )
        for event in events
        if event.key in by_key and not _is_planting(by_key[event.key], event)
    ]


def _is_planting(canary: Canary, event: BucketEvent) -> bool:
    if event.kind == "deleted":
        return False
    if canary.version_id and event.version_id:
        return canary.version_id == event.version_id
    return event.at <= canary.planted_at


def _sign(canary: Canary, score: float, at: datetime, what: str, **evidence: Any) -> Sign:
    return Sign(
        "canary", "canary", score, canary.key, at, f"the canary {canary.key} {what}",
        {"sha256": canary.sha256, **evidence},
    )  # fmt: skip
