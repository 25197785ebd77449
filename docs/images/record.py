"""Run a real drill and keep its screen as drill.svg, the picture in README.md.

.venv/bin/python docs/images/record.py      from the root of the repository
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from leeward.commands.drill import Screen
from leeward.local.drill import DEFAULT_DAMAGE, Drill, DrillOptions
from leeward.plan_file import load_plan

SCENARIO = "database-corruption"
COLUMNS = 116
# A picture that fetches nothing: rich's own format names fonts on the web.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def record() -> None:
    plan = load_plan("policies/plans/nexus-studio.yaml").plan
    component = plan.scenarios[SCENARIO].component
    assert component
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere, highlight=False, record=True, width=COLUMNS)
        screen = Screen(console)
        options = DrillOptions(SCENARIO, component, DEFAULT_DAMAGE, Path("build/drills"))
        screen.show_result(Drill(plan, options, screen.tell).run())
    console.save_svg("docs/images/drill.svg", title="make drill", code_format=FORMAT)


if __name__ == "__main__":
    record()
