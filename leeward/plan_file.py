"""A plan as its file: YAML with the line of everything in it.

YAML stays on the operator's side; Lambdas read plan.json. What cannot be used is told all at once,
each problem with its line, what was expected, what was found and the nearest name that exists.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError

from chalicelib.errors import PlanError
from chalicelib.plan.check.finding import show_path
from chalicelib.plan.lines import PlanLines
from chalicelib.plan.model import Plan
from chalicelib.plan.references import Reference, find_unknown_references
from leeward.plan_problems import Problem, explain_validation
from leeward.plan_yaml import Document, parse_yaml

PlanPath = tuple[str | int, ...]

# A plan is written by hand: the two that ship are 25 kB each.
MAX_BYTES = 1024 * 1024
MAX_SHOWN = 20


@dataclass(frozen=True)
class PlanFile:
    """A plan, the file it came from, and where in it each part stands."""

    plan: Plan
    path: Path
    document: Document

    def line_of(self, path: PlanPath) -> tuple[int, int]:
        """Line and column, from 1, of that part or of the nearest part around it."""
        return self.document.position(path)

    @property
    def lines(self) -> PlanLines:
        """What ships with the plan, so that its findings are shown with their lines."""
        lines = {show_path(path): line for path, (line, _) in self.document.values.items()}
        return PlanLines(self.path.name, self.plan.plan_sha256, lines)


def load_plan(path: str | Path) -> PlanFile:
    """Read a plan from YAML.

    Raises:
        PlanError: the file cannot be read, is not YAML, or is not a plan. `context["problems"]`
            lists each problem as {"line", "column", "path", "message"}.
    """
    file = Path(path)
    document = parse_yaml(_read_text(file), file)
    _refuse(file, document, document.problems)
    try:
        plan = Plan.model_validate_json(json.dumps(document.data), context={"written": True})
    except ValidationError as error:
        _refuse(file, document, explain_validation(error, document.data))
        raise
    _refuse(file, document, _unknown_names(plan))
    return PlanFile(plan, file, document)


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise PlanError(
            f"{file}: expected a plan, found: {(error.strerror or 'cannot be read').lower()}",
            hint="name a YAML file, such as policies/plans/nexus-studio.yaml",
        ) from error
    if len(raw) > MAX_BYTES:
        raise PlanError(
            f"{file}: expected a plan of at most {MAX_BYTES} bytes, found more",
            hint="a plan is written by hand: look whether this is the right file",
        )
    return _decode(file, raw)


def _decode(file: Path, raw: bytes) -> str:
    if b"\0" in raw:
        raise PlanError(
            f"{file}: expected YAML text, found a binary file", hint="name the plan's YAML file"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise PlanError(
            f"{file}:{line}:{column}: expected UTF-8, found the byte 0x{raw[error.start]:02x}",
            hint="save the file as UTF-8",
        ) from error


def _unknown_names(plan: Plan) -> list[Problem]:
    return [
        Problem(
            one.path,
            f"expected the name of a {one.what} of the plan, found {_told(plan, one)}",
            next(iter(get_close_matches(one.name, one.known, n=1)), None),
        )
        for one in find_unknown_references(plan)
    ]


def _told(plan: Plan, one: Reference) -> str:
    found = plan.components.get(one.name) if one.what == "component" else None
    return repr(one.name) + (f", which is retired since {found.retired}" if found else "")


def _refuse(file: Path, document: Document, problems: Iterable[Problem]) -> None:
    """Raise one PlanError for all problems, in the order of the file; return when there is none."""
    placed = sorted(
        ((document.position(one.path, of_key=one.is_key), one) for one in problems),
        key=lambda pair: pair[0],
    )
    if not placed:
        return
    lines = [
        f"{file}:{line}:{column}: {one.message}{_suggestion(one)}" for (line, column), one in placed
    ]
    first = placed[0][1]
    raise PlanError(
        _one_message(lines),
        hint=f"write {first.nearest!r}" if first.nearest and len(placed) == 1 else first.hint,
        problems=[
            {"line": line, "column": column, "path": list(one.path), "message": one.message}
            for (line, column), one in placed
        ],
    )


def _suggestion(problem: Problem) -> str:
    return f" (did you mean {problem.nearest!r}?)" if problem.nearest else ""


def _one_message(lines: list[str]) -> str:
    if len(lines) == 1:
        return lines[0]
    more = [f"and {len(lines) - MAX_SHOWN} more"] if len(lines) > MAX_SHOWN else []
    return "\n  ".join([f"{len(lines)} problems:", *lines[:MAX_SHOWN], *more])
