"""The calendar as one self-contained SVG: light and dark, letters beside colours, words for readers
that see nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from textwrap import wrap

from chalicelib.backup.retention.calendar import MEANINGS, STRENGTH, Calendar, Cell
from chalicelib.evidence.text import counted, printable
from leeward.retention.text import DAYS, MONTHS

WIDTH = 880
CELL = 26
GAP = 4
STEP = CELL + GAP
LEFT = 92
YEARS_AT = 420
TOP = 84
LEGEND = 64
NOTE_COLUMNS = 125
# Text on its own colour reaches a contrast of at least 4.5 in both schemes.
STYLE = """
svg{--ink:#1c2430;--dim:#5b6675;--paper:#ffffff;--none:#e9edf2;--Y:#6b2c91;--M:#1f55a8;--W:#0b6e78;
--D:#1d6f3a;--A:#1d6f3a;--i:#4d7a1f;--p:#8a5a00;--x:#b3261e;--on:#ffffff;background:var(--paper);
font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
@media(prefers-color-scheme:dark){svg{--ink:#e6eaf0;--dim:#9aa6b5;--paper:#12171e;--none:#232b36;
--Y:#d7a5f5;--M:#9cc2ff;--W:#7fd6df;--D:#8fdaa6;--A:#8fdaa6;--i:#bfe08a;--p:#f0c36d;--x:#ff9d94;
--on:#12171e}}
text{fill:var(--ink);font-size:13px}.d{fill:var(--dim);font-size:12px}.h{font-size:17px;
font-weight:600}.c{font-weight:700;text-anchor:middle;fill:var(--on)}.e{text-anchor:end}
.m{text-anchor:middle}.k{fill:none;stroke:var(--x);stroke-width:1.5;stroke-dasharray:3 2}
.t{font-weight:700;text-anchor:middle;fill:var(--x)}
"""
VARIABLE = {"+": "p"}


def draw(calendars: Sequence[Calendar], notes: Sequence[str]) -> str:
    """One block for each component; `notes` are sentences at the foot."""
    notes = [line for note in notes for line in wrap(note, NOTE_COLUMNS)]
    blocks, y = [], 0
    for calendar in calendars:
        rows = max(len(calendar.weeks), len(calendar.years))
        blocks.append(f'<g transform="translate(0,{y})">{"".join(_block(calendar))}</g>')
        y += TOP + rows * STEP + 16
    letters = {letter for calendar in calendars for letter in calendar.letters}
    foot = "".join(_legend(letters, y)) + "".join(_notes(notes, y + 34))
    height = y + LEGEND + 18 * len(notes)
    title = f"What stays of {', '.join(one.component for one in calendars)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-labelledby="t d"><title id="t">{_text(title)}</title>'
        f'<desc id="d">{_text(" ".join(map(_describe, calendars)))}</desc>'
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="var(--paper)"/>'
        f"{''.join(blocks)}{foot}</svg>\n"
    )


def _describe(calendar: Calendar) -> str:
    """What a reader hears who cannot see the picture."""
    counts = {
        letter: sum(
            bool(cell and cell.letter == letter) for _, row in calendar.years for cell in row
        )
        for letter in calendar.letters
    }
    months = ", ".join(
        f"{counted(number, 'month')} {MEANINGS[letter]}"
        for letter, number in counts.items()
        if number and letter not in ".x"
    )
    return (
        f"{calendar.component}: {counted(calendar.stay, 'recovery point')} stay and "
        f"{calendar.go:,} go as of {calendar.as_of:%Y-%m-%d}. By the strongest reason: {months}."
    )


def _block(calendar: Calendar) -> Iterator[str]:
    yield f'<text class="h" x="24" y="32">{_text(calendar.component)}</text>'
    yield f'<text class="d" x="24" y="52">{_text(calendar.summary)}</text>'
    yield from _grid(DAYS, calendar.weeks, LEFT)
    years = [(str(year), cells) for year, cells in calendar.years]
    yield from _grid(MONTHS, years, YEARS_AT)


def _grid(
    names: Sequence[str], rows: Iterable[tuple[str, Sequence[Cell | None]]], left: int
) -> Iterator[str]:
    for column, name in enumerate(names):
        x = left + column * STEP + CELL // 2
        yield f'<text class="d m" x="{x}" y="{TOP - 8}">{name}</text>'
    for number, (label, cells) in enumerate(rows):
        y = TOP + number * STEP
        yield f'<text class="d e" x="{left - 10}" y="{y + 17}">{label}</text>'
        for column, cell in enumerate(cells):
            if cell is not None:
                words = f"{names[column]} {label}"
                yield from _cell(cell, left + column * STEP, y, words)


def _cell(cell: Cell, x: int, y: int, where: str) -> Iterator[str]:
    told = f"{where}: {MEANINGS[cell.letter]}; {cell.stay:,} stay, {cell.go:,} go"
    yield f"<g><title>{_text(told)}</title>"
    yield _box(cell.letter, x, y)
    yield "</g>"


def _box(letter: str, x: int, y: int) -> str:
    place = f'x="{x}" y="{y}" width="{CELL}" height="{CELL}" rx="4"'
    middle = f'x="{x + CELL // 2}" y="{y + 18}"'
    if letter == ".":
        return f'<rect {place} fill="var(--none)"/>'
    if letter == "x":
        return f'<rect {place} class="k"/><text class="t" {middle}>x</text>'
    colour = VARIABLE.get(letter, letter)
    return f'<rect {place} fill="var(--{colour})"/><text class="c" {middle}>{letter}</text>'


def _legend(letters: Iterable[str], y: int) -> Iterator[str]:
    x = 24
    for letter in sorted(letters, key=lambda one: -STRENGTH[one]):
        yield _box(letter, x, y)
        yield f'<text x="{x + CELL + 8}" y="{y + 18}">{MEANINGS[letter]}</text>'
        x += CELL + 28 + 7 * len(MEANINGS[letter])


def _notes(notes: Sequence[str], y: int) -> Iterator[str]:
    for number, note in enumerate(notes):
        yield f'<text class="d" x="24" y="{y + 16 + 18 * number}">{_text(note)}</text>'


def _text(words: str) -> str:
    return escape(printable(words))
