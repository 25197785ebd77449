"""How random bytes look, as a histogram tells it.

Ciphertext is uniform over the 256 byte values. Its chi-square against the uniform distribution is
that distribution's own: mean 255, standard deviation 22.6, whatever the length. Compressed data is
nearly uniform, and not quite: over 64 KiB most of it lies outside (docs/ransomware.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

WINDOW_BYTES = 4096
# Chi-square of 256 values has 255 degrees of freedom: mean 255, deviation sqrt(2 * 255).
EXPECTED_CHI_SQUARE = 255.0
DEVIATION = math.sqrt(2 * EXPECTED_CHI_SQUARE)
# Four deviations lose 1 ciphertext in 16,000; docs/ransomware.md has the curve.
SPREAD = 4.0

# Of the entropy that so few bytes can have.
DENSE = 0.88

# Tab, line feed, form feed, carriage return, printable ASCII, and all that UTF-8 is made of.
_TEXT = bytes([9, 10, 12, 13, *range(32, 127), *range(0x80, 0xF5)])
_ASCII = bytes([9, 10, 12, 13, *range(32, 127)])


def chi_square(counts: Counter[int], size: int) -> float:
    """Of a histogram of `size` bytes against the uniform distribution. `size` > 0."""
    return sum(n * n for n in counts.values()) * 256 / size - size


def entropy(counts: Counter[int], size: int) -> float:
    """Bits per byte, 0 to 8."""
    return -sum(n / size * math.log2(n / size) for n in counts.values())


def is_random(data: bytes, spread: float = SPREAD) -> bool:
    """Is it as uniform as ciphertext? Less than 1 KiB is too little to tell: False."""
    if len(data) < 1024:
        return False
    return looks_random(chi_square(Counter(data), len(data)), spread)


def is_dense(counts: Counter[int], size: int) -> bool:
    """For less than 1 KiB: nearly every byte has a value of its own, as far as there are values.

    300 random bytes have 7.2 bits each, texts of any alphabet less than 6.
    """
    return entropy(counts, size) > DENSE * min(8.0, math.log2(size))


def looks_random(chi: float, spread: float = SPREAD) -> bool:
    return abs(chi - EXPECTED_CHI_SQUARE) < spread * DEVIATION


def windows(data: bytes) -> list[bytes]:
    """Whole windows of 4 KiB; what is left over at the end is dropped unless it is all there is."""
    whole = len(data) - len(data) % WINDOW_BYTES
    if not whole:
        return [data] if data else []
    return [data[start : start + WINDOW_BYTES] for start in range(0, whole, WINDOW_BYTES)]


def is_text(data: bytes) -> bool:
    """Characters of a text in UTF-8 or ASCII, but for one byte in fifty.

    Bytes above 127 count only when there are few, or when they decode as UTF-8.
    """
    if not data:
        return False
    if len(data.translate(None, _TEXT)) * 50 > len(data):
        return False
    if len(data.translate(None, _ASCII)) * 20 <= len(data):
        return True
    # Up to three bytes of a character may be cut off at either end of a sample.
    inner = data[3:-3] if len(data) > 64 else data
    return _decodes(inner)


def _decodes(data: bytes) -> bool:
    text = data.decode("utf-8", errors="replace")
    return text.count("\N{REPLACEMENT CHARACTER}") * 50 <= len(text)


def texts_and_noise(parts: Sequence[bytes], spread: float = SPREAD) -> str:
    """A letter a window: t text, r random, . neither."""
    return "".join("t" if is_text(p) else "r" if is_random(p, spread) else "." for p in parts)
