"""Isolation by the deployed functions and the command: a person's part, a drill, a lift by hand."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.evidence.records import StoredRecords
from chalicelib.plan.records import EvidenceRecord, format_time
from leeward.local.clients import open_client
from leeward.local.cloud import LocalCloud
from leeward.local.deploy import deploy
from leeward.local.locations import create_application_buckets
from leeward.packaging.package import build_package
from leeward.plan_file import load_plan
from tests.commands import NEXUS, run

UPLOADS, BUCKET, STAGING = "nexus-uploads", "nexus-assets", "nexus-assets-staging"
OWN = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Theirs",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:GetObjectTorrent",
                "Resource": f"arn:aws:s3:::{BUCKET}/*",
            }
        ],
    }
)


@dataclass
class Here:
    cloud: LocalCloud
    state: DynamoDbState
    records: StoredRecords
    keys: dict[str, dict[str, str]]
    numbers: Iterator[int] = field(default_factory=count)

    def begin(self, *, drill: bool = False) -> str:
        run_id = f"run-20261122T0945{next(self.numbers):02d}Z-{UPLOADS}"
        item = {
            "scenario": "ransomware", "component": UPLOADS, "moment": None, "drill": drill,
            "alarm_at": format_time(datetime.now(UTC)), "status": "running", "site": "",
            "incident_id": run_id.replace("run-", "inc-"),
        }  # fmt: skip
        assert self.state.create(f"run#{run_id}", "run", item)
        return run_id

    def ask(
        self, function: str, run_id: str, step: str, uses: str, *, undo: bool = False, **inputs: Any
    ) -> dict[str, Any]:
        """What the function returns, or {"errorType", "errorMessage"}."""
        event = {"run_id": run_id, "step": step, "uses": uses, "inputs": inputs}
        answer = self.cloud.client("lambda").invoke(
            FunctionName=f"leeward-primary-{function}",
            Payload=json.dumps(event | ({"undo": True} if undo else {})),
        )
        return dict(json.loads(answer["Payload"].read()))

    def said(self, run_id: str, kind: str) -> list[EvidenceRecord]:
        chain = self.records.read(run_id.replace("run-", "inc-"))
        return [it for it in chain if it.kind == kind]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = self.cloud.environment()
        return run("isolation", *words, "--plan", NEXUS, **environment)

    def policy(self, bucket: str) -> str | None:
        try:
            return str(self.cloud.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])
        except ClientError:
            return None

    def writes(self, user: str, bucket: str) -> bool:
        try:
            client = open_client(self.cloud, "s3", self.keys[user])
            client.put_object(Bucket=bucket, Key="k", Body=b"1")
        except ClientError:
            return False
        return True


@pytest.fixture(scope="module")
def here() -> Iterator[Here]:
    plan = load_plan(NEXUS).plan
    with LocalCloud(schedules=False) as cloud:
        deployed = deploy(cloud, build_package(plan, cloud.folder / "package"), standby=False)
        create_application_buckets(cloud, plan)
        iam, keys = cloud.client("iam"), {}
        for name in ("nexus-uploader", "nexus-staging"):
            iam.create_user(UserName=name)
            keys[name] = iam.create_access_key(UserName=name)["AccessKey"]
        state = DynamoDbState(cloud.client("dynamodb"), deployed.names["StateTable"])
        evidence = S3ObjectStore(cloud.client("s3"), deployed.names["EvidenceBucket"])
        yield Here(cloud, state, StoredRecords(evidence, SystemClock()), keys)


def test_a_person_sees_what_stands_does_what_is_left_and_lifts_it(here: Here) -> None:
    here.cloud.client("s3").put_bucket_policy(Bucket=BUCKET, Policy=OWN)
    assert here.command("list").returncode == 0
    run_id = here.begin()
    isolate = ("isolate", run_id, "isolate", "isolation.isolate")
    told = here.ask(*isolate, component=UPLOADS, identities=["user/ghost"])
    assert "LEFT TO A PERSON: ghost" in told["found"], told
    assert here.ask(*isolate, component=UPLOADS, identities=["user/ghost"]) == told
    assert not here.writes("nexus-uploader", BUCKET)

    listed = here.command("list", UPLOADS, "--format", "json")
    assert listed.returncode == 1
    standing = {it["kind"]: it for it in json.loads(listed.stdout)["isolation"]}
    assert standing["bucket-policy"]["before"] == {"policy": OWN}
    assert "LeewardIsolation" in here.command("list").stdout

    lift = ("lift", UPLOADS, "--reason", "all is well")
    refused = here.command(*lift, "--format", "json")
    assert json.loads(refused.stdout)["error"]["code"] == "attack-not-cut-off"
    step = here.ask("isolate", run_id, "lift", "isolation.lift", component=UPLOADS)
    assert step["errorType"] == "Refused"
    assert not here.writes("nexus-uploader", BUCKET)

    done = here.command(*lift, "--despite-left", "--only", "bucket-policy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert here.policy(BUCKET) == OWN
    assert not here.writes("nexus-uploader", BUCKET), "its key is disabled still"
    assert here.command(*lift).returncode == 0
    assert here.writes("nexus-uploader", BUCKET)
    assert here.command("list").returncode == 0
    by_hand = here.said(run_id, "lifted")
    assert {it.body["kind"] for it in by_hand} == {
        "bucket-policy", "bucket-history", "access-keys", "sessions",
    }  # fmt: skip
    assert {it.body["reason"] for it in by_hand} == {"all is well"}
    assert "leeward" not in {it.actor for it in by_hand}


def test_a_drill_isolates_the_stand_in_alone_and_leaves_it_as_it_was(here: Here) -> None:
    run_id = here.begin(drill=True)
    before = here.policy(BUCKET)
    isolate = ("isolate", run_id, "isolate", "isolation.isolate")
    told = here.ask(*isolate, component=UPLOADS, identities=["user/nexus-uploader"])
    assert "access-keys#nexus-staging" in told["raised"], told
    assert not here.writes("nexus-staging", STAGING)
    assert here.writes("nexus-uploader", BUCKET)
    assert here.policy(BUCKET) == before

    undone = here.ask(*isolate, undo=True, component=UPLOADS)
    assert "as they were" in undone["found"], undone
    assert here.policy(STAGING) is None
    assert here.writes("nexus-staging", STAGING)
    missing = here.ask("isolate", run_id, "dns", "isolation.isolate", component="nexus-static")
    assert "no-drill-target" in json.dumps([it.body for it in here.said(run_id, "step-failed")]), (
        missing
    )


def test_an_attack_that_nobody_can_date_stops_for_a_persons_moment(here: Here) -> None:
    here.cloud.client("s3").create_bucket(Bucket="nexus-audit")
    run_id = here.begin()
    identify = ("inspect", run_id, "identify", "infection.identify")
    here.ask(*identify, component=UPLOADS, moment="yesterday")
    assert here.said(run_id, "step-failed")[-1].body["code"] == "bad-moment"
    here.ask(*identify, component=UPLOADS)
    assert here.said(run_id, "step-failed")[-1].body["code"] == "no-trail"


def test_no_right_was_lacking(here: Here) -> None:
    rights = here.cloud.rights()
    assert rights["leeward-primary-isolate"].denied == ()
    assert rights["leeward-primary-inspect"].denied == ()
