"""What the commands print: to terminals, pipes and programs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.commands import ARTIST, LEEWARD, NEXUS, ROOT, clean_environment, run

TOLD = {
    "check": ("check", NEXUS),
    "check artist-tech": ("check", ARTIST),
    "explain": ("explain", NEXUS, "database-corruption"),
    "explain artist-tech": ("explain", ARTIST, "data-center-disaster"),
}
HELP = [
    "", "check", "explain", "compile", "prune", "drill", "prove", "package", "cloud", "cloud up",
    "cloud env", "evidence", "evidence verify", "restore bucket",
]  # fmt: skip


def in_terminal(*words: str | Path, **environment: str) -> str:
    """What a terminal of 80 columns receives."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [LEEWARD, *words],
        cwd=ROOT,
        env=clean_environment(**{"TERM": "xterm-256color", "COLUMNS": "80"} | environment),
        stdout=theirs,
        stderr=theirs,
    ):
        os.close(theirs)
        received = bytearray()
        while data := read_terminal(ours):
            received += data
    os.close(ours)
    return received.decode()


def read_terminal(handle: int) -> bytes:
    """b"" at the end, which Linux tells with an error."""
    try:
        return os.read(handle, 1 << 16)
    except OSError:
        return b""


@pytest.mark.parametrize("words", TOLD.values(), ids=TOLD.keys())
def test_text_fits_into_80_columns(words: tuple[str | Path, ...]) -> None:
    lines = run(*words).stdout.splitlines()
    assert len(lines) > 10
    assert [line for line in lines if len(line) > 80 and str(ROOT) not in line] == []


@pytest.mark.parametrize("words", HELP)
def test_help_fits_into_80_columns_and_tells_status_and_example(words: str) -> None:
    told = run(*words.split(), "--help").stdout
    assert [line for line in told.splitlines() if len(line) > 80] == []
    if words not in ("cloud", "evidence"):
        assert "Exit status: 0" in told
        assert f"  leeward {words}" in told or f"(leeward {words})" in told


def test_colours_are_for_terminals_that_want_them() -> None:
    assert "\x1b[" in in_terminal("check", NEXUS)
    assert "\x1b[" not in in_terminal("check", NEXUS, TERM="dumb")
    assert "\x1b[" not in run("check", NEXUS).stdout
    assert "\x1b[3" not in in_terminal("check", NEXUS, NO_COLOR="1")


def test_a_terminal_that_knows_ascii_alone() -> None:
    done = run("check", NEXUS, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 1
    assert done.stdout.isascii()
    assert done.stderr == ""


@pytest.mark.parametrize("words", TOLD.values(), ids=TOLD.keys())
def test_a_reader_that_leaves_early(words: tuple[str | Path, ...]) -> None:
    with subprocess.Popen(
        [LEEWARD, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""


def test_json_is_one_document(tmp_path: Path) -> None:
    assert json.loads(run("check", NEXUS, "--format", "json").stdout)["plan"] == "nexus-studio"
    told = json.loads(run("explain", NEXUS, "database-corruption", "--format", "json").stdout)
    assert told["steps"]
    out = tmp_path / "compiled"
    made = json.loads(run("compile", NEXUS, "--out", out, "--format", "json").stdout)
    assert all(Path(name).exists() for name in made["files"])
    verdict = run("evidence", "verify", tmp_path, "--format", "json")
    assert verdict.returncode == 1
    assert json.loads(verdict.stdout)["ok"] is False


def test_a_plan_from_a_pipe() -> None:
    done = run("check", "/dev/stdin", stdin=NEXUS.read_text())
    assert done.stdout.splitlines()[-1].startswith("/dev/stdin: ")


@pytest.mark.parametrize("words", [("check",), ("explain", "ransomware")])
def test_words_of_a_plan_are_only_words(words: tuple[str, ...], tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    hostile = r'title: "[/] [red]\e[31m [[link"'
    plan.write_text(NEXUS.read_text().replace("title: Ransomware Attack", hostile))
    done = run(words[0], plan, *words[1:], COLUMNS="200")
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert r"[/] [red]\x1b[31m [[link" in done.stdout
