"""What every part of a plan has in common: frozen, strict, unknown keys refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from chalicelib.errors import BadInput

Part = TypeVar("Part")


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


class Parts(dict[str, Part]):
    """Parts of a plan by their names. A run may be older than the plan that is deployed: what it
    names and the plan does not is an error that says so, wherever it is looked up."""

    kind: str

    def __missing__(self, name: str) -> NoReturn:
        """Raises BadInput (code "unknown-component", "unknown-scenario", ...)."""
        names = ", ".join(self) or "none"
        raise BadInput(
            f"expected the plan to have the {self.kind} {name}, it has: {names}",
            hint="was it removed or renamed meanwhile? deploy a plan that has it, or begin anew",
            code=f"unknown-{self.kind}",
        )


def parts_of(kind: str) -> Callable[[dict[str, Part]], dict[str, Part]]:
    """For a field of the plan; `kind` in the words of people."""

    def named(found: dict[str, Part]) -> dict[str, Part]:
        parts = Parts(found)
        parts.kind = kind
        return parts

    return named
