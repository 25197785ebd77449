"""A plan's bucket in step with its replicas, by the deployed package; and an attack on it."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.gcs.access import connect_gcs
from chalicelib.adapters.gcs.store import GcsObjectStore
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.incidents.incident import Incident
from chalicelib.plan.inventory import read_lines
from chalicelib.plan.object_names import name_of_key
from chalicelib.ports import ObjectStore
from leeward.local.cloud import LocalCloud
from leeward.local.deploy import Deployed, deploy
from leeward.local.locations import create_application_buckets, start_locations
from leeward.local.other_clouds import OtherCloud
from leeward.packaging.package import build_package
from leeward.packaging.parts import alarm_name
from leeward.plan_file import load_plan
from tests.clouds import wait_for
from tests.commands import run
from tests.contract.test_buckets import CANNOT, ODD_KEYS
from tests.contract.test_ransomware import NOTE, documents, encrypt
from tests.ruined import end_of_second
from tests.scenarios.drills import PLAN
from tests.sync_world import unpack

COMPONENT, BUCKET, REPLICA = "nexus-uploads", "nexus-assets", "ReplicaNexusUploads"
OUTSIDE = "nexus-backups"
FUNCTIONS = ("replicate", "sync", "watch_bucket", "expire_versions")
FILES = dict(itertools.islice(documents(), 24))
# What these tests do not need, and why it is granted all the same.
RARE = {
    "s3:AbortMultipartUpload": "an upload, or a copy in parts, that broke",
    "s3:ListBucket": "without it S3 says of a missing object that it may not be read",
    "s3:GetObjectTagging": "S3 copies the tags of an object that has some",
    "s3:PutObjectTagging": "the same",
}
# The versions of a batch stand in its body, which the local cloud does not read for rights.
# A copy in parts is decrypted; who is the first to write to another cloud wraps the data key; an
# object of some hundred gigabytes is put down and gone on with.
RARE_OF = {
    "replicate": {"kms:Decrypt", "lambda:InvokeFunction", "s3:DeleteObject"},
    "sync": {"kms:Encrypt", "s3:DeleteObject"},
    "expire_versions": {"s3:DeleteObjectVersion"},
}


@dataclass
class Stage:
    cloud: LocalCloud
    deployed: Deployed
    plan: Path
    outside: OtherCloud

    @property
    def s3(self) -> Any:
        return self.cloud.client("s3")

    def put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        assert self.cloud.wait_idle()

    def delete(self, key: str) -> None:
        self.s3.delete_object(Bucket=BUCKET, Key=key)
        assert self.cloud.wait_idle()

    def contents(self, bucket: str) -> dict[str, bytes]:
        rows = self.s3.list_objects_v2(Bucket=bucket).get("Contents", ())
        bodies = (self.s3.get_object(Bucket=bucket, Key=it["Key"])["Body"].read() for it in rows)
        return dict(zip([it["Key"] for it in rows], bodies, strict=True))

    @property
    def replica(self) -> dict[str, bytes]:
        return self.contents(self.deployed.names[REPLICA])

    @property
    def in_step(self) -> bool:
        return self.replica == self.contents(BUCKET)

    def invoke(self, function: str, event: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """What the function answered, and whether it failed."""
        answer = self.cloud.client("lambda").invoke(
            FunctionName=f"leeward-primary-{function}", Payload=json.dumps(event)
        )
        return json.loads(answer["Payload"].read()), "FunctionError" in answer

    def run(self, function: str, **more: str) -> dict[str, Any]:
        told, failed = self.invoke(function, {"component": COMPONENT, **more})
        assert not failed, (told, self.cloud.logs(function)[-3000:])
        return told

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run("sync", COMPONENT, "--plan", self.plan, *words, **self.cloud.environment())

    def signs(self, what: str, *words: str) -> tuple[dict[str, Any], int]:
        environment = self.cloud.environment()
        done = run("signs", what, COMPONENT, "--plan", self.plan, "--format", "json", *words,
                   **environment)  # fmt: skip
        assert self.cloud.wait_idle()
        return json.loads(done.stdout), done.returncode

    def unquarantine(self, point: str) -> dict[str, Any]:
        done = run("catalogue", "unquarantine", COMPONENT, point, "--plan", self.plan, "--reason",
                   "an import", "--format", "json", **self.cloud.environment())  # fmt: skip
        return dict(json.loads(done.stdout))

    @contextmanager
    def events_lost(self) -> Iterator[None]:
        """The rule is disabled for a while: what is done meanwhile, no event tells."""
        rule = self.deployed.names["ChangedNexusUploads"]
        client = self.cloud.client("events")
        client.disable_rule(Name=rule)
        try:
            yield
        finally:
            client.enable_rule(Name=rule)

    def alarm(self, what: str) -> str:
        found = self.cloud.client("cloudwatch").describe_alarms(
            AlarmNames=[alarm_name(COMPONENT, what)]
        )
        return str(found["MetricAlarms"][0]["StateValue"])

    def metric(self, name: str) -> list[float]:
        from moto.cloudwatch.models import cloudwatch_backends

        backend = cloudwatch_backends["123456789012"][self.deployed.region]
        return [it.value for it in backend.metric_data if it.name == name]

    @property
    def store(self) -> ObjectStore:
        return S3ObjectStore(self.s3, self.deployed.names["BackupBucket"], f"{COMPONENT}/")

    @property
    def state(self) -> DynamoDbState:
        return DynamoDbState(self.cloud.client("dynamodb"), self.deployed.names["StateTable"])

    @property
    def catalogue(self) -> StoredCatalogue:
        return StoredCatalogue(self.store, COMPONENT, index=self.state)

    def quarantined(self) -> dict[str, str]:
        return {it.point.id: it.quarantined for it in self.catalogue.holdings().standings}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Nexus's plan, its uploads mirrored and copied to Google too. The tests follow each other."""
    written = _write_plan(tmp_path_factory.mktemp("plan"))
    plan = load_plan(written).plan
    with ExitStack() as stack:
        package = build_package(plan, tmp_path_factory.mktemp("package"))
        cloud = stack.enter_context(LocalCloud(schedules=False))
        create_application_buckets(cloud, plan)
        others = start_locations(cloud, plan)
        assert "secondary" in others, "the emulator is not installed"
        yield Stage(cloud, deploy(cloud, package), written, others["secondary"])


