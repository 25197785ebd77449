"""The compiled machines before two judges that know no Leeward: asl-validator, statelint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from leeward.commands.compile import write_compiled
from leeward.plan_file import load_plan

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
JUDGES = {
    "asl-validator": [
        str(TOOLS / "node"),
        str(ROOT / "tests/asl/node_modules/asl-validator/dist/bin/asl-validator.js"),
        "--json-path",
    ],
    "statelint": [str(TOOLS / "statelint")],
}


def judge(name: str, file: Path) -> tuple[int, str]:
    done = subprocess.run(
        [*JUDGES[name], str(file)], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    machines = []
    for plan in sorted((ROOT / "policies" / "plans").glob("*.yaml")):
        out = tmp_path_factory.mktemp(plan.stem)
        written = write_compiled(load_plan(plan).plan, out)
        machines += [file for file in written if file.name.endswith(".asl.json")]
    return machines


@pytest.mark.parametrize("name", JUDGES)
def test_every_machine_passes(name: str, compiled: list[Path]) -> None:
    assert len(compiled) == 11
    for file in compiled:
        assert judge(name, file)[0] == 0, judge(name, file)[1]


@pytest.mark.parametrize("name", JUDGES)
def test_the_judge_refuses_a_broken_machine(
    name: str, compiled: list[Path], tmp_path: Path
) -> None:
    machine = json.loads(compiled[0].read_text())
    machine["States"][machine["StartAt"]]["Next"] = "Nowhere"
    broken = tmp_path / "broken.asl.json"
    broken.write_text(json.dumps(machine))
    assert judge(name, broken)[0] != 0
