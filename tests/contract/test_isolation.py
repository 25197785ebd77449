"""Every barrier is raised against somebody who really tries, and taken down without a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.isolation.bucket_history import BucketHistoryBarrier
from chalicelib.adapters.isolation.bucket_policy import BucketPolicyBarrier
from chalicelib.adapters.isolation.identities import AccessKeysBarrier, SessionsBarrier
from chalicelib.adapters.isolation.servers import NetworkBarrier, SnapshotsBarrier
from chalicelib.errors import NotReady
from chalicelib.ports.isolation import Barrier, Planned
from chalicelib.recover.attack.isolate import (
    Barriers,
    Isolator,
    lower_barriers,
    read_cuts,
)
from leeward.local.clients import open_client
from leeward.local.cloud import LocalCloud
from tests.fakes_state import InMemoryState

LEEWARD = "arn:aws:iam::123456789012:role/leeward-RestoreBucketRole"
BUCKET = "assets"
OTHERS = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {
            "Sid": "Theirs",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:GetObjectTorrent",
            "Resource": f"arn:aws:s3:::{BUCKET}/*",
        },
    },
    indent=3,
)
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
RULES: list[dict[str, Any]] = [
    {
        "ID": "old",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 90},
    },
    {
        "ID": "unfinished",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    },
]
SOON: dict[str, Any] = {
    "ID": "theirs",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as started:
        s3 = started.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        started.client("iam").create_user(UserName="uploader")
        started.client("iam").create_role(RoleName="api", AssumeRolePolicyDocument=TRUST)
        yield started


class Somebody:
    """Who has a key, or a session's."""

    def __init__(self, cloud: LocalCloud, key: dict[str, str]) -> None:
        self._cloud, self._key = cloud, key
        self.id = key["AccessKeyId"]

    def tries(self, service: str, call: str, **parameters: Any) -> str:
        """ "" when it is let, else the code that AWS answers."""
        try:
            getattr(open_client(self._cloud, service, self._key), call)(**parameters)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""

    def puts(self, key: str = "k", body: bytes = b"1") -> str:
        return self.tries("s3", "put_object", Bucket=BUCKET, Key=key, Body=body)


@pytest.fixture
def user(cloud: LocalCloud) -> Iterator[Somebody]:
    iam = cloud.client("iam")
    key = iam.create_access_key(UserName="uploader")["AccessKey"]
    yield Somebody(cloud, key)
    iam.delete_access_key(UserName="uploader", AccessKeyId=key["AccessKeyId"])


def session(cloud: LocalCloud) -> Somebody:
    made = cloud.client("sts").assume_role(
        RoleArn="arn:aws:iam::123456789012:role/api", RoleSessionName="pod"
    )
    return Somebody(cloud, made["Credentials"])


def policy_of(cloud: LocalCloud) -> str | None:
    try:
        return str(cloud.client("s3").get_bucket_policy(Bucket=BUCKET)["Policy"])
    except ClientError:
        return None


@pytest.mark.parametrize("before", [None, OTHERS])
def test_nobody_writes_to_an_isolated_bucket_and_its_policy_is_put_back(
    cloud: LocalCloud, user: Somebody, before: str | None
) -> None:
    s3 = cloud.client("s3")
    if before:
        s3.put_bucket_policy(Bucket=BUCKET, Policy=before)
    assert user.puts() == ""
    barrier = BucketPolicyBarrier(s3, BUCKET, [LEEWARD])
    found = barrier.look()
    barrier.raise_up(found)
    barrier.raise_up(found)
    assert user.puts() == "AccessDenied"
    assert session(cloud).puts() == "AccessDenied"
    one = {"Objects": [{"Key": "k"}]}
    calls: dict[str, dict[str, Any]] = {
        "delete_object": {"Key": "k"},
        "delete_objects": {"Delete": one},
        "delete_bucket_policy": {},
        "put_bucket_versioning": {"VersioningConfiguration": {"Status": "Suspended"}},
        "delete_bucket_lifecycle": {},
    }
    for call, more in calls.items():
        assert user.tries("s3", call, Bucket=BUCKET, **more) == "AccessDenied", call
    assert user.tries("s3", "get_object", Bucket=BUCKET, Key="k") == ""

    barrier.lower(found)
    barrier.lower(found)
    assert policy_of(cloud) == before
    assert user.puts() == ""
    s3.delete_bucket_policy(Bucket=BUCKET)