def _write_plan(folder: Path) -> Path:
    text = PLAN.read_text()
    at = text.index(f"  {COMPONENT}:")
    uploads = text[at:].replace("to: [primary]", "to: [primary, secondary]", 1)
    uploads = uploads.replace("kind: bucket\n", "kind: bucket\n    mirror: true\n", 1)
    uploads = uploads.replace("mirror: true", "mirror: true\n    deletes_at_most: 20%", 1)
    uploads = uploads.replace("mirror: true", "mirror: true\n    erases_at_most: 10%", 1)
    uploads = uploads.replace("retention:\n", "retention:\n      versions: 30d\n", 1)
    (folder / "plan.yaml").write_text(text[:at] + uploads)
    return folder / "plan.yaml"


def test_what_the_application_does_is_in_the_replica_within_seconds(here: Stage) -> None:
    keys = ["a", *(key for key in ODD_KEYS if key not in CANNOT["moto"])]
    for key in keys:
        here.put(key, key.encode())
    here.put("a", b"written again")
    here.delete(keys[-1])
    assert not here.cloud.lost
    assert here.in_step
    lags = here.metric("ReplicationLag")
    assert len(lags) >= len(keys)
    assert max(lags) < 300, "the plan warns from here on"


def test_an_event_of_another_bucket_is_refused(here: Stage) -> None:
    event = {
        "detail-type": "Object Created",
        "time": "2026-11-22T08:45:00Z",
        "detail": {"bucket": {"name": "somebody-s"}, "object": {"key": "k"}},
    }
    told, failed = here.invoke("replicate", event)
    assert (failed, told["errorType"]) == (True, "BadInput")
    assert "somebody-s" in told["errorMessage"]


def test_what_no_event_told_is_brought_by_the_sync_and_written_down_as_a_point(
    here: Stage,
) -> None:
    with here.events_lost():
        here.put("unseen/new", b"1")
        here.put("a", b"2")
        here.delete("~-_.!*'()")
    assert not here.in_step
    told = here.run("sync")
    assert here.in_step
    assert "2 objects copied" in told["found"]
    assert "1 deleted" in told["found"]
    [standing] = here.catalogue.holdings().standings
    assert (standing.point.id, standing.point.kind) == (told["point"], "objects")
    shards = [unpack(here.store.get(it.key)) for it in standing.point.objects]
    replica = here.deployed.names[REPLICA]
    bodies = {
        it.key: here.s3.get_object(Bucket=replica, Key=it.key, VersionId=it.version)["Body"].read()
        for it in read_lines(shards)
    }
    assert bodies == here.contents(BUCKET)


