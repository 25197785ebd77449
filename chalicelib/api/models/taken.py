"""What the JSON API takes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from chalicelib.api.models.shape import Code, Name, Reason, Taken


class Declaration(Taken):
    """A disaster of the plan, with the one-time code of somebody who may declare."""

    scenario: Name
    reason: Reason
    code: Code
    moment: Annotated[
        str | None, Field(max_length=40, description="Recover to just before this time.")
    ] = None


class Drill(Taken):
    """As a declaration."""

    scenario: Name
    code: Code
    reason: Reason = "a drill"


class Acknowledgement(Taken):
    """Nothing is said with it."""


class Closure(Taken):
    reason: Reason
    code: Code


class Answer(Taken):
    """approve or decline an approval; done or decline a person's step."""

    decision: Literal["approve", "decline", "done"]
    code: Code
    reason: Annotated[str, Field(max_length=2000)] = ""
