"""`leeward restore bucket`, as its user runs it, against a bucket of moto."""

from __future__ import annotations

import json
import os
import pty
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import LEEWARD, clean_environment, run
from tests.ruined import OBJECTS, Ruined, end_of_second, ruin_bucket
from tests.s3_servers import S3Server, moto_server

# Nobody names a plan here, whose inventories could witness that no version was removed.
UNWITNESSED = 3


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with moto_server() as running:
        yield running


class Scene(Ruined):
    """What the command does to it."""

    def restore(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        to = () if "--to" in words else ("--to", self.moment)
        return run("restore", "bucket", self.name, *to, *words, **self.environment)


@pytest.fixture
def scene(server: S3Server) -> Scene:
    return ruined_bucket(server)


@pytest.fixture(scope="module")
def still(server: S3Server) -> Scene:
    """One that nothing may change."""
    return ruined_bucket(server)


def ruined_bucket(server: S3Server) -> Scene:
    found = ruin_bucket(server, f"b-{secrets.token_hex(6)}")
    return Scene(found.server, found.name, found.moment)


def test_a_plan_a_run_and_its_proof(scene: Scene) -> None:
    ruined = scene.state()
    planned = scene.restore("--dry-run")
    assert planned.returncode == 0, planned.stderr
    for line in (
        "then 12 objects, 132 B; now 10 objects", "+  come back  3", "~  go back    6",
        "-  go         1", "=  stay       3", "READ_ME.txt  (created since)",
        "9 requests (2 list, 6 copy, 1 batch); less than $0.01 once",
        "! 3 delete markers will be gone from the history",
    ):  # fmt: skip
        assert " ".join(line.split()) in " ".join(planned.stdout.split())
    assert [line for line in planned.stdout.splitlines() if len(line) > 80] == []
    assert scene.state() == ruined
    done = scene.restore("--yes", "--in-place")
    assert done.returncode == UNWITNESSED, done.stderr
    assert scene.state() == OBJECTS
    assert "12 objects are as they were; 13 keys compared" in done.stdout
    assert "AS THE VERSIONS SAY, NOT WITNESSED" in done.stdout.splitlines()
    assert "no inventory from before the moment witnesses" in " ".join(done.stdout.split())
    again = scene.restore("--yes")
    assert again.returncode == UNWITNESSED
    assert "6 the same already, 7 left" in again.stdout
    assert "to undo it" not in again.stdout


def test_a_replica_is_not_taken_back_to_before_what_it_keeps(server: S3Server) -> None:
    replica = ruined_bucket(server)
    tags = [{"Key": "leeward:versions-days", "Value": "30"}]
    replica.server.client.put_bucket_tagging(Bucket=replica.name, Tagging={"TagSet": tags})
    assert replica.restore("--dry-run").returncode == 0
    ruined = replica.state()
    late = replica.restore("--to", "31d ago", "--yes")
    assert (late.returncode, replica.state()) == (1, ruined)
    assert "versions-expired" in late.stderr
    assert "`leeward restore inventory`" in " ".join(late.stderr.split())


def test_what_it_says_to_undo_it_undoes_it(scene: Scene) -> None:
    ruined = scene.state()
    done = json.loads(scene.restore("--yes", "--keep-markers", "--format", "json").stdout)
    assert (done["proven"], done["grade"]["level"]) == (False, "versions-alone")
    assert done["proof"]["differing"] == 0
    assert done["outcome"]["counts"] == {"copied": 9, "marked": 1, "left": 3}
    assert scene.state() == OBJECTS
    words = done["undo"].split()
    assert words[:4] == ["leeward", "restore", "bucket", scene.name]
    end_of_second()
    undone = scene.restore(*words[4:], "--keep-markers", "--yes")
    assert undone.returncode == UNWITNESSED, undone.stderr
    assert scene.state() == ruined


def test_a_part_of_a_bucket(scene: Scene) -> None:
    assert scene.restore("--yes", "--prefix", "img/00").returncode == UNWITNESSED
    assert scene.state() == OBJECTS | {"READ_ME.txt": b"pay"}


def test_into_another_bucket(scene: Scene) -> None:
    ruined, target = scene.state(), scene.server.create_bucket()
    done = scene.restore("--to-bucket", target)
    assert done.returncode == UNWITNESSED, done.stderr
    assert "12 objects are as they were" in done.stdout
    assert scene.state(target) == OBJECTS
    assert scene.state() == ruined
    scene.server.client.put_object(Bucket=target, Key="other", Body=b"1")
    refused = scene.restore("--to-bucket", target)
    assert refused.returncode == 1
    assert "ERROR [target-not-empty]" in refused.stderr


def test_each_key_is_logged_before_it_is_changed(scene: Scene, tmp_path: Path) -> None:
    log = tmp_path / "new" / "undo.jsonl"
    assert scene.restore("--yes", "--log", log).returncode == UNWITNESSED
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 10
    [marked] = [line for line in lines if line["key"] == "img/000.jpg"]
    assert marked["action"] == "remove-markers"
    assert len(marked["markers"]) == 1


def in_terminal(scene: Scene, answer: str) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    words = [LEEWARD, "restore", "bucket", scene.name, "--to", scene.moment]
    environment = clean_environment(TERM="xterm-256color", COLUMNS="80", **scene.environment)
    with subprocess.Popen(
        words, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, answer.encode())
        received = bytearray()
        while data := read_terminal(ours):
            received += data
    os.close(ours)
    return process.returncode, received.decode()


def read_terminal(handle: int) -> bytes:
    try:
        return os.read(handle, 1 << 16)
    except OSError:
        return b""


def test_a_person_is_asked(scene: Scene) -> None:
    ruined = scene.state()
    status, told = in_terminal(scene, "n\n")
    assert status == 130
    assert f"change {scene.name} itself?" in told
    assert scene.state() == ruined
    status, told = in_terminal(scene, "y\n")
    assert status == UNWITNESSED
    assert "taking back" in told
    assert "NOT WITNESSED" in told
    assert scene.state() == OBJECTS


def code_of(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    return done.returncode, str(json.loads(done.stdout)["error"]["code"])


def test_nobody_to_ask_is_no_yes(still: Scene) -> None:
    ruined = still.state()
    assert code_of(still.restore("--format", "json")) == (1, "not-confirmed")
    assert still.state() == ruined


WRONG: dict[str, tuple[tuple[str, ...], int, str]] = {
    "a time without its offset": (("--to", "2026-11-22T08:45:00"), 2, "bad-time"),
    "an unknown unit": (("--to", "2 moons ago"), 2, "bad-time"),
    "a time to come": (("--to", "2100-01-01T00:00:00Z"), 2, "time-in-future"),
    "a time before the bucket": (("--to", "40d ago"), 1, "nothing-then"),
    "a prefix of nothing": (("--prefix", "IMG/"), 1, "no-versions"),
    "both places": (("--in-place", "--to-bucket", "other"), 2, "bad-usage"),
    "no such target": (("--to-bucket", "no-such-bucket-here"), 1, "no-bucket"),
    "no name of a bucket": (("--to-bucket", "s3://other/"), 2, "bad-bucket-name"),
}


@pytest.mark.parametrize(("words", "status", "code"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_done_is_one_clear_error(
    still: Scene, words: tuple[str, ...], status: int, code: str
) -> None:
    ruined = still.state()
    assert code_of(still.restore(*words, "--yes", "--format", "json")) == (status, code)
    assert still.state() == ruined


def test_a_prefix_of_nothing_makes_no_proven_copy(still: Scene) -> None:
    """What is looked at may not be nothing, or a mistyped prefix is as it was."""
    words = ("--prefix", "IMG/", "--to-bucket", still.server.create_bucket(), "--format", "json")
    assert code_of(still.restore(*words)) == (1, "no-versions")


def test_buckets_that_keep_no_versions(server: S3Server, scene: Scene) -> None:
    plain = Scene(server, server.create_bucket(), scene.moment)
    assert code_of(plain.restore("--yes", "--format", "json")) == (1, "not-versioned")
    missing = Scene(server, "no-such-bucket-here", scene.moment)
    assert code_of(missing.restore("--yes", "--format", "json")) == (1, "no-bucket")
    suspended: dict[str, Any] = {"Status": "Suspended"}
    server.client.put_bucket_versioning(Bucket=scene.name, VersioningConfiguration=suspended)
    assert code_of(scene.restore("--yes", "--format", "json")) == (1, "versioning-suspended")


def test_without_credentials(still: Scene, tmp_path: Path) -> None:
    done = run(
        "restore", "bucket", still.name, "--to", still.moment, "--format", "json",
        HOME=str(tmp_path), AWS_EC2_METADATA_DISABLED="true", AWS_ENDPOINT_URL=still.server.url,
    )  # fmt: skip
    assert code_of(done) == (1, "no-credentials")


def test_words_of_a_key_are_only_words(scene: Scene) -> None:
    hostile = "[/] [red]\u202e[31m [[link"
    scene.server.client.put_object(Bucket=scene.name, Key=hostile, Body=b"1")
    done = scene.restore("--dry-run")
    assert "\u202e" not in done.stdout
    assert r"[/] [red]\u202e[31m [[link" in done.stdout
