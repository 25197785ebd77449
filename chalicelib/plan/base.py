"""What every part of a plan has in common: frozen, strict, unknown keys refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints


class PlanPart(BaseModel):
    """A part of the plan. Building validators waits until the whole plan needs them."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", defer_build=True, serialize_by_alias=True
    )


Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
# Names become parts of state names, object keys and CloudFormation logical ids.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=48)]
