"""What every part of a plan has in common: frozen, strict, unknown keys refused."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints


class PlanPart(BaseModel):
    """A part of the plan. Building validators waits until the whole plan needs them."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", defer_build=True, serialize_by_alias=True
    )


_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def _check_name(text: str) -> str:
    if _NAME.fullmatch(text) is None or len(text) > 48:
        raise ValueError("expected a name: lower-case words joined by hyphens, at most 48 letters")
    return text


Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
# Names become parts of state names, object keys and CloudFormation logical ids.
Name = Annotated[str, AfterValidator(_check_name)]