def test_objects_of_the_point_are_restored_and_compared(here: Stage) -> None:
    told = here.run("prove")
    [standing] = here.catalogue.holdings().standings
    assert standing.proven_at is not None
    entries = len(here.contents(BUCKET))
    assert f"{entries} of {entries} objects restored, drawn by lot" in told["found"]
    assert here.alarm("unproven-primary") == "OK"
    assert here.cloud.rights()["leeward-primary-prove"].denied == ()


def test_what_does_not_fit_into_one_invocation_goes_on_in_shards_by_itself(here: Stage) -> None:
    with here.events_lost():
        for number in range(5):
            here.put(f"late/{number:02}", b"1")
    before = len(here.catalogue.holdings().standings)
    told = here.run("sync", seconds=0.01)
    assert "goes on in shards" in told["found"]
    wait_for(lambda: here.in_step, "the shards brought nothing", seconds=90)
    wait_for(
        lambda: len(here.catalogue.holdings().standings) > before,
        "the shards entered no point",
        seconds=90,
    )


def test_another_sync_of_that_day_goes_on_in_a_run_of_its_own(here: Stage) -> None:
    """The first has ended: under its name nothing would be brought, and nobody told."""
    machine = {"stateMachineArn": here.deployed.names["SyncNexusUploads"]}
    running = {**machine, "statusFilter": "RUNNING"}
    executions = here.cloud.client("stepfunctions").list_executions
    wait_for(lambda: not executions(**running)["executions"], "the first did not end", seconds=90)
    with here.events_lost():
        here.put("later/00", b"1")
    assert "goes on in shards" in here.run("sync", seconds=0.01)["found"]
    wait_for(lambda: here.in_step, "the shards brought nothing", seconds=90)
    wait_for(lambda: not executions(**running)["executions"], "it did not end", seconds=90)
    here.delete("later/00")
    wait_for(lambda: here.in_step, "the deletion was not brought", seconds=90)
    assert here.cloud.rights()["leeward-primary-sync"].denied == ()


def test_what_a_point_names_comes_back_into_another_bucket(here: Stage) -> None:
    """Also when it was overwritten and deleted since, in the bucket and in the replica."""
    for key in ("a", "late/00"):
        here.put(key, b"1")
    assert here.in_step
    point, then = here.run("sync")["point"], here.contents(BUCKET)
    here.put("a", b"written over")
    here.put("since", b"1")
    here.delete("late/00")
    assert here.in_step
    target = "back-by-point"
    here.s3.create_bucket(Bucket=target)
    words = ("restore", "inventory", COMPONENT, "--plan", here.plan, "--to-bucket", target)
    dry = (*words, "--point", point, "--dry-run", "--format", "json")
    planned = run(*dry, **here.cloud.environment())
    assert json.loads(planned.stdout)["done"] == {"to-copy": len(then)}, planned.stderr
    assert (planned.returncode, here.contents(target)) == (0, {})
    for own in (BUCKET, here.deployed.names[REPLICA]):
        same = run(*words[:-1], own, "--point", point, **here.cloud.environment())
        assert (same.returncode, "same-bucket" in same.stderr) == (2, True)
    done = run(*words, "--point", point, **here.cloud.environment())
    assert (done.returncode, "PROVEN" in done.stdout) == (0, True), done.stdout + done.stderr
    assert here.contents(target) == then
    again = run(*words, "--point", point, "--format", "json", **here.cloud.environment())
    assert json.loads(again.stdout)["done"] == {"same": len(then)}
    here.s3.put_object(Bucket=target, Key="foreign", Body=b"1")
    for more, verdict in ((["--dry-run"], "NOT POSSIBLE"), ([], "NOT PROVEN")):
        red = run(*words, "--point", point, *more, **here.cloud.environment())
        assert (red.returncode, verdict in red.stdout) == (1, True)
    unknown = run(*words, "--point", "20000101T000000Z-objects", **here.cloud.environment())
    assert (unknown.returncode, "none of id" in unknown.stderr) == (2, True)
    _remove_copies(here, "a")
    here.s3.create_bucket(Bucket="another")
    gone = run(*words[:-1], "another", *dry[-5:], **here.cloud.environment())
    told = json.loads(gone.stdout)
    assert (gone.returncode, [it["key"] for it in told["failures"]]) == (1, ["a"])


