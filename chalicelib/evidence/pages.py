"""Pages beside an incident's records, for people to read and to fill in: Markdown, escaped."""

from __future__ import annotations

from typing import Any

from chalicelib.evidence.render import markdown_environment
from chalicelib.evidence.text import day_and_clock


def render_page(template: str, **values: Any) -> str:
    """A template of templates/ with its values; one that it misses is an error."""
    environment = markdown_environment()
    environment.filters.setdefault("moment", day_and_clock)
    return environment.get_template(template).render(**values)
