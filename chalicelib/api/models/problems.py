"""An answer that is an error."""

from __future__ import annotations

from chalicelib.api.models.shape import Shown


class FieldProblem(Shown):
    """path: of the field, as a JSON Pointer."""

    path: str
    found: str


class Problem(Shown):
    """RFC 9457. title: the error's code, stable (docs/commands.md); hint: what to do."""

    type: str
    title: str
    status: int
    detail: str
    hint: str
    errors: list[FieldProblem] = []
