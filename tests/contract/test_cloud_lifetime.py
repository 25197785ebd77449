"""Whatever way a local cloud ends, nothing that it started is left: no process, no folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from chalicelib.errors import NotReady, Refused
from leeward.local.cloud import LocalCloud
from leeward.local.running import find_running
from tests.clouds import wait_for
from tests.commands import LEEWARD

ROOT = Path(__file__).parents[2]
# Of a busy machine; alone it takes a second.
WAIT_SECONDS = 120
SCRIPT = """
import json, os, sys, threading
from leeward.commands.cloud import until_interrupted
from leeward.local.cloud import LocalCloud
from leeward.local.production import Production
from tests.clouds import create_function, create_role, invoke, wait_for

with until_interrupted(), LocalCloud() as cloud:
    with Production(cloud.folder / "production", cloud.reaper) as production:
        create_function(cloud, "slow", create_role(cloud, "any"), Timeout=60)
        event = {"seconds": 50}
        threading.Thread(target=invoke, args=(cloud, "slow", event), daemon=True).start()
        wait_for(lambda: "child" in cloud.logs("slow"), "the function did not start")
        print(json.dumps({"folder": str(cloud.folder)}), flush=True)
        sys.stdin.read()
"""


@contextmanager
def busy_cloud() -> Iterator[tuple[subprocess.Popen[str], Path, set[int]]]:
    """A process with a cloud, a running function with a child, and a database server.

    Yields it, the cloud's folder, and every process of it.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        assert process.stdout
        folder = Path(json.loads(process.stdout.readline())["folder"])
        yield process, folder, descendants(process.pid)
    finally:
        process.kill()
        process.wait()


def process_table() -> dict[int, int]:
    """Parent by process; zombies are left out."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listed.splitlines()]
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def descendants(root: int) -> set[int]:
    parents, found = process_table(), {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def everything_is_gone(folder: Path, pids: set[int]) -> None:
    wait_for(
        lambda: not pids & set(process_table()) and not folder.exists(),
        f"of {sorted(pids)} or {folder} something is left",
        seconds=WAIT_SECONDS,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_and_is_no_error(number: signal.Signals) -> None:
    with busy_cloud() as (process, folder, pids):
        assert len(pids) > 6  # the cloud, its reaper, a sandbox, its child, a server's processes
        process.send_signal(number)
        assert process.wait(WAIT_SECONDS) == 0
        everything_is_gone(folder, pids)


def test_a_normal_end_ends_everything() -> None:
    with busy_cloud() as (process, folder, pids):
        assert process.stdin
        process.stdin.close()
        assert process.wait(WAIT_SECONDS) == 0
        everything_is_gone(folder, pids)


def test_kill_9_of_the_cloud_ends_everything_too() -> None:
    with busy_cloud() as (process, folder, pids):
        process.kill()
        process.wait()
        everything_is_gone(folder, pids)


def test_a_process_runs_one_cloud_at_a_time_and_another_after_it() -> None:
    with LocalCloud() as first:
        first.client("s3").create_bucket(Bucket="mine")
        with pytest.raises(Refused) as caught:
            LocalCloud().start()
        assert caught.value.instance_code == "cloud-running"
    with LocalCloud() as second:
        assert second.client("s3").list_buckets()["Buckets"] == []


def test_two_clouds_side_by_side_share_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with busy_cloud() as (_, folder, _):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # other tests run clouds too
        check_they_share_nothing(folder, tmp_path)


def check_they_share_nothing(folder: Path, temporary: Path) -> None:
    with LocalCloud() as here:
        here.client("s3").create_bucket(Bucket="here")
        there = find_running(folder)
        assert there.environment["AWS_ENDPOINT_URL"] != here.url
        assert connect("s3", there.environment).list_buckets()["Buckets"] == []
        assert find_running().folder == here.folder
        (temporary / folder.name).symlink_to(folder)
        done = subprocess.run(
            [LEEWARD, "cloud", "env"],
            env=os.environ | {"TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode != 0, done.stdout) == (True, ""), "neither is a guess"
        assert done.stderr.startswith("ERROR [several-clouds]: expected one local cloud, 2 run: ")
        assert all(str(temporary / it.name) in done.stderr for it in (folder, here.folder))


def test_without_a_cloud_the_answer_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotReady) as caught:
        find_running(tmp_path)
    assert caught.value.instance_code == "no-cloud"
    assert "leeward cloud up" in caught.value.hint


def connect(service: str, environment: dict[str, str]) -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