def test_a_version_that_was_removed_for_good_is_missed_and_brought_back(here: Stage) -> None:
    """By a rule or a hand that is gone by now: the list of versions has no trace of it."""
    here.put("twice", b"first")
    here.put("twice", b"second")
    here.put("once", b"only")
    # Until each copy is younger than its source by what tells them apart.
    wait_for(lambda: ", 0 objects copied" in here.run("sync")["found"], "it never was the same")
    then, moment = here.contents(BUCKET), end_of_second()
    for key in ("twice", "once"):
        version = here.s3.head_object(Bucket=BUCKET, Key=key)["VersionId"]
        here.s3.delete_object(Bucket=BUCKET, Key=key, VersionId=version)
    assert here.cloud.wait_idle()
    assert here.contents(BUCKET)["twice"] == b"first"
    words = ("restore", "bucket", BUCKET, "--to", moment, "--yes", "--format", "json")
    unwitnessed = run(*words, "--dry-run", **here.cloud.environment())
    assert json.loads(unwitnessed.stdout)["plan"]["changes"] == 0, "the list is all that it sees"

    witnessed = (*words, "--plan", here.plan)
    planned = run(*witnessed, "--dry-run", **here.cloud.environment())
    told = json.loads(planned.stdout)
    assert (told["proven"], told["witness"]["vanished"]) == (False, 2), planned.stderr
    assert any("'once', 'twice'" in line for line in told["warnings"])
    assert here.contents(BUCKET)["twice"] == b"first"
    done = run(*witnessed, **here.cloud.environment())
    told = json.loads(done.stdout)
    assert (done.returncode, told["grade"]["level"]) == (0, "proven"), told["grade"]
    assert told["refilled"]["counts"] == {"back": 2}
    assert here.contents(BUCKET) == then
    assert here.cloud.wait_idle()
    assert here.in_step

    _remove_copies(here, "once")
    red = run(*words[:-3], "--yes", "--plan", here.plan, **here.cloud.environment())
    assert (red.returncode, "NOT PROVEN" in red.stdout.splitlines()) == (1, True), red.stdout
    assert "'once'" in red.stdout
    here.delete("once")
    here.delete("twice")


def _remove_copies(here: Stage, key: str) -> None:
    """Every version of it, in the bucket and in the replica."""
    for bucket in (BUCKET, here.deployed.names[REPLICA]):
        found = here.s3.list_object_versions(Bucket=bucket, Prefix=key)
        for row in [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]:
            here.s3.delete_object(Bucket=bucket, Key=key, VersionId=row["VersionId"])
        assert here.cloud.wait_idle()


def test_the_copy_in_another_cloud_is_brought_to_the_same(here: Stage) -> None:
    told = here.run("sync", location="secondary")
    assert f"{len(here.contents(BUCKET))} objects compared" in told["found"]
    # No event deletes there, where no version stays: those that were told wait for a sync, too.
    assert "5 deleted" in told["found"]
    assert told["point"] is None
    # However soon after their writing they were copied: notes tell of what.
    assert ", 0 objects copied" in here.run("sync", location="secondary")["found"]


def test_what_a_stranger_writes_over_in_another_cloud_is_brought_back(here: Stage) -> None:
    """In the same size, and later than the copy: nothing but its note is missing."""
    name = name_of_key("unseen/new")
    outside = GcsObjectStore(connect_gcs(here.outside.login), OUTSIDE, f"{COMPONENT}/")
    outside.put(name, bytes(outside.facts(name).size_bytes))
    told = here.run("sync", location="secondary")["found"]
    assert ", 1 object copied (0.0 MB), 1 WRITTEN OVER, 0 deleted" in told
    assert here.metric("Damaged.secondary")[-1] == 1.0, "no check will see it any more"
    assert outside.get(name).startswith(b"LWSEAL")


def test_the_replicas_are_what_the_inventory_says(here: Stage) -> None:
    here.run("sync")
    assert here.run("copy", location="secondary")["complete"] is True
    for location in ("primary", "secondary"):
        told = here.run("check", location=location)
        assert told["ok"] is True, told
        assert f"{len(here.contents(BUCKET))} objects of " in told["found"]
        # Each run reads its share of the keys, which may be none of so few.
        wait_for(
            lambda at=location: " 0 read whole" not in here.run("check", location=at)["found"],
            "nothing was ever read",
        )


