"""What the orchestration of a recovery costs: everything between the alarm and the end of the run
that is not a step at work.

Whole drills in the local cloud, each in a process of its own; medians. A step's own seconds are its
work: PostgreSQL, the object store, the WAL. The rest is alarms, state machine, starts of functions,
records and state. Functions start as with Lambda's SnapStart (leeward/local/sandbox_mother.py);
what a start takes without it, bench/cold_start.py measures.

    python -m bench.drill [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import cast

from bench.lab import publish, table
from chalicelib.evidence.chain import decode_record
from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions, DrillResult

PLAN = Path(__file__).parents[1] / "policies" / "plans" / "nexus-studio.yaml"
SCENARIO = "database-corruption"
PROJECTS = 20_000


def one_drill() -> dict[str, float]:
    """Seconds of one drill: from the alarm to the last record, the steps' own, the rest."""
    plan, stage = load_runnable(PLAN, SCENARIO)
    component = plan.scenarios[SCENARIO].component
    assert component is not None
    with tempfile.TemporaryDirectory() as out:
        options = DrillOptions(SCENARIO, component, stage.damages[0], Path(out), projects=PROJECTS)
        result = stage(plan, options, lambda told: None).run()
        if result.problems:
            raise SystemExit(f"the drill failed: {result.problems}")
        return figures_of(result)


def _drill_in_a_process() -> dict[str, float]:
    """As people drill: a process that drilled before is slower, for it holds what it made."""
    command = [sys.executable, "-m", "bench.drill", "--one"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return cast("dict[str, float]", json.loads(done.stdout.splitlines()[-1]))


def figures_of(result: DrillResult) -> dict[str, float]:
    files = sorted((result.folder / "records").glob("*.json"))
    records = [decode_record(file.read_bytes(), where=file.name) for file in files]
    assert result.score.alarm_at is not None
    assert result.score.rto_seconds is not None
    run = (records[-1].at - result.score.alarm_at).total_seconds()
    work = sum(r.body["seconds"] for r in records if r.kind == "step-finished")
    return {
        "drill": result.seconds,
        "rto": result.score.rto_seconds,
        "run": round(run, 3),
        "work": round(work, 3),
        "orchestration": round(run - work, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", action="store_true", help="drill once, in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_drill()))
        return
    rounds = [_drill_in_a_process() for _ in range(options.rounds)]
    middle = {name: round(median(one[name] for one in rounds), 2) for name in rounds[0]}
    share = middle["orchestration"] / middle["run"]
    lines = [
        ["whole drill, from a warm set-up", f"{middle['drill']:.1f}"],
        ["recovery time: alarm to the application's first write", f"{middle['rto']:.1f}"],
        ["run: alarm to the last record", f"{middle['run']:.1f}"],
        ["of it, steps at work", f"{middle['work']:.1f}"],
        ["of it, orchestration", f"{middle['orchestration']:.1f} ({share:.0%})"],
    ]
    text = "## The drill and its orchestration\n\n" + table(["what", "seconds"], lines)
    text += (
        "\nFunctions start from memory, as with Lambda's SnapStart, which the template does not "
        "turn on ([why](decisions/0020-no-snapstart.md)); what a start takes without it, the next "
        "part says.\n"
    )
    publish("drill", text, {"rounds": rounds, "median": middle})


if __name__ == "__main__":
    main()
