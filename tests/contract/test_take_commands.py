"""`leeward take` and `leeward restore point` for folders, Redis and git, without AWS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.folder.marker import MARKER
from chalicelib.services.jobs.taking import roots_of
from tests.commands import run
from tests.fakes_keys import GOLDEN, PASSPHRASE, PUBLIC_PEM
from tests.redises import running_redis

PRIVATE = GOLDEN / "offline-private.pem"
PLAN = """
name: small
organisation: Small
document: {{ title: Plan }}
objectives: {{ rto: 4 hours, rpo: 24 hours }}
sites: {{ here: {{ provider: own, role: primary }} }}
locations:
  disk: {{ provider: own, role: local, path: {backups} }}
  remote: {{ provider: aws, region: us-east-1, service: s3, bucket: b, role: remote }}
components:
  uploads:
    kind: files
    paths: [{root}/www/uploads, {root}/log]
    exclude: ["*.tmp"]
    backups: [{{ kind: full, when: daily, takes: 1m, to: [disk] }}]
  cache:
    kind: redis
    secret: small/redis
    backups: [{{ kind: dump, when: daily, takes: 1m, to: [disk] }}]
  code:
    kind: git
    repository: {repository}
    backups: [{{ kind: commits, to: [disk] }}]
scenarios:
  lost:
    title: Lost
    severity: SEV2
    steps: [{{ name: look, says: Look, by: somebody }}]
roles: {{ somebody: {{ title: Somebody, may: [execute] }} }}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    backups, root = tmp_path / "backups", tmp_path / "host"
    (root / "www/uploads").mkdir(parents=True)
    (root / "log").mkdir()
    (root / "elsewhere").mkdir()
    (root / "www/uploads/a.txt").write_text("one")
    (root / "www/uploads/b.tmp").write_text("left out")
    (root / "log/app.log").write_text("line\n")
    (root / "elsewhere/secret").write_text("not named")
    (root / "www/other/log").mkdir(parents=True)
    (root / "www/other/log/app.log").write_text("of the same name, and not named")
    repository = tmp_path / "repository"
    git = ("git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", "init", "-q", "-b", "main", repository], check=True)
    (repository / "app.py").write_text("print('hello')\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "Say hello"], check=True)
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN.format(backups=backups, root=root, repository=repository.as_uri()))
    assert run("locations", "init", "disk", "--plan", file).returncode == 0
    return file


def told(*words: str | Path, status: int = 0) -> Any:
    done = run(*words, "--without-aws", "--format", "json")
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def told_error(*words: str | Path) -> str:
    """The message of a backup that was refused because a path is missing."""
    done = run(*words)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (1, "paths-missing")
    return str(error["message"])


def take(component: str, plan: Path, *more: str) -> Any:
    return told("take", component, "--plan", plan, "--to", "disk", *more)


def restore(component: str, plan: Path, *more: str | Path) -> Any:
    words = ("restore", "point", component, "--plan", plan, "--from", "disk", *more)
    return told(*words)


def test_folders_are_taken_tried_and_brought_back(plan: Path, tmp_path: Path) -> None:
    point = take("uploads", plan)
    assert point["kind"] == "archive"
    assert restore("uploads", plan, "--prove")["ok"] is True
    out = tmp_path / "out"
    restore("uploads", plan, "--out", out)
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {"www/uploads/a.txt", "log/app.log"}


def everything_below(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(it): (it.stat().st_size, it.stat().st_mtime_ns) for it in folder.rglob("*")}


@pytest.mark.parametrize("component", ["uploads", "code"])
def test_a_dry_run_reads_what_would_be_taken_and_keeps_nothing(
    plan: Path, tmp_path: Path, component: str
) -> None:
    before = everything_below(tmp_path)
    planned = take(component, plan, "--dry-run")
    assert everything_below(tmp_path) == before
    taken = take(component, plan)
    assert (planned["dry_run"], taken["dry_run"]) == (True, False)
    alike = ("component", "kind", "source_bytes", "encryption", "source", "location")
    assert [planned[it] for it in alike] == [taken[it] for it in alike]
    contents = [[it["sha256"] for it in point["objects"]] for point in (planned, taken)]
    assert contents[0] == contents[1]
    done = run("take", component, "--plan", plan, "--to", "disk", "--dry-run", "--without-aws")
    assert planned["source"] in done.stdout
    assert "nothing was stored" in done.stdout


