"""`leeward prune` as its user runs it: simulated, on a folder, and killed in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.s3.store import S3ObjectStore, connect_s3
from chalicelib.plan.records import DatabasePoint
from chalicelib.plan.wal import segment_key
from chalicelib.ports import ObjectStore
from leeward.plan_file import load_plan
from tests.commands import ARTIST, LEEWARD, NEXUS, ROOT, clean_environment, run
from tests.points import SEGMENT, database_standing, standing
from tests.s3_servers import moto_server

DAY = timedelta(days=1)
SIMULATED = ("prune", NEXUS, "--simulate", "10y", "--as-of", "2036-01-01T00:00Z")


def test_ten_years_of_the_plan_are_the_golden_calendar(tmp_path: Path) -> None:
    """What would be kept on 2036-01-01."""
    golden = ROOT / "tests/golden/prune-nexus-studio.txt"
    done = run(*SIMULATED, "--svg", tmp_path / "new/kept.svg")
    assert done.stdout == golden.read_text()
    assert done.stderr == ""
    check_picture(tmp_path)


def check_picture(tmp_path: Path) -> None:
    root = ElementTree.parse(tmp_path / "new/kept.svg").getroot()
    space = {"s": "http://www.w3.org/2000/svg"}
    assert root.get("role") == "img"
    title = root.find("s:title", space)
    told = root.find("s:desc", space)
    assert title is not None
    assert title.text == "What stays of nexus-db"
    assert told is not None
    assert "47 recovery points stay and 7 go as of 2036-01-01" in (told.text or "")
    letters = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert letters.count("M") == 10 + 1 + 1  # months, the one in November's weeks, the legend
    text = (tmp_path / "new/kept.svg").read_text()
    assert "prefers-color-scheme:dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_a_simulation_as_json() -> None:
    told = json.loads(run(*SIMULATED, "--format", "json").stdout)
    (one,) = told["components"]
    assert one["simulated"] == {"taken": 18300, "removed": 18253, "peak": 55}
    assert len(one["keep"]) == 47
    yearly = [p["taken_at"][:10] for p in one["keep"] if "yearly" in rules(p)]
    assert yearly[2:] == ["2034-12-31", "2033-12-31", "2032-12-31", "2031-12-31", "2030-12-31"]


def rules(point: dict[str, list[dict[str, str]]]) -> set[str]:
    return {reason["rule"] for reason in point["reasons"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(FolderObjectStore(tmp_path / "store/nexus-db"))
    return tmp_path / "store"


def fill(store: ObjectStore) -> None:
    """Twelve days of full backups of the plan's database, and the WAL of each."""
    catalogue = StoredCatalogue(store, "nexus-db")
    now = datetime.now(UTC).replace(microsecond=0)
    for day in range(12):
        lsn = day * SEGMENT
        at = now - (12 - day) * DAY
        point = database_standing(at, start_lsn=lsn + 40, end_lsn=lsn + 400).point
        assert isinstance(point, DatabasePoint)
        stored = tuple(store.put(f"points/{point.id}/part-{n}", b"d" * 1000) for n in range(15))
        catalogue.add(replace(point, component="nexus-db", objects=stored))
        store.put(segment_key(1, lsn), b"w" * 100)


def points_in(folder: Path) -> int:
    holdings = StoredCatalogue(FolderObjectStore(folder / "nexus-db"), "nexus-db").holdings()
    assert holdings.rejected == ()
    return len(holdings.standings)


def files_in(folder: Path) -> set[str]:
    return {str(one) for one in folder.rglob("*") if one.is_file()}


def test_a_dry_run_tells_and_removes_nothing(folder: Path) -> None:
    before = files_in(folder)
    words = ("prune", NEXUS, "--component", "nexus-db", "--store", folder)
    done = run(*words, "--dry-run")
    assert done.returncode == 0
    assert "a newer point stands for its periods" in done.stdout
    assert "kB goes, less than $0.01 a month in primary" in done.stdout
    assert files_in(folder) == before
    as_of = run(*words, "--as-of", "2036-01-01T00:00Z")
    assert as_of.returncode == 0
    assert files_in(folder) == before