def test_a_person_sees_the_replicas_too(here: Stage) -> None:
    words = (here.plan, "--component", COMPONENT, "--read-all", "--format", "json")
    done = run("verify", *words, **here.cloud.environment())
    found = json.loads(done.stdout)
    assert {it["location"] for it in found["replicas"]} >= {"primary", "secondary"}
    for one in found["replicas"]:
        if one["location"] in ("primary", "secondary"):
            assert one["ok"] is True, one
            assert one["result"]["objects"] == len(here.contents(BUCKET))


def test_damage_in_another_cloud_that_only_reading_finds_is_mended(here: Stage) -> None:
    """Whoever wrote it kept the note, and noted the checksum of what it wrote."""
    name, key = name_of_key("unseen/new"), "unseen/new"
    outside = GcsObjectStore(connect_gcs(here.outside.login), OUTSIDE, f"{COMPONENT}/")
    good, note = outside.get(name), outside.facts(name).note or ""
    bad = good[:-1] + bytes([good[-1] ^ 1])
    outside.noting(lambda: note).put(name, bad)
    assert ", 0 objects copied" in here.run("sync", location="secondary")["found"]
    told = ""

    def is_found() -> bool:
        nonlocal told
        told = here.run("check", location="secondary")["found"]
        return f"'{key}': damaged" in told

    wait_for(is_found, "it was never read", seconds=90)
    assert here.cloud.wait_idle()
    assert outside.get(name) != bad
    wait_for(
        lambda: here.run("check", location="secondary")["ok"] is True,
        "it is still wrong",
        seconds=90,
    )


def _put_back(here: Stage, key: str, age: timedelta) -> None:
    """As if all of its versions had been written so long ago, in the bucket and in the replica."""
    from moto.s3.models import s3_backends

    for name in (BUCKET, here.deployed.names[REPLICA]):
        for version in s3_backends["123456789012"]["aws"].buckets[name].keys.getlist(key):
            version.last_modified -= age


def _bodies(here: Stage, key: str) -> list[bytes]:
    """Of all versions of the replica, the newest first."""
    replica = here.deployed.names[REPLICA]
    rows = here.s3.list_object_versions(Bucket=replica, Prefix=key).get("Versions", ())
    return [
        here.s3.get_object(Bucket=replica, Key=key, VersionId=it["VersionId"])["Body"].read()
        for it in rows
    ]


def test_versions_that_no_inventory_names_go_when_the_plan_lets_them(here: Stage) -> None:
    here.put("expiring", b"named")
    named = here.run("sync")["point"]
    for body in (b"between two nights", b"now"):
        here.put("expiring", body)
    here.put("young", b"replaced just now")
    here.put("young", b"now")
    assert "0 versions removed" in here.run("expire_versions")["found"]
    _put_back(here, "expiring", timedelta(days=40))
    before = here.contents(BUCKET)

    at = datetime(2026, 11, 22, tzinfo=UTC)
    incident = Incident("inc-x", "nexus-db", "corruption", "SEV1", "alarm", at, at).to_json()
    here.state.create("incidents", "open#nexus-db", incident)
    told = here.run("expire_versions")["found"]
    assert "nothing removed: incident inc-x of nexus-db is open" in told
    here.state.remove("incidents", "open#nexus-db", expected=incident)
    assert _bodies(here, "expiring") == [b"now", b"between two nights", b"named"]

    event = {"component": COMPONENT, "seconds": 0.001}
    late, failed = here.invoke("expire_versions", event)
    assert (failed, late["errorType"]) == (True, "Unavailable"), late
    assert "1 version removed" in here.run("expire_versions")["found"]
    assert _bodies(here, "expiring") == [b"now", b"named"]
    assert _bodies(here, "young") == [b"now", b"replaced just now"]
    assert (here.replica, here.contents(BUCKET)) == (before, before)
    assert here.alarm("expire-versions-silent") == "OK"

    replica = here.deployed.names[REPLICA]
    words = ("restore", "bucket", replica, "--to", "31d ago", "--to-bucket", "from-the-replica")
    late = run(*words, "--yes", **here.cloud.environment())
    assert (late.returncode, "[versions-expired]" in late.stderr) == (1, True), late.stderr

    # What a prune took away can be brought back, with all that it names.
    backups = here.deployed.names["BackupBucket"]
    here.catalogue.forget(named)
    for key in [it.key for it in here.store.list(f"points/{named}/")]:
        here.store.delete(key)
    assert "0 versions removed" in here.run("expire_versions")["found"]
    found = here.s3.list_object_versions(Bucket=backups, Prefix=f"{COMPONENT}/points/{named}/")
    for row in found["Versions"]:
        here.s3.delete_object(Bucket=backups, Key=row["Key"], VersionId=row["VersionId"])
    assert "1 version removed" in here.run("expire_versions")["found"]
    assert _bodies(here, "expiring") == [b"now"]