def test_leewards_own_roles_are_let_through(cloud: LocalCloud) -> None:
    from leeward.local.guard import denied_by_bucket
    from leeward.local.iam import Need

    barrier = BucketPolicyBarrier(cloud.client("s3"), BUCKET, [LEEWARD])
    found = barrier.look()
    barrier.raise_up(found)
    needs = (Need("s3:PutObject", f"arn:aws:s3:::{BUCKET}/k"),)
    assert denied_by_bucket(LEEWARD, needs, BUCKET) is None
    assert denied_by_bucket(LEEWARD.replace("Restore", "Watch"), needs, BUCKET) == needs[0]
    barrier.lower(found)


def test_what_somebody_put_into_the_policy_meanwhile_stays(cloud: LocalCloud) -> None:
    s3 = cloud.client("s3")
    barrier = BucketPolicyBarrier(s3, BUCKET, [LEEWARD])
    found = barrier.look()
    barrier.raise_up(found)
    document = json.loads(policy_of(cloud) or "")
    document["Statement"].append(json.loads(OTHERS)["Statement"])
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(document))
    barrier.lower(found)
    assert [it["Sid"] for it in json.loads(policy_of(cloud) or "")["Statement"]] == ["Theirs"]
    s3.delete_bucket_policy(Bucket=BUCKET)


def test_a_bucket_without_a_policy_has_none_again_however_often_it_is_lowered(
    cloud: LocalCloud,
) -> None:
    s3 = cloud.client("s3")
    s3.delete_bucket_policy(Bucket=BUCKET)
    barrier = BucketPolicyBarrier(s3, BUCKET, [LEEWARD])
    before = barrier.look()
    barrier.raise_up(before)
    barrier.lower(before)
    assert barrier.lower(before).found == f"{BUCKET} has no policy, as before"
    assert policy_of(cloud) is None


def test_without_roles_that_may_write_a_bucket_is_not_closed(cloud: LocalCloud) -> None:
    """It could not be opened again by anybody but the account's root user."""
    with pytest.raises(NotReady) as caught:
        BucketPolicyBarrier(cloud.client("s3"), BUCKET, []).raise_up({"policy": None})
    assert caught.value.instance_code == "no-recovery-roles"
    assert policy_of(cloud) is None


def rules_of(cloud: LocalCloud) -> list[dict[str, Any]]:
    found = cloud.client("s3").get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    return sorted(found, key=lambda it: str(it["ID"]))


def put_rules(cloud: LocalCloud, rules: list[dict[str, Any]]) -> None:
    cloud.client("s3").put_bucket_lifecycle_configuration(
        Bucket=BUCKET, LifecycleConfiguration={"Rules": rules}
    )


def test_nothing_expires_while_a_bucket_is_isolated(cloud: LocalCloud) -> None:
    put_rules(cloud, RULES)
    before = rules_of(cloud)
    barrier = BucketHistoryBarrier(cloud.client("s3"), BUCKET)
    found = json.loads(json.dumps(barrier.look()))
    barrier.raise_up(found)
    barrier.raise_up(found)
    assert [it["Status"] for it in rules_of(cloud)] == ["Disabled", "Enabled"]
    assert barrier.lower(found).kept == ()
    assert rules_of(cloud) == before
    cloud.client("s3").delete_bucket_lifecycle(Bucket=BUCKET)


@pytest.mark.parametrize("as_found", [False, True])
def test_what_an_attack_had_set_comes_back_only_when_it_is_asked_for(
    cloud: LocalCloud, as_found: bool
) -> None:
    s3 = cloud.client("s3")
    put_rules(cloud, [*RULES, SOON])
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
    before = rules_of(cloud)
    barrier = BucketHistoryBarrier(s3, BUCKET)
    found = barrier.look()
    barrier.raise_up(found)
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    lowered = barrier.lower(found, as_found=as_found)
    status = s3.get_bucket_versioning(Bucket=BUCKET)["Status"]
    standing = {it["ID"]: it["Status"] for it in rules_of(cloud)}
    if as_found:
        assert (rules_of(cloud), status, lowered.kept) == (before, "Suspended", ())
    else:
        assert standing == {"old": "Enabled", "unfinished": "Enabled", "theirs": "Disabled"}
        assert (status, len(lowered.kept)) == ("Enabled", 2)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.delete_bucket_lifecycle(Bucket=BUCKET)


