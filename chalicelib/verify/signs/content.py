"""Does the beginning of one object look encrypted?

What looks random must say why: by a magic number whose body bears it out, or a name that promises
nothing. A ransom note is told by its words. One object decides nothing: judge.py looks at many.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from dataclasses import dataclass

from chalicelib.plan.records import Record
from chalicelib.verify.signs.kinds import SEALED, Kind, promise, recognise
from chalicelib.verify.signs.randomness import (
    SPREAD,
    WINDOW_BYTES,
    chi_square,
    entropy,
    is_dense,
    is_random,
    is_text,
    looks_random,
    texts_and_noise,
    windows,
)
from chalicelib.verify.signs.structure import check_body

SAMPLE_BYTES = 65536
# Below this nothing is judged but the words of a note and whether text is text.
LEAST_BYTES = 1024
LEAST_TEXT_BYTES = 64
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")
_HEX = re.compile(rb"(?:[0-9a-f]+|[0-9A-F]+)")
# Four of these in one small text. Source: the notes of the families in docs/ransomware.md.
_NOTE_WORDS = re.compile(
    rb"bitcoin|btc|monero|\.onion|tor browser|decrypt|encrypted|ransom|private key|payment|recover"
    rb"|unlock|wallet|aes-?256|rsa-?\d{4}|deadline|leak"
)
# A note speaks to somebody; a page about ransomware does not.
_YOURS = re.compile(rb"\byour? [a-z ]{0,20}(files|data|documents|network|servers?|backups?)\b")
NOTE_WORDS = 4
NOTE_BYTES = 32768


@dataclass(frozen=True)
class Look(Record):
    """What a sample looks like. `flag` is "" or what is wrong with it; docs/ransomware.md:

    mismatch: the name promises a kind that it is not; unknown: random, and nothing says why;
    broken: the header of a kind, but not its body; partial: random at its beginning alone;
    intermittent: text with random stretches; encoded: base64 or hexadecimal digits of random
    bytes; note: the words of a ransom note.
    """

    flag: str
    kind: str
    random: bool
    text: bool
    entropy: float
    chi_square: float
    chi_square_head: float
    windows: str = ""

    @property
    def encrypted(self) -> bool:
        return self.flag not in ("", "note")


def look_at(key: str, sample: bytes, *, spread: float = SPREAD) -> Look:
    """Judge the first bytes of an object.

    Pure; about 2 ms for 64 KiB.

    Args:
        key: its ending tells what the object should be.
        sample: the first `SAMPLE_BYTES`, or all when there are fewer.
        spread: how many standard deviations from chi-square's mean count as random.
    """
    sample = sample[:SAMPLE_BYTES]
    counts, head = Counter(sample), sample[:WINDOW_BYTES]
    size = len(sample)
    chi = chi_square(counts, size) if size else 0.0
    chi_head = chi_square(Counter(head), len(head)) if size else 0.0
    random = _is_random(counts, size, chi, spread)
    kind = _kind(sample)
    flag, pattern = _flag(key, sample, kind, random, spread)
    return Look(
        flag, kind.name if kind else "", random, is_text(sample),
        round(entropy(counts, size), 3) if size else 0.0, round(chi, 1), round(chi_head, 1),
        pattern,
    )  # fmt: skip


def _is_random(counts: Counter[int], size: int, chi: float, spread: float) -> bool:
    """A histogram needs 1 KiB; below that only a lack of repetition can be seen."""
    if size >= LEAST_BYTES:
        return looks_random(chi, spread)
    return size >= LEAST_TEXT_BYTES and is_dense(counts, size)


def _kind(sample: bytes) -> Kind | None:
    """Two bytes are too few to be sure of zlib: a stream that does not inflate is none."""
    kind = recognise(sample[:512])
    if kind and kind.name == "zlib" and check_body("zlib", sample) == "broken":
        return None
    return kind


def _flag(
    key: str, sample: bytes, kind: Kind | None, random: bool, spread: float
) -> tuple[str, str]:
    """The flag, and the windows' letters where they were looked at."""
    if len(sample) < LEAST_BYTES:
        return _flag_small(key, sample, kind, random), ""
    if kind and kind.sealed and kind != SEALED and promise(key) in ("magic", "text"):
        return "mismatch", ""
    if kind and kind.packed:
        return ("broken" if check_body(kind.name, sample) == "broken" else ""), ""
    if random and not kind:
        return ("mismatch" if promise(key) in ("magic", "text") else "unknown"), ""
    pattern = texts_and_noise(windows(sample), spread)
    if "r" in pattern:
        return _flag_windows(key, pattern, kind), pattern
    return (_flag_text(sample) if is_text(sample) else ""), pattern


def _flag_small(key: str, sample: bytes, kind: Kind | None, random: bool) -> str:
    if is_note(sample):
        return "note"
    belied = random and not kind and promise(key) == "text" and not is_text(sample)
    return "mismatch" if belied else ""


def _flag_text(sample: bytes) -> str:
    if is_note(sample):
        return "note"
    hidden = _decoded(sample)
    if len(hidden) >= LEAST_BYTES and not _kind(hidden) and is_random(hidden):
        return "encoded"
    return ""


def is_note(sample: bytes) -> bool:
    if len(sample) > NOTE_BYTES or not is_text(sample):
        return False
    text = sample.lower()
    return bool(_YOURS.search(text)) and len(set(_NOTE_WORDS.findall(text))) >= NOTE_WORDS


def _decoded(sample: bytes) -> bytes:
    """What base64 or hexadecimal digits stand for; empty when the text has anything else in it."""
    body = sample.translate(None, b"\r\n")
    if _HEX.fullmatch(body):
        return binascii.unhexlify(body[: len(body) - len(body) % 2])
    if not _BASE64.fullmatch(body):
        return b""
    digits = body.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    return base64.b64decode(digits[: len(digits) - len(digits) % 4])


def _flag_windows(key: str, pattern: str, kind: Kind | None) -> str:
    """`pattern`: a letter a window, at least one of them random."""
    if pattern[0] == "r" and not kind:
        return "partial"
    # Text, noise, text: a script with something packed behind it changes only once.
    if re.search("t[^t]*r[^t]*t", pattern) or (promise(key) == "text" and not kind):
        return "intermittent"
    if kind and len(pattern) >= 4 and pattern.count("r") >= len(pattern) - 1:
        return "broken"
    return ""