def test_a_person_sees_what_becomes_of_the_versions_and_removes_them(here: Stage) -> None:
    for body in (b"old", b"new"):
        here.put("pruned", body)
    _put_back(here, "pruned", timedelta(days=40))
    words = ("prune", here.plan, "--component", COMPONENT, "--location", "primary")
    environment = here.cloud.environment()
    planned = run(*words, "--dry-run", **environment)
    assert "versions in the replica of nexus-uploads, primary" in planned.stdout, planned.stderr
    assert "goes              1       3 B  less than $0.01 a month" in planned.stdout
    assert _bodies(here, "pruned") == [b"new", b"old"]
    done = run(*words, "--approve", "--format", "json", **environment)
    [told] = json.loads(done.stdout)["versions"]
    assert (told["removed"], told["error"]) == ({"versions": 1, "size_bytes": 3}, None)
    assert _bodies(here, "pruned") == [b"new"]

    at = datetime(2026, 11, 22, tzinfo=UTC)
    incident = Incident("inc-y", COMPONENT, "deletion", "SEV1", "alarm", at, at).to_json()
    here.state.create("incidents", f"open#{COMPONENT}", incident)
    red = run(*words, **environment)
    assert (red.returncode, "incident inc-y" in red.stderr) == (1, True), red.stdout + red.stderr
    here.state.remove("incidents", f"open#{COMPONENT}", expected=incident)


def test_a_version_that_is_gone_for_good_is_found_and_what_can_be_is_brought_back(
    here: Stage,
) -> None:
    replica = here.deployed.names[REPLICA]
    version = here.s3.head_object(Bucket=replica, Key="a b")["VersionId"]
    here.s3.delete_object(Bucket=replica, Key="a b", VersionId=version)
    told = here.run("check", location="primary")
    assert (told["ok"], "WRONG: 'a b': missing" in told["found"]) == (False, True)
    wait_for(lambda: here.alarm("copy-primary-damaged") == "ALARM", "no alarm came")
    assert here.cloud.wait_idle()
    assert here.in_step, "the check started a sync"
    assert here.run("check", location="primary")["ok"] is True


def test_what_a_stranger_writes_into_the_replica_is_found_though_the_sync_takes_it(
    here: Stage,
) -> None:
    """It is as long as the bucket's object and younger, so that a sync takes it for its copy."""
    replica, key = here.deployed.names[REPLICA], "unseen/new"
    good = here.contents(BUCKET)[key]
    here.s3.put_object(Bucket=replica, Key=key, Body=bytes(len(good)))
    assert here.run("sync")["point"]
    assert here.replica[key] == bytes(len(good))
    told = here.run("check", location="primary")
    assert (told["ok"], f"'{key}': overwritten" in told["found"]) == (False, True)
    assert here.cloud.wait_idle()

    # Without that version the one below it is there again, and the next inventory is right.
    version = here.s3.head_object(Bucket=replica, Key=key)["VersionId"]
    here.s3.delete_object(Bucket=replica, Key=key, VersionId=version)
    here.run("sync")
    assert here.in_step
    told = here.run("check", location="primary")
    assert told["ok"] is True, told


