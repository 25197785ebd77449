"""Where in its YAML each part of the plan stands: plan-lines.json, which ships beside plan.json.

It names the plan it was made with. Beside another one it says nothing, rather than a wrong line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.plan.check.finding import show_path

NAME = "plan-lines.json"


@dataclass(frozen=True)
class PlanLines:
    """file: the YAML's own name. lines: from 1, by path as findings show it."""

    file: str
    plan_sha256: str
    lines: Mapping[str, int]

    def line_of(self, path: tuple[str | int, ...]) -> int:
        """Of that part, or of the nearest part around it."""
        while path and show_path(path) not in self.lines:
            path = path[:-1]
        return self.lines.get(show_path(path), 1)

    def to_json(self) -> dict[str, Any]:
        return {"file": self.file, "plan_sha256": self.plan_sha256, "lines": dict(self.lines)}


def read_lines(plan_json: Path, plan_sha256: str) -> PlanLines | None:
    """None when the plan was deployed from no file, or from another one."""
    try:
        found = PlanLines(**json.loads(plan_json.with_name(NAME).read_bytes()))
    except FileNotFoundError:
        return None
    return found if found.plan_sha256 == plan_sha256 else None
