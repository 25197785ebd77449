"""Wrong words, wrong files, wrong folders: one error with its code and what to do, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import LEEWARD, NEXUS, run

DRILL = ("drill", "database-corruption", "--plan", NEXUS)

WRONG = {
    "a misspelt command": (("chek", NEXUS), "bad-usage", "'check'"),
    "an unknown command": (("fly",), "bad-usage", "'fly'"),
    "an unknown command of a group": (("cloud", "down"), "bad-usage", "'down'"),
    "a misspelt option": (("check", "--fromat", "json", NEXUS), "bad-usage", "'--format'"),
    "an argument left out": (("check",), "bad-usage", "'PLAN'"),
    "an option left out": (("drill", "database-corruption"), "bad-usage", "'--plan'"),
    "an option without its value": (("compile", NEXUS, "--out"), "bad-usage", "'--out'"),
    "one argument too many": (("check", NEXUS, "more"), "bad-usage", "(more)"),
    "an unknown format": (("check", NEXUS, "--format", "xml"), "bad-usage", "'xml'"),
    "an unknown damage": ((*DRILL, "--damage", "drop-tabel"), "unknown-damage", "drop-table"),
    "too little data": ((*DRILL, "--projects", "1"), "bad-usage", "100"),
    "a misspelt scenario": (
        ("explain", NEXUS, "database-coruption"),
        "unknown-scenario",
        "'database-corruption'",
    ),
    "an unknown scenario": (
        ("drill", "flood", "--plan", NEXUS),
        "unknown-scenario",
        "database-corruption",
    ),
    "no such plan": (("check", "/nowhere/plan.yaml"), "plan-unreadable", "no such file"),
    "a folder as plan": (("check", "/usr"), "plan-unreadable", "is a directory"),
    "a program as plan": (("check", sys.executable), "plan-unreadable", "found"),
    "an endless plan": (("check", "/dev/zero"), "plan-unreadable", "at most"),
    "an empty plan": (("check", "/dev/null"), "plan-unreadable", "an empty file"),
    "no place for what is compiled": (
        ("compile", NEXUS, "--out", "/proc/nowhere"),
        "not-writable",
        "/proc/nowhere",
    ),
    "a file for what is compiled": (("compile", NEXUS, "--out", NEXUS), "not-writable", "exists"),
    "a file for the package": (
        ("package", "--plan", NEXUS, "--out", NEXUS),
        "not-writable",
        "exists",
    ),
    "a file for the evidence": ((*DRILL, "--out", NEXUS), "not-writable", "exists"),
    "a file for the backup": (
        ("prove", "host=127.0.0.1 port=1", "--keep-backup", NEXUS),
        "not-writable",
        "exists",
    ),
    "no evidence": (("evidence", "verify", "/nowhere"), "bad-input", "/nowhere"),
    "no DSN": (("prove", "nonsense"), "bad-dsn", "DSN"),
}


@pytest.mark.parametrize(("words", "code", "named"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_one_clear_error(words: tuple[str, ...], code: str, named: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    error, hint = done.stderr.split("\nHINT: ")
    assert error.startswith(f"ERROR [{code}]: ")
    assert named in done.stderr
    assert hint.strip()


IN_JSON = [
    "a misspelt command",
    "an argument left out",
    "no such plan",
    "a misspelt scenario",
    "a file for what is compiled",
    "no evidence",
    "no DSN",
]


@pytest.mark.parametrize("what", IN_JSON)
def test_an_error_is_one_json_document_when_asked(what: str) -> None:
    words, code, _ = WRONG[what]
    done = run(*words, "--format=json")
    assert (done.returncode, done.stderr) == (2, "")
    error = json.loads(done.stdout)["error"]
    assert error.keys() == {"code", "message", "hint", "context"}
    assert error["code"] == code


def test_a_server_that_is_not_there() -> None:
    done = run("prove", "postgresql://somebody:geheim@127.0.0.1:1/app")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-2].startswith("ERROR [no-connection]: ")
    assert "Connection refused" in done.stderr
    assert "geheim" not in done.stderr


def test_without_words_there_is_help() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: leeward ")


AS_ANOTHER = f"""
import os, sys
import leeward.commands.check, leeward.commands.compile
from leeward.cli import main
leeward.plan_file.load_plan({str(NEXUS)!r})  # everything is imported while its folder can be read
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
main()
"""


@pytest.fixture
def plan() -> Iterator[Path]:
    """A plan that every user of the machine can read."""
    with tempfile.TemporaryDirectory(prefix="lw-test-") as folder:
        Path(folder).chmod(0o755)
        shutil.copy(NEXUS, folder)
        yield Path(folder, NEXUS.name)


def run_as_another(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """As a user who is not root, whoever runs the tests."""
    return subprocess.run(
        [sys.executable, "-c", AS_ANOTHER, *words], capture_output=True, text=True
    )


def test_a_plan_that_may_not_be_read(plan: Path) -> None:
    plan.chmod(0)
    done = run_as_another("check", plan)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ERROR [plan-unreadable]: {plan}: expected a plan, found: perm")


def test_a_folder_that_may_not_be_written_to(plan: Path) -> None:
    done = run_as_another("compile", plan, "--out", "/not-mine")
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR [not-writable]: expected to write to /not-mine, could not")


@pytest.mark.parametrize(
    ("more", "code", "hint"),
    [
        ({}, "no-region", "AWS_DEFAULT_REGION"),
        ({"AWS_DEFAULT_REGION": "us-east-1"}, "no-credentials", "AWS_PROFILE"),
    ],
)
def test_a_machine_that_never_heard_of_aws_is_told_what_to_set(
    more: dict[str, str], code: str, hint: str
) -> None:
    ours = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    nothing = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
               "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
    done = subprocess.run(
        [LEEWARD, "copy", NEXUS, "--dry-run"],
        env={**ours, **nothing, **more},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"ERROR [{code}]: ")
    assert hint in done.stderr


@pytest.mark.parametrize(
    ("plan", "form", "status", "code"),
    [
        (NEXUS, "text", 1, "no-disk-space"),
        (NEXUS, "json", 1, "no-disk-space"),
        ("nowhere.yaml", "json", 2, "plan-unreadable"),
    ],
)
def test_a_full_disk_is_no_success(plan: str | Path, form: str, status: int, code: str) -> None:
    """Where the report is to be written."""
    words = [LEEWARD, "check", plan, "--format", form]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)
    assert done.stderr.startswith(f"ERROR [{code}]: ")


PROGRAM_THAT_SAYS_WHY = """
import leeward.commands.check as check
from chalicelib.errors import NotReady
from leeward.cli import main

def fail(*_):
    raise NotReady("expected it, it was not", hint="read its log", log="first\\nsecond")

check.load_plan = fail
main(["check", "plan.yaml"])
"""


def test_what_another_program_said_is_shown_below() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM_THAT_SAYS_WHY], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "ERROR [not-ready]: expected it, it was not",
        "HINT: read its log",
        "  log: first",
        "  log: second",
    ]


def test_what_nobody_expected_keeps_its_traceback() -> None:
    program = PROGRAM_THAT_SAYS_WHY.replace("raise NotReady", "raise ZeroDivisionError #")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.strip().endswith("ZeroDivisionError")


def test_no_seed_is_made_where_no_deployment_can_be_reached(tmp_path: Path) -> None:
    seed = tmp_path / "canaries.seed"
    done = run("signs", "plant", "nexus-uploads", "--plan", NEXUS, "--seed-file", seed)
    assert (done.returncode, "ERROR [no-region]" in done.stderr) == (1, True), done.stderr
    assert not seed.exists()
