"""What the models of the API have in common.

What is taken is strict: an unknown field, or a number where a text belongs, is refused. Times are
RFC 3339 in UTC, durations seconds.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Reason = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]
Code = Annotated[
    str,
    Field(min_length=6, max_length=40, pattern=r"^[0-9A-Za-z -]+$", description="A one-time code."),
]
Name = Annotated[str, Field(min_length=1, max_length=128)]
Seconds = Annotated[float, Field(ge=0)]


class Taken(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Shown(BaseModel):
    model_config = ConfigDict(extra="forbid")
