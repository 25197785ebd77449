"""The terminal as this command writes to it: nothing that others named moves its cursor.

Keys, names and messages come from whoever may write to a bucket or a database, in an attack the
attacker: an escape sequence in one would clear what stands above it, and write what it wants.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich import console as rich_console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from chalicelib.evidence.text import printable_lines


class Console(rich_console.Console):
    """As rich's, with every character of a text seen as what it is."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # What rich itself moves the cursor with is marked as such.
            plain = segment.control or segment.text.isprintable()
            yield segment if plain else Segment(printable_lines(segment.text), segment.style)