def test_a_key_is_disabled_and_one_that_was_disabled_before_stays_so(
    cloud: LocalCloud, user: Somebody
) -> None:
    iam = cloud.client("iam")
    old = iam.create_access_key(UserName="uploader")["AccessKey"]["AccessKeyId"]
    iam.update_access_key(UserName="uploader", AccessKeyId=old, Status="Inactive")
    barrier = AccessKeysBarrier(iam, "uploader")
    found = barrier.look()
    barrier.raise_up(found)
    barrier.raise_up(found)
    assert user.puts() == "InvalidAccessKeyId"
    assert user.tries("sts", "get_caller_identity") == "InvalidClientTokenId"
    barrier.lower(found)
    assert user.puts() == ""
    assert barrier.look() == found == {"keys": {user.id: "Active", old: "Inactive"}}
    iam.delete_access_key(UserName="uploader", AccessKeyId=old)


def test_sessions_so_far_are_refused_and_new_ones_work(cloud: LocalCloud) -> None:
    stolen = session(cloud)
    assert stolen.puts() == ""
    barrier = SessionsBarrier(cloud.client("iam"), "role/api", SystemClock())
    found = barrier.look()
    barrier.raise_up(found)
    assert stolen.puts() == "AccessDenied"
    assert stolen.tries("sts", "get_caller_identity") == "AccessDenied"
    SystemClock().sleep(2)
    assert session(cloud).puts() == ""
    assert stolen.puts() == "AccessDenied"
    barrier.lower(found)
    barrier.lower(found)
    assert cloud.client("iam").list_role_policies(RoleName="api")["PolicyNames"] == []


@pytest.fixture(scope="module")
def host(cloud: LocalCloud) -> dict[str, Any]:
    """An instance with two volumes, its groups, a group without rules and one with some."""
    ec2 = cloud.client("ec2")
    groups = {
        name: ec2.create_security_group(GroupName=name, Description=name)["GroupId"]
        for name in ("web", "closed", "open")
    }
    [out] = ec2.describe_security_groups(GroupIds=[groups["closed"]])["SecurityGroups"]
    ec2.revoke_security_group_egress(
        GroupId=groups["closed"], IpPermissions=out["IpPermissionsEgress"]
    )
    [instance] = ec2.run_instances(
        ImageId="ami-12c6146b", MinCount=1, MaxCount=1, SecurityGroupIds=[groups["web"]],
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "node"}]}
        ],
    )["Instances"]  # fmt: skip
    volume = ec2.create_volume(Size=1, AvailabilityZone=instance["Placement"]["AvailabilityZone"])
    ec2.attach_volume(
        VolumeId=volume["VolumeId"], InstanceId=instance["InstanceId"], Device="/dev/sdf"
    )
    return {**groups, "instance": instance["InstanceId"]}


def groups_of(cloud: LocalCloud, instance: str) -> list[str]:
    found = cloud.client("ec2").describe_instances(InstanceIds=[instance])
    [one] = found["Reservations"][0]["Instances"]
    return [it["GroupId"] for eni in one["NetworkInterfaces"] for it in eni["Groups"]]


def test_an_instance_is_in_quarantine_and_back(cloud: LocalCloud, host: dict[str, Any]) -> None:
    barrier = NetworkBarrier(cloud.client("ec2"), "node", host["closed"])
    found = barrier.look()
    raised = barrier.raise_up(found)
    barrier.raise_up(found)
    assert groups_of(cloud, host["instance"]) == [host["closed"]]
    assert "memory was not taken" in raised.found
    with pytest.raises(ClientError, match="OperationNotPermitted|disableApiTermination"):
        cloud.client("ec2").terminate_instances(InstanceIds=[host["instance"]])
    barrier.lower(found)
    assert barrier.look() == found
    assert groups_of(cloud, host["instance"]) == [host["web"]]