def test_a_dry_run_of_a_server_tells_its_name_and_no_password(plan: Path, tmp_path: Path) -> None:
    with running_redis() as server:
        server.client.set("greeting", "hello")
        server.client.config_set("requirepass", "sesame")
        login = tmp_path / "redis.json"
        url = server.url.replace("://", "://:sesame@")
        login.write_text(json.dumps({"url": url}))
        planned = take("cache", plan, "--login", f"small/redis={login}", "--dry-run")
    assert (planned["kind"], planned["note"]) == ("dump", "")
    assert planned["source"] == server.url.rpartition("/")[2].rpartition("@")[2]
    assert "sesame" not in json.dumps(planned)
    assert os.listdir(tmp_path / "backups") == [MARKER]


def test_a_dry_run_is_refused_as_the_backup_would_be(plan: Path, tmp_path: Path) -> None:
    (tmp_path / "host/log").rename(tmp_path / "unmounted")
    take = ("take", "uploads", "--plan", plan, "--to", "disk", "--without-aws", "--format", "json")
    assert told_error(*take, "--dry-run") == told_error(*take)
    (tmp_path / "unmounted").rename(tmp_path / "host/log")
    shutil.rmtree(tmp_path / "backups")
    for more in ([], ["--dry-run"]):
        assert json.loads(run(*take, *more).stdout)["error"]["code"] == "not-mounted"


def test_nothing_is_taken_to_where_the_plan_sends_nothing_of_it(plan: Path, tmp_path: Path) -> None:
    """No command would look for it there: no check, no copy, no restore."""
    location = f"  nas: {{ provider: own, role: local, path: {tmp_path}/nas }}\n  remote:"
    plan.write_text(plan.read_text().replace("  remote:", location))
    words = ("take", "uploads", "--plan", plan, "--to", "nas")
    assert told(*words, status=2)["error"]["code"] == "no-copies"
    assert not (tmp_path / "nas").exists()


def test_a_path_of_the_plan_that_is_not_there_is_no_backup(plan: Path, tmp_path: Path) -> None:
    """What is left would be restored green, and without what the plan names."""
    (tmp_path / "host/log").rename(tmp_path / "unmounted")
    take = ("take", "uploads", "--plan", plan, "--to", "disk", "--without-aws", "--format", "json")
    assert "/log" in told_error(*take)
    assert not list((tmp_path / "backups").rglob("manifest.json"))
    (tmp_path / "host/log").symlink_to(tmp_path / "unmounted")
    assert "/log" in told_error(*take)
    (tmp_path / "host/log").unlink()
    (tmp_path / "host/log").mkdir()
    assert "no file in /log" in json.loads(run(*take).stdout)["note"]


@pytest.mark.parametrize("nas", ["plan.yaml/nas", "not-here/nas"])
def test_a_folder_that_cannot_be_reached_costs_that_location_alone(
    plan: Path, tmp_path: Path, nas: str
) -> None:
    """A share that is not there, on the machine from which somebody restores."""
    location = f"  nas: {{ provider: own, role: local, path: {tmp_path}/{nas} }}\n  remote:"
    text = plan.read_text().replace("  remote:", location).replace("to: [disk]", "to: [disk, nas]")
    plan.write_text(text)
    point = take("uploads", plan)
    found = told("restore", "point", "uploads", "--plan", plan, "--dry-run")
    assert (found["location"], found["point_id"]) == ("disk", point["id"])
    assert {it[0] for it in found["others"]} == {"nas", "remote"}
    assert not (tmp_path / "not-here").exists(), "a look makes no folder"


@contextmanager
def mounted(share: Path, how: str) -> Iterator[None]:
    """A disk of its own at the path, or what a program sees of one that comes and goes."""
    away, disk = share.with_name("away"), share.with_name("disk")
    if how == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "test", share], check=True)
    else:
        disk.mkdir()
        share.rename(away)
        disk.rename(share)
    try:
        yield
    finally:
        if how == "tmpfs":
            subprocess.run(["umount", share], check=True)
        else:
            share.rename(disk)
            away.rename(share)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("tmpfs", marks=pytest.mark.skipif(
            sys.platform != "linux" or os.geteuid() != 0, reason="only root mounts a disk"
        )),
        "renamed",
    ],
)  # fmt: skip
def test_a_share_that_is_not_mounted_takes_no_backup(plan: Path, tmp_path: Path, how: str) -> None:
    """Its folder is there, empty, on the disk that is to be protected."""
    share = tmp_path / "backups"
    take_it = ("take", "uploads", "--plan", plan, "--to", "disk")
    (share / MARKER).unlink()
    with mounted(share, how):
        assert told(*take_it, status=1)["error"]["code"] == "not-mounted", "nobody set it up"
        assert run("locations", "init", "disk", "--plan", plan).returncode == 0
        point = take("uploads", plan)
        assert restore("uploads", plan, "--prove")["point"] == point["id"]
    assert told(*take_it, status=1)["error"]["code"] == "not-mounted"
    assert os.listdir(share) == []
    share.rmdir()
    assert told(*take_it, status=1)["error"]["code"] == "not-mounted"
    assert not share.exists()


