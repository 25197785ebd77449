"""What the comparison before and after a drill sees and lets pass (scenarios/untouched.py)."""

from __future__ import annotations

import pytest

from leeward.plan_file import load_plan
from tests.commands import NEXUS
from tests.drilled import FAILED, WHOLE, drilled, table_of
from tests.scenarios.untouched import changed

PLAN = load_plan(NEXUS).plan
RUN = "run-20261123T021016Z-nexus-db-drill"
REAL = "run-20261123T021016Z-nexus-db"
TABLE = "dynamodb us-east-1 / leeward-StateTable"
BACKUPS = "s3 / leeward-backupbucket-us-east-1 / objects"
EVIDENCE = "s3 / leeward-evidencebucket-us-east-1 / objects"
SWITCHES = "s3 / leeward-switch-123456789012-us-west-2 / objects"
DIGEST, ANOTHER = "0" * 64, "1" * 64


@pytest.mark.parametrize(
    ("path", "was", "now"),
    [
        ("s3 / nexus-assets / objects / a.png v1", DIGEST, ANOTHER),
        ("s3 / nexus-assets / objects / new.png v1", None, DIGEST),
        ("s3 / nexus-assets / settings / get_bucket_policy / Policy", "{}", "{ }"),
        (f"{BACKUPS} / nexus-db/points/20261123T023156Z-full/manifest.json v2", None, "deleted"),
        (f"{BACKUPS} / nexus-db/points/20261123T023156Z-full/quarantine.json v1", None, DIGEST),
        (f"{BACKUPS} / nexus-db/wal/00000001/000000010000000000000007.zst v2", None, "deleted"),
        (f"{BACKUPS} / nexus-db/points/20261123T023156Z-full/proof.json v1", DIGEST, None),
        (f"{BACKUPS} / nexus-db/handover/{REAL}/base.tar.zst v1", None, DIGEST),
        (f"{SWITCHES} / switch/nexus-names v1", None, DIGEST),
        ("s3 / leeward-status-123456789012-us-west-2 / objects / index.html null", DIGEST, ANOTHER),
        (f"{EVIDENCE} / inc-20261123T021016Z-nexus-db-drill/records/1 v",
         DIGEST, ANOTHER),
        (f"{EVIDENCE} / inc-20261123T021016Z-nexus-db/records/1 v",
         None, DIGEST),
        (f"{TABLE} fence#nexus-db fence", "{}", '{"token": 2}'),
        (f"{TABLE} isolation#nexus-uploads network", None, "{}"),
        (f"{TABLE} run#{REAL} step#restore", None, "{}"),
        (f"{TABLE} incidents open#nexus-db", "{}", None),
        (f"{TABLE} outage#primary latch", "{}", None),
        ("secretsmanager us-east-1 / nexus/db/application / value", "a", "b"),
        ("secretsmanager us-east-1 / nexus/db/operator / replicas", ["us-west-2"], []),
        ("iam / keys of nexus-uploader / AKIA", "Active", "Inactive"),
        ("route53 / zones / nexus-studio.io.", [], ["192.0.2.1"]),
        ("ec2 us-east-1 / instances / nexus-node i-1 / State / Name", "running", "stopped"),
        ("ec2 us-east-1 / instances / nexus-node-staging i-1 / State / Name", "running", "stopped"),
        ("ec2 us-east-1 / snapshots / nexus-node snap-1", None, ["", ""]),
        ("servers / 5432 / databases / nexus", DIGEST, ANOTHER),
        ("hosts / i-1 / files / etc/artisttech/env", DIGEST, ANOTHER),
        ("clusters / nexus-production / deployments default/api / spec / replicas", 3, 0),
    ],
)  # fmt: skip
def test_a_change_of_production_is_seen(path: str, was: object, now: object) -> None:
    states = ({} if it is None else {path: it} for it in (was, now))
    assert len(changed(PLAN, *states)) == 1


@pytest.mark.parametrize(
    ("path", "now"),
    [
        (f"{TABLE} run#{RUN} step#restore", "{}"),
        (f"{TABLE} run#{RUN}-2 undone#load", "{}"),
        (f"{TABLE} fence#nexus-db-staging fence", "{}"),
        (f"{TABLE} isolation#nexus-uploads-staging bucket-policy#x", "{}"),
        (f"{BACKUPS} / nexus-db/wal/00000001/000000010000000000000007.zst v1", DIGEST),
        (f"{BACKUPS} / nexus-db/points/20261123T023156Z-full/proof.json v1", DIGEST),
        (f"{SWITCHES} / switch/nexus-names-drill v1", DIGEST),
        ("secretsmanager us-east-1 / nexus/db-staging/application / value", "b"),
    ],
)
def test_what_a_drill_leaves_behind_passes(path: str, now: object) -> None:
    assert changed(PLAN, {}, {path: now}) == []


def test_the_table_counts_drills_and_what_they_took_back() -> None:
    told = [drilled("nexus-studio", "failback", how, 3) for how in (WHOLE, WHOLE, FAILED)]
    assert table_of(told)[1].split() == ["nexus-studio", "failback", "2", "1", "9"]