def test_a_version_that_somebody_removed_is_told_before_the_replica_goes_back_too(
    here: Stage,
) -> None:
    """The one below has its size and an older time: neither tells that it is the object again."""
    for body in (b"good", b"nice"):
        here.put("undone", body)
    for where in ("primary", "secondary"):
        wait_for(
            lambda at=where: ", 0 objects copied" in here.run("sync", location=at)["found"],
            "it never was the same",
        )
    here.run("watch_bucket")
    version = here.s3.head_object(Bucket=BUCKET, Key="undone")["VersionId"]
    here.s3.delete_object(Bucket=BUCKET, Key="undone", VersionId=version)
    assert here.cloud.wait_idle()
    assert here.replica["undone"] == b"nice", "an event does not know how many they are"

    planned = json.loads(here.command("--dry-run", "--format", "json").stdout)["result"]
    assert (planned["removed"], planned["reasons"]["copy went-back"]) == (1, 1)
    [gone] = planned["removed_versions"]
    assert (gone["key"], gone["version_id"], gone["after"]) == ("undone", version, "older")
    told = here.run("sync")["found"]
    assert "VERSIONS REMOVED FOR GOOD from the bucket: 1 since" in told
    assert here.in_step
    assert _bodies(here, "undone")[:2] == [b"good", b"nice"], "what was, is below it"
    wait_for(lambda: here.alarm("versions-removed") == "ALARM", "no alarm came")
    elsewhere = here.command("--to", "secondary", "--dry-run", "--format", "json")
    assert json.loads(elsewhere.stdout)["result"]["reasons"]["copy went-back"] == 1
    assert "REMOVED FOR GOOD" in here.run("sync", location="secondary")["found"]

    here.run("watch_bucket")
    signs = here.signs("show")[0]["judgement"]["signs"]
    [sign] = [it for it in signs if it["detector"] == "versions-removed"][-1:]
    assert "'undone'" in sign["found"]
    assert "REMOVED" not in here.run("sync")["found"], "the next inventory is of what there is"
    assert here.metric("VersionsRemoved")[-1] == 0.0, "by which the alarm ends"


def test_what_the_application_erases_as_the_plan_says_wakes_nobody(here: Stage) -> None:
    here.put("erased", b"of a person")
    wait_for(lambda: ", 0 objects copied" in here.run("sync")["found"], "it never was the same")
    version = here.s3.head_object(Bucket=BUCKET, Key="erased")["VersionId"]
    here.s3.delete_object(Bucket=BUCKET, Key="erased", VersionId=version)
    assert here.cloud.wait_idle()
    planned = json.loads(here.command("--dry-run", "--format", "json").stdout)["result"]
    assert (planned["removed"], planned["erased"], planned["removed_versions"]) == (0, 1, [])
    assert "; 1 version erased, as the plan expects" in here.run("sync")["found"]
    assert here.metric("VersionsRemoved")[-1] == 0.0
    assert here.in_step, "the replica follows, as it mirrors"


