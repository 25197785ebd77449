"""Text for people, from values that anybody may have written, and figures with their units."""

from __future__ import annotations

import unicodedata
from datetime import datetime

UNKNOWN = "unknown"


def printable(value: object) -> str:
    """The value as text in which every character is seen as what it is.

    Control and direction characters (Unicode Cc, Cf, Cs, Zl, Zp) move the cursor or turn the line
    round; they are written out as escapes. Line feeds become spaces.
    """
    text = str(value).replace("\r\n", " ").replace("\n", " ")
    return "".join(_seen(character) for character in text)


def printable_lines(text: str) -> str:
    """The same of text in lines, for a terminal: they stay, and a tab is a few spaces."""
    return "\n".join(printable(line.expandtabs()) for line in text.split("\n"))


def in_units(seconds: float | None) -> str:
    """Seconds for a person: "0.42 s", "12.3 s", "4 min 10 s", "2 h 5 min", "3 d 4 h"."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0:
        return f"-{in_units(-seconds)}"
    if seconds < 1:
        return f"{seconds:.2f} s" if seconds else "0 s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    for size, name, smaller, smaller_name in _UNITS:
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} s"


def counted(number: int, word: str) -> str:
    """ "1 session", "80,163 rows"."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def clock(at: datetime | None) -> str:
    """ "08:45:03.120" in UTC."""
    return at.strftime("%H:%M:%S.%f")[:-3] if at else UNKNOWN


def day_and_clock(at: datetime | None) -> str:
    """ "2026-11-22 08:45:03 UTC"."""
    return at.strftime("%Y-%m-%d %H:%M:%S UTC") if at else UNKNOWN


_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def _seen(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape").decode()
    return character
