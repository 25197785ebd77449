"""The documentation's commands are run, and what it shows of their output is what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from leeward.cli import cli
from tests.commands import ROOT, clean_environment
from tests.ruined import Ruined, ruin_bucket
from tests.s3_servers import moto_server
from tests.servers import RealServer, running_server

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS_PAGE = (ROOT / "docs/commands.md").read_text()
FENCE = re.compile(r"^```console run(?: exit=(\d+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE_HOST = "db.example.org"
EXAMPLE_BUCKET = "uploads"
EXAMPLE_MOMENT = "2026-11-22T08:45:00Z"


@dataclass(frozen=True)
class Shown:
    """A command on a page, the output shown below it, and the exit status it must have."""

    command: str
    lines: tuple[str, ...]
    status: int


def shown_on(page: Path) -> Iterator[Shown]:
    for status, body in FENCE.findall(page.read_text()):
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            yield Shown(command, tuple(lines), int(status or 0))


SHOWN = [(page, shown) for page in PAGES for shown in shown_on(page)]


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    """The documentation's example server: database `app`, role `backup`."""
    with running_server() as running:
        running.run("create role backup login replication password 'secret'", "create database app")
        running.run("create table orders as select generate_series(1, 200000) id", database="app")
        yield running


@pytest.fixture(scope="module")
def ruined() -> Iterator[Ruined]:
    """The documentation's example bucket, and an empty one beside it."""
    with moto_server() as s3:
        yield ruin_bucket(s3, EXAMPLE_BUCKET)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout for those who only read it: what a command writes lands elsewhere."""
    for name in ("policies", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize(("page", "shown"), SHOWN, ids=lambda it: getattr(it, "command", None))
def test_a_command_does_what_the_page_shows(
    page: Path, shown: Shown, folder: Path, request: pytest.FixtureRequest
) -> None:
    command, environment = shown.command, {"COLUMNS": "80"}
    if EXAMPLE_HOST in command:
        running = request.getfixturevalue("server")
        command = command.replace(EXAMPLE_HOST, f"127.0.0.1:{running.port}")
        environment["PGPASSWORD"] = "secret"
    if f" {EXAMPLE_BUCKET} " in command:
        bucket = request.getfixturevalue("ruined")
        command = command.replace(EXAMPLE_MOMENT, bucket.moment)
        environment |= bucket.environment
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=clean_environment(**environment, PATH=path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == shown.status, done.stdout
    assert missing_lines(shown.lines, done.stdout.splitlines()) == []


def missing_lines(expected: tuple[str, ...], printed: list[str]) -> list[str]:
    """Lines that do not come, in this order; numbers may differ, `...` stands for anything."""
    missing, rest = [], iter(printed)
    for line in expected:
        pattern = re.compile(as_pattern(line))
        if line.strip() != "..." and not any(pattern.fullmatch(it.rstrip()) for it in rest):
            missing.append(line)
    return missing


def as_pattern(line: str) -> str:
    parts = re.split(r"(\.\.\.|\d[\dA-F.,:/]*|\s+)", line.rstrip())
    return "".join(one_pattern(part) for part in parts)


def one_pattern(part: str) -> str:
    if part == "...":
        return ".*"
    if part[:1].isdigit():
        return r"\d[\dA-F.,:/]*"
    return r"\s+" if part.isspace() else re.escape(part)


def test_the_pages_show_commands() -> None:
    assert {shown.command.split()[1] for _, shown in SHOWN} >= {"check", "explain", "prove"}


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """("leeward cloud up", command), of every command that does something."""
    waiting = [click.Context(cli, info_name="leeward")]
    while waiting:
        context = waiting.pop()
        command = context.command
        if not isinstance(command, click.Group):
            yield context.command_path, command
            continue
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner
            waiting.append(click.Context(inner, context, info_name=name))


COMMANDS = dict(all_commands())
SECTIONS = dict(re.findall(r"^## (leeward .+?)\n(.*?)(?=^## |\Z)", COMMANDS_PAGE, re.M | re.DOTALL))


def test_every_command_has_its_section_and_no_other_has() -> None:
    assert SECTIONS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_names_every_option_and_no_other(name: str) -> None:
    section, command = SECTIONS[name], COMMANDS[name]
    options = {option for it in command.params for option in it.opts if option.startswith("--")}
    rows = re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE)
    assert sorted(rows) == sorted(options - {"--format"})
    synopsis = section.split("\n\n")[0].strip()
    assert synopsis.startswith(name)
    required = {it.opts[0] for it in command.params if it.required and it.opts[0][:2] == "--"}
    assert set(re.findall(r"--[a-z-]+", synopsis)) == required


def test_every_code_and_name_on_the_page_stands_in_the_code() -> None:
    sources = [*(ROOT / "leeward").rglob("*.py"), *(ROOT / "chalicelib").rglob("*.py")]
    known = set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', "".join(it.read_text() for it in sources)))
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", COMMANDS_PAGE))
    assert len(named) > 20
    assert named - known == set()


def outside_make() -> dict[str, str]:
    """The environment of somebody who types the command: the tests may run under make."""
    given = ("ARGS", "PLAN", "PYTHON")
    return {name: it for name, it in os.environ.items() if "MAKE" not in name and name not in given}


def test_make_drill_runs_the_command_that_the_readme_shows() -> None:
    plan = "policies/plans/nexus-studio.yaml"
    printed = subprocess.run(
        ["make", "-n", "--no-print-directory", "drill"],
        cwd=ROOT, env=outside_make(), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    drill = f".venv/bin/leeward drill database-corruption --plan {plan}"
    assert printed.splitlines()[-1].strip() == drill


def test_make_lists_every_target_that_a_page_names() -> None:
    listed = subprocess.run(
        ["make"], cwd=ROOT, env=outside_make(), capture_output=True, text=True, check=True
    ).stdout
    targets = set(re.findall(r"make ([a-z]+)", listed))
    named = {
        it for page in PAGES for it in re.findall(r"(?:`|    )make ([a-z]+)", page.read_text())
    }
    assert targets == {"help", "setup", "drill", "test", "check", "package", "bench"}
    assert named <= targets