def test_inventories_of_a_replicated_bucket_go_as_other_points_do(tmp_path: Path) -> None:
    store = FolderObjectStore(tmp_path / "nexus-uploads")
    catalogue = StoredCatalogue(store, "nexus-uploads")
    now = datetime.now(UTC).replace(microsecond=0)
    for day in range(12):
        point = standing(now - (12 - day) * DAY, component="nexus-uploads").point
        stored = (store.put(f"points/{point.id}/objects.jsonl.zst", b"d" * 1000),)
        catalogue.add(replace(point, kind="objects", objects=stored))
    words = ("prune", NEXUS, "--component", "nexus-uploads", "--store", tmp_path)
    (done,) = json.loads(run(*words, "--format", "json").stdout)["components"]
    assert done["removed"]["points"]
    assert len(done["keep"]) + len(done["removed"]["points"]) == 12


def test_it_removes_what_it_told_and_then_nothing(folder: Path) -> None:
    words = ("prune", NEXUS, "--component", "nexus-db", "--store", folder, "--format", "json")
    (told,) = json.loads(run(*words, "--dry-run").stdout)["components"]
    (done,) = json.loads(run(*words).stdout)["components"]
    assert [one["point_id"] for one in done["removed"]["points"]] == [
        one["id"] for one in told["prune"]
    ]
    assert done["removed"]["freed_bytes"] == told["freed_bytes"] > 0
    assert points_in(folder) == len(told["keep"])
    (again,) = json.loads(run(*words).stdout)["components"]
    assert again["prune"] == again["removed"]["points"] == []


def test_killed_in_the_middle_it_leaves_what_is_whole(folder: Path) -> None:
    words = ["prune", NEXUS, "--component", "nexus-db", "--store", folder]
    (told,) = json.loads(run(*words, "--dry-run", "--format", "json").stdout)["components"]
    before = len(files_in(folder))
    with subprocess.Popen(
        [LEEWARD, *words], env=clean_environment(), stdout=subprocess.DEVNULL
    ) as process:
        while len(files_in(folder)) > before - 10 and process.poll() is None:
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
    assert points_in(folder) >= len(told["keep"])
    assert run(*words).returncode == 0
    assert points_in(folder) == len(told["keep"])


def test_a_location_of_the_plan_is_pruned_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    location = load_plan(NEXUS).plan.locations["primary"]
    with moto_server() as server:
        environment = {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": server.key,
            "AWS_SECRET_ACCESS_KEY": server.secret,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        server.client.create_bucket(Bucket=location.bucket)
        store = S3ObjectStore(connect_s3("us-east-1"), str(location.bucket), "nexus-db/")
        fill(store)
        words = (
            "prune",
            NEXUS,
            "--component",
            "nexus-db",
            "--without-aws",
            "--location",
            "primary",
        )
        done = run(*words, **environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("nexus-db in primary  ")
        left = len(StoredCatalogue(store, "nexus-db").holdings().standings)
        assert 7 <= left < 12
        assert f"{left} stay, 0 go" in run(*words, "--dry-run", **environment).stdout


def test_more_than_half_asks_for_approval(folder: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(NEXUS.read_text().replace("daily: 7", "daily: 1").replace("weekly: 4", ""))
    words = ("prune", plan, "--component", "nexus-db", "--store", folder)
    refused = run(*words)
    assert refused.returncode == 1
    assert "ERROR [prune-too-large]" in refused.stderr
    assert points_in(folder) == 12
    assert run(*words, "--approve").returncode == 0
    assert points_in(folder) < 6


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("prune", NEXUS, "--store", "/nowhere"), 2, "no-store"),
        (("prune", NEXUS, "--simulate", "soon"), 2, "bad-input"),
        (("prune", NEXUS, "--simulate", "900y"), 2, "bad-input"),
        (("prune", NEXUS, "--simulate", "1y", "--as-of", "2036-01-01"), 2, "bad-input"),
        (("prune", NEXUS, "--simulate", "1y", "--component", "nexus-dbx"), 2, "bad-input"),
        (("prune", NEXUS, "--simulate", "1y", "--component", "nexus-uploads"), 1, "nothing-kept"),
        (("prune", ARTIST, "--simulate", "1y", "--svg", "/proc/nowhere/x.svg"), 2, "not-writable"),
    ],
)
def test_words_that_cannot_be_used(words: tuple[str | Path, ...], status: int, code: str) -> None:
    done = run(*words)
    assert (done.returncode, f"ERROR [{code}]" in done.stderr) == (status, True), done.stderr
    assert "HINT: " in done.stderr