def test_a_location_is_set_up_once_and_by_its_name(plan: Path, tmp_path: Path) -> None:
    init = ("locations", "init", "disk", "--plan", plan, "--format", "json")
    assert json.loads(run(*init).stdout)["changed"] is False
    renamed = plan.read_text().replace("disk: {", "nas: {").replace("[disk]", "[nas]")
    plan.write_text(renamed)
    error = told("take", "uploads", "--plan", plan, "--to", "nas", status=2)["error"]
    assert error["code"] == "other-location"
    assert "'disk'" in error["message"]
    assert json.loads(run(*init).stdout)["error"]["code"] == "unknown-location"
    (tmp_path / "backups" / MARKER).unlink()
    assert run("locations", "init", "nas", "--plan", plan).returncode == 0
    told("take", "uploads", "--plan", plan, "--to", "nas")


def test_what_lies_on_servers_of_ones_own_is_sealed_where_the_plan_names_a_key(
    plan: Path, tmp_path: Path
) -> None:
    """Otherwise the plan says encrypted of what anybody can read."""
    key = {"service": "aws-kms", "regions": ["us-east-1"], "public_key": PUBLIC_PEM.decode()}
    sealed = json.dumps({"cipher": "AES-256", "key": key})
    before = "role: local, path: "
    plan.write_text(plan.read_text().replace(before, f"role: local, encryption: {sealed}, path: "))
    take("uploads", plan, "--dry-run")
    assert os.listdir(tmp_path / "backups") == [MARKER], "nor a key for what was not stored"
    point = take("uploads", plan)
    assert point["kind"] == "archive"
    kept = [it for it in (tmp_path / "backups").rglob("*") if it.is_file()]
    assert not any(b"archive" in it.read_bytes() for it in kept if "/points/" in str(it))
    words = ("restore", "point", "uploads", "--plan", plan, "--from", "disk", "--out")
    closed = told(*words, tmp_path / "none", status=1)["error"]
    assert closed["code"] == "no-key-fits"
    assert not (tmp_path / "none").exists()
    done = run(
        *words, tmp_path / "out", "--without-aws", "--private-key", PRIVATE, stdin=PASSPHRASE + "\n"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/www/uploads/a.txt").read_text() == "one"


def test_an_update_of_keys_says_where_there_are_none(plan: Path, tmp_path: Path) -> None:
    """Silence of an empty folder would be taken for all keys being right."""
    key = {"service": "file", "public_key": PUBLIC_PEM.decode()}
    sealed = json.dumps({"cipher": "AES-256", "key": key})
    before = "role: local, path: "
    plan.write_text(plan.read_text().replace(before, f"role: local, encryption: {sealed}, path: "))
    update = ("keys", "update", plan, "--component", "uploads", "--without-aws")
    assert run(*update).stdout == (
        "uploads in disk: nothing is sealed there yet, so that there is no data key\n"
    )
    take("uploads", plan)
    assert run(*update).stdout == (
        "uploads in disk: 1 data key in all, each with the plan's recipients\n"
    )
    for it in (tmp_path / "backups").rglob("keys/*.json"):
        it.unlink()
    done = run(*update)
    assert (done.returncode, done.stdout) == (
        1, "uploads in disk: expected the data keys of what is sealed there, found none\n"
    )  # fmt: skip


def test_without_aws_nothing_is_sealed_for_keys_that_are_there_alone(
    plan: Path, tmp_path: Path
) -> None:
    sealed = json.dumps({"cipher": "AES-256", "key": {"service": "aws-kms"}})
    before = "role: local, path: "
    plan.write_text(plan.read_text().replace(before, f"role: local, encryption: {sealed}, path: "))
    words = ("take", "uploads", "--plan", plan, "--to", "disk")
    for more in ([], ["--dry-run"]):
        assert told(*words, *more, status=2)["error"]["code"] == "no-recipient"
    assert [it.name for it in (tmp_path / "backups").rglob("*") if it.is_file()] == [MARKER]


def spoil(backups: Path) -> None:
    [archive] = backups.rglob("*.tar.zst")
    archive.write_bytes(archive.read_bytes()[:-9] + b"elsewhere")


def test_where_one_copy_turns_out_damaged_the_next_location_is_restored_from(
    plan: Path, tmp_path: Path
) -> None:
    """The point is whole there: an older one would lose data for nothing."""
    location = f"  nas: {{ provider: own, role: local, path: {tmp_path}/nas }}\n  remote:"
    text = plan.read_text().replace("  remote:", location).replace("to: [disk]", "to: [disk, nas]")
    plan.write_text(text)
    point = take("uploads", plan)
    shutil.copytree(tmp_path / "backups", tmp_path / "nas")
    words = ("restore", "point", "uploads", "--plan", plan, "--out")
    spoil(tmp_path / "backups")
    done = told(*words, tmp_path / "out")
    assert (done["location"], done["point"]) == ("nas", point["id"])
    assert "disk" in {it["location"] for it in done["others"]}
    assert (tmp_path / "out/www/uploads/a.txt").read_text() == "one"
    spoil(tmp_path / "nas")
    assert told(*words, tmp_path / "none", status=1)["error"]["code"] == "archive-unreadable"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("path", ["log", "/srv/../log"])
def test_a_path_that_means_another_folder_elsewhere_is_no_path_of_a_plan(
    plan: Path, tmp_path: Path, path: str
) -> None:
    plan.write_text(plan.read_text().replace(f"{tmp_path}/host/log", path))
    done = run("take", "uploads", "--plan", plan, "--to", "disk", "--without-aws")
    assert done.returncode == 2
    assert "expected a path that begins with `/`" in done.stderr


def test_an_empty_folder_proves_nothing(plan: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "host")
    (tmp_path / "host/log").mkdir(parents=True)
    (tmp_path / "host/www/uploads").mkdir(parents=True)
    take("uploads", plan)
    words = ("restore", "point", "uploads", "--plan", plan, "--from", "disk", "--prove")
    [check] = told(*words, status=1)["checks"]
    assert "no file is in it" in check["found"]


def test_one_folder_is_found_in_the_archive_by_who_does_not_have_it(
    plan: Path, tmp_path: Path
) -> None:
    """A step that restores runs in a Lambda, or on a new server."""
    folder = tmp_path / "host/www/uploads"
    plan.write_text(plan.read_text().replace(f", {tmp_path}/host/log]", "]"))
    take("uploads", plan)
    shutil.rmtree(folder)
    root, _ = roots_of((str(folder),))
    restore("uploads", plan, "--out", tmp_path / "out")
    assert (tmp_path / "out" / folder.relative_to(root) / "a.txt").read_text() == "one"


def test_a_repository_is_taken_tried_and_brought_back(plan: Path, tmp_path: Path) -> None:
    assert take("code", plan)["kind"] == "bundle"
    assert restore("code", plan, "--prove")["ok"] is True
    out = tmp_path / "out"
    restore("code", plan, "--out", out)
    assert (out / "app.py").read_text() == "print('hello')\n"


def test_keys_are_taken_tried_and_brought_back(plan: Path, tmp_path: Path) -> None:
    with running_redis() as source, running_redis() as target:
        source.client.set("greeting", "hello")
        source.client.set("soon", "gone", ex=3600)
        login = tmp_path / "redis.json"
        login.write_text(json.dumps({"url": source.url}))
        assert take("cache", plan, "--login", f"small/redis={login}")["kind"] == "dump"
        assert restore("cache", plan, "--prove")["ok"] is True
        restore("cache", plan, "--redis", target.url)
        assert target.client.get("greeting") == b"hello"
        assert 3000 < target.client.ttl("soon") <= 3600


def test_a_damaged_point_is_no_proof(plan: Path, tmp_path: Path) -> None:
    take("uploads", plan)
    [archive] = (tmp_path / "backups").rglob("*.tar.zst")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(bytes(data))
    words = ("restore", "point", "uploads", "--plan", plan, "--from", "disk", "--prove")
    assert told(*words, status=1)["ok"] is False
    listed = told("catalogue", "list", "uploads", "--plan", plan, status=1)
    [disk] = [it for it in listed["locations"] if it["location"] == "disk"]
    assert disk["points"][0]["proven_at"] is None