@pytest.mark.parametrize(
    ("group", "code"), [("open", "quarantine-group-open"), ("none", "no-quarantine-group")]
)
def test_a_group_that_lets_something_through_is_no_quarantine(
    cloud: LocalCloud, host: dict[str, Any], group: str, code: str
) -> None:
    barrier = NetworkBarrier(cloud.client("ec2"), "node", group)
    with pytest.raises(NotReady) as caught:
        barrier.raise_up(barrier.look())
    assert caught.value.instance_code == code
    assert groups_of(cloud, host["instance"]) == [host["web"]]


def test_volumes_are_kept_once_a_run_and_stay_after_it(
    cloud: LocalCloud, host: dict[str, Any]
) -> None:
    ec2 = cloud.client("ec2")
    barrier = SnapshotsBarrier(ec2, "node", "run-1")
    found = barrier.look()
    made = barrier.raise_up(found).made
    assert len(made) == len(found["volumes"][host["instance"]]) == 2
    assert barrier.raise_up(found).made == made
    assert len(barrier.lower(found).kept) == 1
    kept = ec2.describe_snapshots(SnapshotIds=list(made))["Snapshots"]
    assert {it["VolumeId"] for it in kept} == set(found["volumes"][host["instance"]])


def test_one_barrier_that_fails_keeps_no_other_down_and_a_retry_forgets_nothing(
    cloud: LocalCloud, user: Somebody
) -> None:
    """The first attempt dies between a barrier's act and its record."""
    s3, state, clock = cloud.client("s3"), InMemoryState(), SystemClock()
    s3.put_bucket_policy(Bucket=BUCKET, Policy=OTHERS)
    planned = (
        Planned("network", "no-such-host", "why", "undo"),
        Planned("bucket-policy", BUCKET, "why", "undo"),
        Planned("access-keys", "uploader", "why", "undo"),
    )

    def open_(one: Planned) -> Barrier:
        if one.kind == "bucket-policy":
            return BucketPolicyBarrier(s3, BUCKET, [LEEWARD])
        if one.kind == "access-keys":
            return AccessKeysBarrier(cloud.client("iam"), "uploader")
        return NetworkBarrier(cloud.client("ec2"), one.target, "closed")

    told: list[tuple[str, str]] = []

    def die(cut: Any) -> None:
        told.append((cut.kind, cut.standing))
        if told == [("bucket-policy", "raising"), ("bucket-policy", "raised")]:
            raise KeyboardInterrupt

    barriers = Barriers(planned, ())
    isolator = Isolator("uploads", "run-1", open_, state, clock, die)
    with pytest.raises(KeyboardInterrupt):
        isolator.raise_all(barriers)
    outcome = replace(isolator, run_id="run-2").raise_all(barriers)
    assert [(it.kind, it.error.instance_code) for it in outcome.failed] == [
        ("network", "no-instance")
    ]
    assert {it.standing for it in read_cuts(state, "uploads")} == {"raised"}
    assert user.puts() == "InvalidAccessKeyId"

    heard: list[tuple[str, str]] = []

    def die_once(cut: Any) -> None:
        heard.append((cut.kind, cut.standing))
        if len(heard) == 1:
            raise KeyboardInterrupt

    def lower() -> Any:
        cuts = read_cuts(state, "uploads")
        return lower_barriers(cuts, open_=open_, state=state, clock=clock, tell=die_once)

    with pytest.raises(KeyboardInterrupt):
        lower()
    lowered = lower()
    assert lowered.failed == ()
    # What the dead one lowered is told too: it counts as lowered when somebody heard of it.
    assert heard[1] == heard[0]
    assert len(set(heard)) == len(heard) - 1 == len(lowered.done)
    assert policy_of(cloud) == OTHERS, "what stood before the first attempt"
    assert user.puts() == ""
    again = lower_barriers(read_cuts(state, "uploads"), open_=open_, state=state, clock=clock)
    assert again.done == ()
    s3.delete_bucket_policy(Bucket=BUCKET)
