"""Read the compiled plan, plan.json, which ships beside app.py."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from chalicelib.errors import PlanError
from chalicelib.plan.model import Plan


def read_plan_json(path: str | Path) -> Plan:
    """The plan that `leeward compile` wrote.

    Raises:
        PlanError: code "plan-unreadable"; the file is absent, no JSON, or not a plan.
    """
    hint = "write it again with `leeward compile PLAN --out DIR`"
    try:
        return Plan.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise PlanError(
            f"expected a compiled plan at {path}, found {error.strerror}", hint=hint
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise PlanError(f"{path}: {where}: {first['msg']}", hint=hint) from error
