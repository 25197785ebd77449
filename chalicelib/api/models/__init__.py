"""What the JSON API takes and answers, as pydantic models, by name.

Each file is imported when one of its models is asked for: a request needs the one that it is
checked by, and to make them all takes longer than most requests.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

_FILES = (
    "taken",
    "questions",
    "incidents",
    "runs",
    "people",
    "points",
    "upkeep",
    "problems",
)


def model_named(name: str) -> type[BaseModel]:
    """Raises KeyError."""
    for file in _FILES:
        found: type[BaseModel] | None = getattr(import_module(f"{__name__}.{file}"), name, None)
        if found is not None:
            return found
    raise KeyError(name)
