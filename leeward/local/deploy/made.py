"""What a resource is once it exists, and how one that is not known here is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chalicelib.errors import BadInput

Properties = dict[str, Any]
STACK = "leeward"


@dataclass(frozen=True)
class Made:
    """A resource that exists: what Ref and Fn::GetAtt give for it."""

    ref: str
    attributes: dict[str, str] = field(default_factory=dict)


def unknown(what: str) -> BadInput:
    """The error of what is not known here, by its name."""
    return BadInput(
        f"the local cloud does not know the {what}",
        hint="Teach it to leeward/local/deploy/, or do without it in the template.",
        code="unknown-resource",
    )


def only(properties: Properties, *known: str) -> None:
    """Raises BadInput (code "unknown-resource") naming what is not `known`."""
    if extra := sorted(set(properties) - set(known)):
        raise unknown(f"property {', '.join(extra)}")
