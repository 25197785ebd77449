"""`leeward cloud up` and `leeward cloud env`, as an operator uses them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import psycopg
import pytest
import urllib3

from tests.clouds import wait_for

ROOT = Path(__file__).parents[2]
LEEWARD = [sys.executable, "-c", "from leeward.cli import main; main()", "cloud"]


def test_up_shows_what_is_up_env_reaches_it_and_ctrl_c_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    up = subprocess.Popen(
        [*LEEWARD, "up", "--format", "json"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert up.stdout
        stage = json.loads(up.stdout.readline())
        for name, value in exports(stage["folder"]).items():
            monkeypatch.setenv(name, value)
        names = [it["FunctionName"] for it in boto3.client("lambda").list_functions()["Functions"]]
        assert sorted(names) == sorted(stage["functions"])
        assert "leeward-primary-rebuild" in names
        address = f"{stage['apis']['leeward-RestAPI']}slack/commands"
        assert urllib3.request("POST", address, fields={"text": "status"}).status == 415
        assert b"Sign in" in urllib3.request("GET", stage["dashboard"]).data
        assert any(name.endswith("-wal") for name in stage["schedules"])
        page = wait_for(lambda: read_page(stage["status_page"]), "no status page", seconds=30)
        assert "Nexus Studio: status" in page
        with psycopg.connect("") as connection:
            assert connection.execute("SELECT current_database()").fetchone() == ("nexus",)
        up.send_signal(signal.SIGINT)
        assert up.wait(20) == 0
    finally:
        up.kill()
        up.wait()
    assert not Path(stage["folder"]).exists()


def read_page(address: str) -> str | None:
    """None before it was written."""
    answer = urllib3.request("GET", address)
    return answer.data.decode() if answer.status == 200 else None


def exports(folder: str) -> dict[str, str]:
    """What a shell knows after eval "$(leeward cloud env)"."""
    printed = subprocess.run(
        [*LEEWARD, "env", "--state-dir", folder], capture_output=True, text=True, check=True
    ).stdout
    shell = subprocess.run(
        ["sh", "-c", f"{printed}\nenv"], env={}, capture_output=True, text=True, check=True
    ).stdout
    pairs = (line.partition("=") for line in shell.splitlines())
    return {name: value for name, _, value in pairs if name.startswith(("AWS_", "PG"))}


def test_up_once_checks_itself_and_ends() -> None:
    done = subprocess.run([*LEEWARD, "up", "--once"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = next(line for line in done.stdout.splitlines() if line.startswith("state")).split()[1]
    assert not Path(folder).exists()


def test_env_without_a_cloud_is_one_clear_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [*LEEWARD, "env"],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR [no-cloud]: no local cloud runs\nHINT: ")
