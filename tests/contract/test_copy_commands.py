"""`leeward copy` and `leeward catalogue` against a deployment, and without AWS."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.ansi import AnsiDecoder

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.adapters.sealing.offline_keys import create_key_pair
from tests.commands import LEEWARD, NEXUS, ROOT, clean_environment, run

PASSPHRASE = "a passphrase that is long enough"
LOCATIONS = ("secondary", "tertiary")


class Cloud:
    """`leeward cloud up` in a process of its own, with the plan of a test."""

    def __init__(self, folder: Path, plan: Path) -> None:
        self.plan = plan
        self.log = (folder / "up.log").open("w+")
        self.process = subprocess.Popen(
            [LEEWARD, "cloud", "up", "--plan", plan], cwd=ROOT, stdout=self.log, stderr=self.log,
            env=clean_environment(),
        )  # fmt: skip
        self.folder = folder

    def wait(self) -> None:
        deadline = time.monotonic() + 120
        while "ready" not in self.told():
            assert self.process.poll() is None, self.told()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        [state] = re.findall(r"^state +(\S+)$", self.told(), re.MULTILINE)
        told = run("cloud", "env", "--state-dir", state, "--format", "json")
        self.environment: dict[str, str] = json.loads(told.stdout)

    def told(self) -> str:
        return (self.folder / "up.log").read_text()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return run(*words, **self.environment)

    def json(self, *words: str | Path, status: int = 0) -> Any:
        done = self.run(*words, "--format", "json")
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)

    def client(self, service: str) -> Any:
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="leeward-local",
            aws_secret_access_key="leeward-local",
        )

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        answer = self.client("lambda").invoke(
            FunctionName=f"leeward-primary-{function}", Payload=json.dumps(event)
        )
        assert "FunctionError" not in answer, answer["Payload"].read()
        return json.loads(answer["Payload"].read())


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return create_key_pair(tmp_path_factory.mktemp("keys"), PASSPHRASE)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Iterator[Cloud]:
    """Nexus's plan with an offline recipient, one full backup, its WAL and its schema; it asks for
    nothing that an empty database has not."""
    folder = tmp_path_factory.mktemp("cloud")
    public = "".join(f"        {line}\n" for line in keys[1].read_text().splitlines())
    sealed = (
        "    encryption:\n      cipher: AES-256-GCM\n      key:\n        service: aws-kms\n"
        "        regions: [us-east-1, us-west-2]\n        offline: true\n"
        f"        public_key: |\n{public.replace('        ', '          ')}"
    )
    text = NEXUS.read_text().replace("count(*) FROM projects", "count(*) FROM pg_class")
    for role in LOCATIONS:
        text = text.replace(f"    role: {role}\n", f"    role: {role}\n{sealed}")
    plan = folder / "plan.yaml"
    plan.write_text(text)
    started = Cloud(folder, plan)
    try:
        started.wait()
        started.invoke("back_up", {"component": "nexus-db", "kind": "full"})
        started.invoke("fetch_wal", {"component": "nexus-db"})
        started.invoke("watch", {"component": "nexus-db"})
        yield started
    finally:
        started.stop()


def listed(cloud: Cloud) -> dict[str, Any]:
    told = cloud.json("catalogue", "list", "nexus-db", "--plan", cloud.plan)
    return {it["location"]: it for it in told["locations"]}


def logins(cloud: Cloud, folder: Path) -> list[str]:
    words = []
    for location in LOCATIONS:
        secret = cloud.client("secretsmanager").get_secret_value(
            SecretId=f"nexus/locations/{location}"
        )
        (folder / location).write_text(secret["SecretString"])
        words += ["--login", f"{location}={folder / location}"]
    return words


def test_what_is_missing_is_told_copied_once_and_then_listed(cloud: Cloud) -> None:
    planned = cloud.json("copy", cloud.plan, "--dry-run")
    assert planned["copied"] is False
    [there] = listed(cloud)["primary"]["points"]
    done = cloud.json("copy", cloud.plan)
    assert {it["location"]: it["ok"] for it in done["copies"]} == dict.fromkeys(LOCATIONS, True)
    assert all(it["result"]["lag_seconds"] > 0 for it in done["copies"] if it["objects"])
    again = cloud.json("copy", cloud.plan)
    assert [it["objects"] for it in again["copies"]] == [0, 0]

    found = listed(cloud)
    for location in LOCATIONS:
        assert found[location]["points"] == [there]
        # A copy is younger than what is in it, and claims no moment that it does not hold.
        assert found[location]["windows"] == found["primary"]["windows"]


def test_a_hold_reaches_the_copies_and_its_end_too(cloud: Cloud) -> None:
    [standing] = listed(cloud)["primary"]["points"]
    point = standing["point"]["id"]
    words = ("nexus-db", point, "--plan", cloud.plan)
    hold = ("catalogue", "hold", *words, "--reason", "a legal case")
    assert cloud.json(*hold, "--dry-run")["changed"] is False
    assert listed(cloud)["primary"]["points"][0]["held"] == ""
    assert cloud.json(*hold)["held"] == "a legal case"
    shown = cloud.run("catalogue", "list", "nexus-db", "--plan", cloud.plan).stdout
    assert f"{point}: held: a legal case" in shown
    cloud.json("copy", cloud.plan)
    assert [it["points"][0]["held"] for it in listed(cloud).values()] == ["a legal case"] * 3
    assert cloud.json("catalogue", "release", *words, "--dry-run")["changed"] is False
    assert listed(cloud)["primary"]["points"][0]["held"] == "a legal case"
    assert cloud.run("catalogue", "release", *words).returncode == 0
    cloud.json("copy", cloud.plan)
    assert [it["points"][0]["held"] for it in listed(cloud).values()] == [""] * 3


def test_a_quarantine_is_ended_by_a_person_and_the_copies_follow(cloud: Cloud) -> None:
    [standing] = listed(cloud)["primary"]["points"]
    point, indexed = standing["point"]["id"], primary_catalogue(cloud)
    indexed.quarantine(point, code="infected", reason="since noon", at=datetime.now(UTC))
    assert cloud.run("copy", cloud.plan).returncode == 1, "it vouches for nothing"
    told = [it["points"][0]["quarantined"] for it in listed(cloud).values()]
    assert told == ["since noon"] * 3

    words = ("catalogue", "unquarantine", "nexus-db", point, "--plan", cloud.plan)
    because = ("--reason", "the import of Saturday")
    assert cloud.json(*words, "--reason", " ", status=2)["error"]["code"] == "no-reason"
    assert cloud.json(*words, *because, "--dry-run")["changed"] is False
    assert listed(cloud)["primary"]["points"][0]["quarantined"] == "since noon"
    done = cloud.json(*words, *because)
    assert (done["points"], done["free"], done["changed"]) == ([point], [], True)
    assert cloud.json(*words, *because)["free"] == [point]
    cloud.json("copy", cloud.plan)
    for found in listed(cloud).values():
        assert found["points"][0]["quarantined"] == ""
        assert found["points"][0]["unquarantined"].endswith("UTC: the import of Saturday")
    shown = cloud.run("catalogue", "list", "nexus-db", "--plan", cloud.plan).stdout
    assert f"{point}: unquarantined: by " in shown


def test_a_damaged_copy_stays_quarantined_until_it_is_whole(cloud: Cloud) -> None:
    [standing] = listed(cloud)["primary"]["points"]
    point, key = standing["point"]["id"], standing["point"]["objects"][0]["key"]
    store, indexed = primary_store(cloud), primary_catalogue(cloud)
    content = store.get(key)
    store.put(key, content[:-1] + bytes([content[-1] ^ 1]))
    indexed.quarantine(point, code="digest-mismatch", reason="a flipped bit", at=datetime.now(UTC))
    words = ("catalogue", "unquarantine", "nexus-db", point, "--plan", cloud.plan, "--reason", "x")
    for more in ((), ("--dry-run",)):
        assert cloud.json(*words, *more, status=1)["error"]["code"] == "copy-not-whole"
    store.delete(key)
    assert cloud.json(*words, status=1)["error"]["code"] == "copy-not-whole"
    store.put(key, content)
    assert listed(cloud)["primary"]["points"][0]["quarantined"] == "a flipped bit"
    assert cloud.json(*words)["points"] == [point]
    assert listed(cloud)["primary"]["points"][0]["quarantined"] == ""


def test_a_quarantined_copy_is_mended_and_free_then(cloud: Cloud) -> None:
    [standing] = listed(cloud)["primary"]["points"]
    point, key = standing["point"]["id"], standing["point"]["objects"][0]["key"]
    store, indexed = primary_store(cloud), primary_catalogue(cloud)
    content = store.get(key)
    store.put(key, content[:-1] + bytes([content[-1] ^ 1]))
    indexed.quarantine(point, code="digest-mismatch", reason="a flipped bit", at=datetime.now(UTC))
    words = ("verify", cloud.plan, "--component", "nexus-db")

    told = cloud.json(*words, "--dry-run", status=1)["planned"]["nexus-db"]
    assert [it["location"] for it in told if it["do"] == "mend"] == ["primary"]
    assert listed(cloud)["primary"]["points"][0]["quarantined"] == "a flipped bit"
    told = cloud.json(*words, "--repair")
    mended = [it for it in told["repairs"]["nexus-db"]["repaired"] if it["outcome"] == "mended"]
    assert [it["action"]["location"] for it in mended] == ["primary"]
    assert {it["location"]: it["ok"] for it in told["after"]} == {"primary": True}
    [standing] = listed(cloud)["primary"]["points"]
    assert standing["quarantined"] == ""
    assert standing["unquarantined"].startswith("by leeward verify --repair, ")
    assert store.get(key) == content


def test_an_infected_point_is_mended_by_nobody(cloud: Cloud) -> None:
    [standing] = listed(cloud)["primary"]["points"]
    point, indexed = standing["point"]["id"], primary_catalogue(cloud)
    secondary = listed(cloud)["secondary"]["points"][0]
    assert secondary["quarantined"] == ""
    indexed.quarantine(point, code="infected", reason="since noon", at=datetime.now(UTC))
    words = ("verify", cloud.plan, "--component", "nexus-db", "--repair")
    told = cloud.json(*words, status=1)
    assert "mend" not in {it["do"] for it in told["planned"]["nexus-db"]}
    assert listed(cloud)["primary"]["points"][0]["quarantined"] == "since noon"
    freed = ("catalogue", "unquarantine", "nexus-db", point, "--plan", cloud.plan, "--reason", "x")
    assert cloud.json(*freed)["points"] == [point]


def primary_store(cloud: Cloud) -> S3ObjectStore:
    s3 = cloud.client("s3")
    [bucket] = [it["Name"] for it in s3.list_buckets()["Buckets"] if "backupbucket" in it["Name"]]
    return S3ObjectStore(s3, bucket, "nexus-db/")


def primary_catalogue(cloud: Cloud) -> StoredCatalogue:
    client = cloud.client("dynamodb")
    [table] = [name for name in client.list_tables()["TableNames"] if "StateTable" in name]
    index = DynamoDbState(client, table)
    return StoredCatalogue(primary_store(cloud), "nexus-db", index=index)


def test_a_lost_index_is_made_again(cloud: Cloud) -> None:
    tables = cloud.client("dynamodb").list_tables()["TableNames"]
    [table] = [name for name in tables if "StateTable" in name]
    [standing] = listed(cloud)["primary"]["points"]
    entry = {"pk": {"S": "catalogue#nexus-db"}, "sk": {"S": standing["point"]["id"]}}
    cloud.json("copy", cloud.plan)
    cloud.client("dynamodb").delete_item(TableName=table, Key=entry)
    words = ("catalogue", "rebuild", "nexus-db", "--plan", cloud.plan, "--from", "tertiary")
    assert cloud.run("copy", cloud.plan).returncode == 1, "it vouches for nothing"
    restore = ("restore", "point", "nexus-db", "--plan", cloud.plan, "--dry-run")
    refused = cloud.run(*restore, "--from", "primary")
    assert "leeward catalogue rebuild" in " ".join(refused.stderr.split())
    assert cloud.json(*words, "--dry-run")["added"] == [standing["point"]["id"]]
    assert cloud.json(*words)["added"] == [standing["point"]["id"]]
    assert cloud.run(*restore, "--from", "primary").returncode == 0
    agrees = {"without_manifest": [], "differing": [], "unreadable": {}}
    assert cloud.json(*words) == {"changed": True, "added": []} | agrees


def test_a_point_that_nobody_took_is_named_and_chosen_by_nothing(cloud: Cloud) -> None:
    """Well formed, with its digest, in the backup bucket: by somebody who may write there."""
    s3, plan = cloud.client("s3"), ("--plan", cloud.plan)
    [bucket] = [it["Name"] for it in s3.list_buckets()["Buckets"] if "backupbucket" in it["Name"]]
    plain = StoredCatalogue(S3ObjectStore(s3, bucket, "nexus-db/"), "nexus-db")
    [standing] = plain.holdings().standings
    at, true = standing.point.taken_at + timedelta(seconds=1), standing.point.id
    forged = f"{at:%Y%m%dT%H%M%SZ}-full"
    plain.add(replace(standing.point, id=forged, taken_at=at))
    try:
        done = cloud.run("catalogue", "list", "nexus-db", *plan)
        assert done.returncode == 1
        assert f"{forged}: unknown: nobody entered it into the index" in done.stdout
        chosen = cloud.json("restore", "point", "nexus-db", *plan, "--dry-run")
        assert chosen["point_id"] == true
        cloud.json("copy", cloud.plan)
        done = cloud.run("catalogue", "list", "nexus-db", *plan, "--format", "json")
        found = {it["location"]: it["points"] for it in json.loads(done.stdout)["locations"]}
        ids = {name: [it["point"]["id"] for it in points] for name, points in found.items()}
        assert ids == {"primary": [true, forged]} | dict.fromkeys(LOCATIONS, [true])
        rebuild = ("catalogue", "rebuild", "nexus-db", *plan, "--dry-run")
        assert cloud.json(*rebuild)["added"] == [forged]
        assert cloud.json(*rebuild, "--point", forged)["added"] == [forged]
        assert cloud.json(*rebuild, "--point", true)["added"] == []
    finally:
        plain.forget(forged)


def test_the_copies_are_read_without_aws(
    cloud: Cloud, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    cloud.json("copy", cloud.plan)
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    words = ["catalogue", "list", "nexus-db", "--plan", str(cloud.plan), "--without-aws"]
    words += [*logins(cloud, tmp_path), "--format", "json"]
    opened = [*words, "--private-key", str(keys[0])]
    opened += ["--passphrase-file", str(tmp_path / "passphrase")]

    done = run(*opened)
    found = {it["location"]: it for it in json.loads(done.stdout)["locations"]}
    assert [found[location]["points"][0]["point"]["kind"] for location in LOCATIONS] == ["full"] * 2
    assert found["primary"]["error"]["code"] == "no-credentials"
    assert done.returncode == 1

    closed = json.loads(run(*words).stdout)["locations"]
    assert {it["error"]["code"] for it in closed if it["location"] != "primary"} == {"no-key-fits"}


def test_a_database_is_restored_without_aws_from_what_two_lost_locations_leave(
    cloud: Cloud, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """No AWS, no Google: Azure, a login and the offline key, and the database is there."""
    cloud.json("copy", cloud.plan)
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    (tmp_path / "gone").write_text('{"endpoint_url": "http://127.0.0.1:9"}')
    azure = [it for it in logins(cloud, tmp_path) if it.startswith("tertiary=")]
    out = tmp_path / "restored"
    words = ["restore", "point", "nexus-db", "--plan", str(cloud.plan), "--without-aws"]
    words += ["--login", *azure, "--login", f"secondary={tmp_path / 'gone'}"]
    words += ["--private-key", str(keys[0]), "--passphrase-file", str(tmp_path / "passphrase")]

    planned = json.loads(run(*words, "--dry-run", "--format", "json").stdout)
    assert planned["location"] == "tertiary"
    done = run(*words, "--out", str(out), "--format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["ok"], told["location"], told["folder"]) == (True, "tertiary", str(out))
    assert {it["location"] for it in told["others"]} == {"primary", "secondary"}
    assert len(told["checks"]) > 3
    assert all(check["ok"] for check in told["checks"])
    assert (out / "PG_VERSION").read_text() == "17\n"

    again = run(*words, "--out", str(out))
    assert (again.returncode, "folder-not-empty" in again.stderr) == (1, True)

    # A rehearsal with the offline key writes nothing that KMS could not open afterwards.
    at = words.index(f"secondary={tmp_path / 'gone'}")
    assert run(*words[: at - 1], *words[at + 1 :], "--prove").returncode == 0
    there = listed(cloud)["tertiary"]
    assert [it["proven_at"] for it in there["points"]] == [None]


def test_a_new_offline_key_opens_what_was_copied_before(
    cloud: Cloud, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """The recipients change in the plan; no object is uploaded again."""
    cloud.json("copy", cloud.plan)
    (tmp_path / "new").mkdir()
    private, public = create_key_pair(tmp_path / "new", PASSPHRASE)
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    lines = [f"          {line}" for line in public.read_text().splitlines()]
    old = [f"          {line}" for line in keys[1].read_text().splitlines()]
    plan = tmp_path / "plan.yaml"
    plan.write_text(cloud.plan.read_text().replace("\n".join(old), "\n".join(lines)))

    planned = cloud.json("keys", "update", plan, "--dry-run")
    assert [it["ok"] for it in planned["copies"]] == [True, True]
    assert all(change["add"] for it in planned["copies"] for change in it["changes"])
    cloud.json("keys", "update", plan)
    assert [it["changes"] for it in cloud.json("keys", "update", plan)["copies"]] == [[], []]

    words = ["catalogue", "list", "nexus-db", "--plan", str(plan), "--without-aws"]
    words += [*logins(cloud, tmp_path), "--passphrase-file", str(tmp_path / "passphrase")]
    done = run(*words, "--private-key", str(private), "--format", "json")
    found = {it["location"]: it for it in json.loads(done.stdout)["locations"]}
    assert all(found[location]["points"] for location in LOCATIONS), done.stdout
    cloud.json("keys", "update", cloud.plan)


# The replica of a bucket has no inventory before its first sync, which is no good news either.
DATABASE = ("--component", "nexus-db")


def test_locations_are_compared_and_what_differs_is_named(cloud: Cloud) -> None:
    cloud.json("copy", cloud.plan)
    compare = ("verify", cloud.plan, *DATABASE, "--read-all", "--compare")
    equal = cloud.json(*compare)["comparisons"]["nexus-db"]
    assert equal["equal"] is True
    assert set(equal["locations"]) == {"primary", *LOCATIONS}
    assert all(set(point["proven_in"]) == set(equal["locations"]) for point in equal["points"])

    client = cloud.client("s3")
    buckets = [it["Name"] for it in client.list_buckets()["Buckets"]]
    [bucket] = [name for name in buckets if "backupbucket" in name]
    listed_now = client.list_objects_v2(Bucket=bucket, Prefix="nexus-db/points/")["Contents"]
    [key] = [it["Key"] for it in listed_now if it["Key"].endswith("backup_manifest")]
    lost = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.delete_object(Bucket=bucket, Key=key)
    other = cloud.json(*compare, status=1)["comparisons"]["nexus-db"]
    client.put_object(Bucket=bucket, Key=key, Body=lost)
    [point] = [it for it in other["points"] if it["differences"]]
    assert [(it["code"], it["location"]) for it in point["differences"]] == [("wrong", "primary")]
    assert set(point["proven_in"]) == set(LOCATIONS)
    assert "NOT OK" not in cloud.run(*compare).stdout

    alone = cloud.run("verify", cloud.plan, *DATABASE, "--location", "primary", "--compare")
    assert (alone.returncode, "nothing-to-compare" in alone.stderr) == (2, True)


def test_a_damaged_copy_is_named_repaired_and_checked_again(cloud: Cloud) -> None:
    cloud.json("copy", cloud.plan)
    sound = cloud.json("verify", cloud.plan, *DATABASE, "--read-all")
    assert sound["ok"] is True
    assert {it["location"] for it in sound["checks"]} == {"primary", *LOCATIONS}
    buckets = [it["Name"] for it in cloud.client("s3").list_buckets()["Buckets"]]
    [bucket] = [name for name in buckets if "backupbucket" in name]
    [row] = [
        it
        for it in cloud.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
        if it["Key"].endswith("backup_manifest")
    ]
    cloud.client("s3").delete_object(Bucket=bucket, Key=row["Key"])

    found = cloud.json("verify", cloud.plan, *DATABASE, "--location", "primary", status=1)
    assert [it["code"] for it in found["checks"][0]["findings"]] == ["missing"]
    would = cloud.json("verify", cloud.plan, *DATABASE, "--repair", "--dry-run", status=1)
    [action] = would["planned"]["nexus-db"]
    assert (action["do"], action["location"], action["key"]) == (
        "copy", "primary", row["Key"].removeprefix("nexus-db/"),
    )  # fmt: skip
    assert (set(action["sources"]), would["repairs"]) == (set(LOCATIONS), {})
    told = cloud.run("verify", cloud.plan, *DATABASE, "--repair", "--dry-run").stdout
    assert "would copy" in told
    assert "quarantined" not in told
    mended = cloud.json("verify", cloud.plan, *DATABASE, "--repair")
    assert (mended["ok"], mended["repairs"]["nexus-db"]["repaired"][0]["outcome"]) == (
        True,
        "copied",
    )
    for it in cloud.client("s3").list_objects_v2(Bucket=bucket, Prefix="nexus-db/points/")[
        "Contents"
    ]:
        cloud.client("s3").delete_object(Bucket=bucket, Key=it["Key"])
    told = cloud.json("copy", cloud.plan, status=1)
    assert [it["ok"] for it in told["copies"]] == [False, False]
    lost = cloud.json("verify", cloud.plan, *DATABASE, "--location", "primary", status=1)
    # It was taken minutes ago, and is missed at once all the same.
    assert {it["code"] for it in lost["checks"][0]["findings"]} >= {"manifest-missing"}
    assert cloud.json("verify", cloud.plan, *DATABASE, "--repair")["ok"] is True

    shown = cloud.run("verify", cloud.plan, *DATABASE).stdout
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_a_point_that_was_tried_is_proven(cloud: Cloud) -> None:
    words = ("restore", "point", "nexus-db", "--prove", "--plan")
    asks_more = cloud.plan.with_name("asks-more.yaml")
    text = cloud.plan.read_text()
    asks_more.write_text(text.replace("count(*) FROM pg_class", "count(*) FROM projects"))
    # Whole, page by page, and not what this plan asks for: nobody ever made that table here.
    tried = cloud.json(*words, asks_more, status=1)
    assert [it["name"] for it in tried["checks"] if not it["ok"]] == ["assertion:projects-exist"]
    assert listed(cloud)["primary"]["points"][0]["proven_at"] is None
    proven = cloud.json(*words, cloud.plan)
    assert (proven["folder"], proven["not_checked"]) == (None, [])
    assert "schema-digest" in str(proven["checks"])
    assert listed(cloud)["primary"]["points"][0]["proven_at"] is not None


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["copy", NEXUS, "--to", "nowhere"], 2, "unknown-location"),
        (["verify", NEXUS, "--location", "nowhere"], 2, "unknown-location"),
        (["verify", NEXUS, "--component", "nowhere"], 2, "unknown-component"),
        (["copy", NEXUS, "--component", "nexus-config"], 2, "no-copies"),
        (["keys", "update", NEXUS, "--component", "nexus-config"], 2, "no-copies"),
        (["catalogue", "list", "nope", "--plan", NEXUS], 2, "unknown-component"),
        (["catalogue", "rebuild", "nope", "--plan", NEXUS], 2, "unknown-component"),
        (["catalogue", "hold", "nexus-db", "nope", "--reason", "x", "--plan", NEXUS], 2,
         "unknown-point"),
        (["catalogue", "hold", "nexus-db", "nope", "--reason", " ", "--plan", NEXUS], 2,
         "no-reason"),
        (["catalogue", "unquarantine", "nexus-db", "nope", "--reason", "x", "--plan", NEXUS], 2,
         "unknown-point"),
        (["restore", "point", "nexus-db", "--plan", NEXUS], 2, "no-destination"),
        (["restore", "point", "nexus-db", "--plan", NEXUS, "--prove", "--to", "noon"], 2,
         "bad-target-time"),
        (["restore", "point", "nexus-db", "--plan", NEXUS, "--prove", "--from", "x"], 2,
         "unknown-location"),
        (["restore", "point", "nexus-db", "--plan", NEXUS, "--prove", "--to", "2020-01-01T00Z"], 1,
         "no-copy-fits"),
        (["take", "nexus-dns", "--plan", NEXUS], 1, "nothing-to-take"),
        (["copy", NEXUS, "--login", "secondary"], 2, "bad-login"),
        (["copy", NEXUS, "--login", "secondary=/nowhere"], 1, "expected a login in /nowhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_clear_error(
    cloud: Cloud, words: list[str | Path], status: int, said: str
) -> None:
    done = cloud.run(*words)
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_person_sees_fits_on_a_terminal(cloud: Cloud) -> None:
    shown = cloud.run("catalogue", "list", "nexus-db", "--plan", cloud.plan).stdout
    lines = [line.plain for line in AnsiDecoder().decode(shown)]
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("any moment from ") for line in lines)


def test_what_no_component_has_is_named(cloud: Cloud) -> None:
    words = ("catalogue", "strays", "--plan", cloud.plan)
    assert [it["strays"] for it in cloud.json(*words)["locations"]] == [[], [], []]
    buckets = [it["Name"] for it in cloud.client("s3").list_buckets()["Buckets"]]
    [bucket] = [name for name in buckets if "backupbucket" in name]
    cloud.client("s3").put_object(Bucket=bucket, Key="nexus-db-16/points/p/base", Body=b"old")
    [found, *others] = cloud.json(*words, status=1)["locations"]
    assert [it["strays"] for it in others] == [[], []]
    [stray] = found["strays"]
    assert (found["location"], stray["name"], stray["objects"]) == ("primary", "nexus-db-16", 1)
    assert "nexus-db-16: 1 object, 3 B" in cloud.run(*words).stdout
    cloud.client("s3").delete_object(Bucket=bucket, Key="nexus-db-16/points/p/base")


def test_a_point_that_is_given_up_is_not_green(cloud: Cloud) -> None:
    """A check looks at no point in quarantine: what is left is sound, and one is lost."""
    cloud.json("copy", cloud.plan)
    cloud.invoke("back_up", {"component": "nexus-db", "kind": "full"})
    newest = listed(cloud)["primary"]["points"][-1]["point"]["id"]
    bucket = next(
        it["Name"]
        for it in cloud.client("s3").list_buckets()["Buckets"]
        if "backupbucket" in it["Name"]
    )
    key = f"nexus-db/points/{newest}/base.tar.zst"
    cloud.client("s3").delete_object(Bucket=bucket, Key=key)
    done = cloud.json("verify", cloud.plan, *DATABASE, "--repair", status=1)
    assert {it["outcome"] for it in done["repairs"]["nexus-db"]["repaired"]} == {"quarantined"}
    assert [it["ok"] for it in done["after"]] == [True]
    assert done["ok"] is False


def test_without_a_deployment_the_error_says_so() -> None:
    done = run("copy", NEXUS, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_DEFAULT_REGION="us-east-1",
               AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_MAX_ATTEMPTS="1")  # fmt: skip
    assert done.returncode == 1
    assert "ERROR [unavailable]" in done.stderr, done.stderr