def test_too_many_deletions_stop_before_the_first_and_raise_an_alarm(here: Stage) -> None:
    before = here.replica
    with here.events_lost():
        for key in list(before)[: len(before) // 2]:
            here.delete(key)
    told, failed = here.invoke("sync", {"component": COMPONENT})
    assert (failed, told["errorType"]) == (True, "Refused")
    assert here.replica == before
    wait_for(lambda: here.alarm("sync-failing") == "ALARM", "no alarm came")


def test_a_person_looks_at_the_deletions_and_approves_them(here: Stage) -> None:
    before = here.replica
    planned = here.command("--dry-run")
    assert "without --approve: expected at most 20.0%" in planned.stdout
    assert here.replica == before
    refused = here.command("--format", "json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "too-many-deletions"
    done = json.loads(here.command("--approve", "--format", "json").stdout)
    assert done["result"]["deleted"] == len(before) // 2
    assert done["point"]["id"] in here.quarantined()
    assert here.in_step


def test_canaries_are_planted_once_and_watched(here: Stage, tmp_path: Path) -> None:
    words = ("--prefix", "clients/1", "--prefix", "clients/2", "--seed-file", str(tmp_path / "s"))
    planted, status = here.signs("plant", *words)
    assert (len(planted["planted"]), status) == (4, 0)
    assert here.signs("plant", *words) == (planted, 0)
    would, status = here.signs("plant", *words, "--dry-run")
    assert (set(would["would_plant"]), status) == ({it["key"] for it in planted["planted"]}, 0)
    other = (*words[:-1], str(tmp_path / "other"), "--dry-run")
    assert here.signs("plant", *other)[1] == 2
    assert not (tmp_path / "other").exists()
    assert {it["key"] for it in planted["planted"]} <= here.contents(BUCKET).keys()
    assert not any("none is planted" in it for it in here.run("watch_bucket")["blind"])
    (tmp_path / "s").write_text("short")
    told, status = here.signs("plant", *words)
    assert (told["error"]["code"], status) == ("bad-seed", 2)


def test_a_bulk_upload_is_no_attack(here: Stage) -> None:
    for key, body in FILES.items():
        here.put(key, body)
    told = here.run("watch_bucket")
    assert (told["infected"], told["quarantined"]) == (False, [])
    assert set(here.metric("BucketSigns")) == {0.0}
    found, status = here.signs("show")
    assert (found["judgement"]["infected"], status) == (False, 3), "it is not green"
    assert found["blind"] == told["blind"]
    # What could not be judged yet is told, and an alarm.
    assert any("history" in it for it in told["blind"])
    wait_for(lambda: here.alarm("watch-blind") == "ALARM", "no alarm came")


def test_an_attack_is_judged_and_the_points_since_are_quarantined(here: Stage) -> None:
    older = _enter_older_point(here)
    for key, body in list(FILES.items())[:16]:
        here.put(key, encrypt(body))
    for folder in range(4):
        here.put(f"clients/{folder}/HOW_TO_DECRYPT.txt", NOTE)
    told = here.run("watch_bucket")
    assert told["infected"] is True
    assert here.in_step, "the versions of before are below what was written"
    wait_for(lambda: here.alarm("ransomware-signs") == "ALARM", "no alarm came")

    during = here.run("sync")["point"]
    here.catalogue.quarantine(during, code="digest-mismatch", reason="a bit", at=datetime.now(UTC))
    again = here.run("watch_bucket")
    assert again["quarantined"] == [during]
    reasons = here.quarantined()
    assert reasons.pop(older) == ""
    assert set(reasons) == {*told["quarantined"], during}
    assert all("the infection started at" in reason for reason in reasons.values())

    found, status = here.signs("show")
    assert (found["judgement"]["infected"], status) == (True, 1)
    assert here.unquarantine(during)["error"]["code"] == "still-infected"
    assert here.signs("clear", "--dry-run")[0]["cleared"] is None
    assert here.signs("show")[1] == 1
    cleared, status = here.signs("clear")
    assert (set(cleared["quarantined"]), status) == (set(reasons), 0)
    assert here.run("watch_bucket")["infected"] is False
    assert here.quarantined()[during], "what was quarantined stays so"
    assert here.unquarantine(during)["points"] == [during]
    assert here.run("watch_bucket")["quarantined"] == []
    assert {point for point, why in here.quarantined().items() if why} == {*reasons} - {during}


def test_no_right_was_lacking_and_none_is_granted_in_vain(here: Stage) -> None:
    rights = here.cloud.rights()
    for function in FUNCTIONS:
        found = rights[f"leeward-primary-{function}"]
        assert found.denied == (), function
        assert set(found.unused) <= set(RARE) | RARE_OF.get(function, set()), function
        assert here.cloud.calls(function), function
    assert {name: it.denied for name, it in rights.items() if it.denied} == {}
    assert not {"s3:ListBucketVersions", "s3:GetObjectVersion"} & set(
        rights["leeward-primary-check"].unused
    )


def test_a_change_that_cannot_be_brought_is_an_alarm_and_the_sync_brings_it(here: Stage) -> None:
    """Somebody takes the function's right to write to the replica away for a while."""
    iam, role = here.cloud.client("iam"), here.deployed.names["ReplicateRole"]
    [policy] = iam.list_role_policies(RoleName=role)["PolicyNames"]
    kept = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    less = [it for it in kept["Statement"] if it["Sid"] != "WriteReplicas"]
    text = json.dumps(kept | {"Statement": less})
    iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=text)
    here.put("late", b"1")
    wait_for(lambda: here.alarm("replication-failing") == "ALARM", "no alarm came")
    assert [name for name, _, _ in here.cloud.lost] == ["leeward-primary-replicate"]
    assert not here.in_step
    here.run("sync")
    assert here.in_step


def _enter_older_point(here: Stage) -> str:
    """A point of three hours ago, which a test has no time to wait for."""
    standing = here.catalogue.holdings().standings[0]
    at = standing.point.taken_at - timedelta(hours=3)
    older = replace(standing.point, id=f"{at:%Y%m%dT%H%M%SZ}-objects", taken_at=at, finished_at=at)
    here.catalogue.add(older)
    return older.id
