"""What a Lambda's cold start costs: `import app` and the first handler's own imports.

Beside it, in the same run and interleaved, a bare Chalice application with Powertools' Logger and
Metrics: what any function of this kind pays. Each measure is a whole fresh interpreter that sees
nothing but the unpacked package; CPU time of the process (user + system), median of ROUNDS.

    python -m bench.cold_start
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.lab import publish, table

ROOT = Path(__file__).parents[1]
ROUNDS = 7
GUILTY = 8
BARE = """
from functools import partial
from aws_lambda_powertools import Logger, Metrics
from chalice import Chalice
from chalice.app import ConvertToMiddleware

app = Chalice(app_name="bare")
logger = Logger(service="bare")
metrics = Metrics(namespace="Bare", service="bare")
app.register_middleware(ConvertToMiddleware(partial(logger.inject_lambda_context)), "all")
app.register_middleware(ConvertToMiddleware(partial(metrics.log_metrics)), "all")


@app.lambda_function(name="handler")
def handler(event, context):
    return event
"""
START = "import sys; sys.path.insert(0, sys.argv[1]); "
VARIANTS = {
    "python alone": "",
    "bare": "import bare",
    "import app": "import app",
}


def measure(package: Path) -> dict[str, Any]:
    """{"cpu_ms": {variant: median}, "app_over_bare": ratio, "guilty": [[module, ms], ...]}."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with zipfile.ZipFile(package) as archive:
            archive.extractall(folder)
        (folder / "bare.py").write_text(BARE)
        for (
            code
        ) in VARIANTS.values():  # the first run of each compiles to .pyc, as AWS's build does
            cpu_seconds(folder, code)
        runs: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for _ in range(ROUNDS):
            for name, code in VARIANTS.items():
                runs[name].append(cpu_seconds(folder, code) * 1000)
        medians = {name: round(median(values), 1) for name, values in runs.items()}
        guilty = slowest_imports(folder)
    return {
        "cpu_ms": medians,
        "app_over_bare": round(medians["import app"] / medians["bare"], 3),
        "guilty": guilty,
    }


def cpu_seconds(folder: Path, code: str) -> float:
    before = children_seconds()
    subprocess.run(command(folder, code), check=True, env={"PATH": ""})
    return children_seconds() - before


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(folder: Path, code: str, *flags: str) -> list[str]:
    return [sys.executable, *flags, "-I", "-S", "-c", START + code, str(folder)]


def slowest_imports(folder: Path) -> list[tuple[str, float]]:
    """The modules of `import app` that take longest themselves, in ms."""
    done = subprocess.run(
        command(folder, "import app", "-X", "importtime"),
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": ""},
    )
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines()[1:]]
    times = [(name.strip(), int(own) / 1000) for own, _, name in rows]
    return sorted(times, key=lambda it: -it[1])[:GUILTY]


def main() -> None:
    from leeward.packaging.package import build_package
    from leeward.plan_file import load_plan

    plan = load_plan(ROOT / "policies" / "plans" / "nexus-studio.yaml").plan
    with tempfile.TemporaryDirectory() as out:
        result = measure(build_package(plan, Path(out)).zip)
    lines = [[name, f"{value:.0f}"] for name, value in result["cpu_ms"].items()]
    publish(
        "cold start",
        "## Cold start of a Lambda\n\n"
        f"CPU time of a fresh interpreter, median of {ROUNDS}. `import app` costs "
        f"{result['app_over_bare']:.2f} times a bare Chalice application with Powertools' Logger "
        "and Metrics; boto3, pydantic and psycopg are imported by the handlers that need them.\n\n"
        + table(["process", "CPU ms"], lines),
        result,
    )


if __name__ == "__main__":
    main()
