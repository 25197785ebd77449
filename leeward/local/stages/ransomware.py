"""Ransomware: a studio's bucket and database attacked with stolen keys while people work in both.

Beside what a corrupted database has there are people who upload, with the key that is stolen, from
their own address; a host of the cluster; the account's trail; and a replica that the attacker has
no rights over. What counts afterwards: every upload that was acknowledged before the attack is
there byte for byte, nothing of the attacker is, and the stolen key opens nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.errors import Unavailable
from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.components import Bucket, Postgres, Server
from chalicelib.plan.model import Plan
from chalicelib.plan.records import parse_time
from leeward.local.attack import THEIR_ADDRESS, Done, attack, documents, rename
from leeward.local.clients import open_client
from leeward.local.damage import Injected
from leeward.local.drill import Fact
from leeward.local.production import APPLICATION, DATABASE, SUPERUSER
from leeward.local.stages.database import DatabaseDrill
from leeward.local.stages.deletion import YOUNGER_SECONDS
from leeward.packaging.parts import rule_name

ALARM_SECONDS = 60.0
# Every upload is an event of its own, and a busy machine takes its time for them.
SETTLE_SECONDS = 240.0
OUR_ADDRESS = "198.51.100.20"
UPLOADS = 36
UPLOAD_SECONDS = 0.4
# Times of S3 are whole seconds: what is older than the attack must be told from it by them.
QUIET_SECONDS = 2.5
# The attack, and every recovery point of the database under quarantine: nothing may be restored.
NO_CLEAN_POINT = "no-clean-point"
INFECTED = "signs of ransomware since before it was finished"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


@dataclass
class Uploads:
    """People who upload. `told`: (key, SHA-256, when S3 had acknowledged it)."""

    s3: Any
    bucket: str
    told: list[tuple[str, str, datetime]] = field(default_factory=list)
    refused: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._documents = documents()
        self._number = itertools.count()

    def one(self, prefix: str = "") -> None:
        key, body = next(self._documents)
        key = f"{prefix}{key}"
        try:
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        except ClientError:
            self.refused += 1
            return
        self.told.append((key, hashlib.sha256(body).hexdigest(), datetime.now(UTC)))

    def keep_on(self) -> None:
        """Until `stopping`, below a folder of their own."""
        while not self.stopping.wait(UPLOAD_SECONDS):
            self.one("work/")


class RansomwareDrill(DatabaseDrill):
    """See the module."""

    damages: ClassVar[tuple[str, ...]] = ("ransomware", NO_CLEAN_POINT)
    recovery_seconds: ClassVar[float] = 420.0

    @classmethod
    def accepts(cls, plan: Plan, scenario: str) -> bool:
        """A scenario of a bucket that finds out how an attack began."""
        steps = plan.scenarios[scenario].all_steps()
        about = plan.components.get(plan.scenarios[scenario].component or "")
        return isinstance(about, Bucket) and any(it.uses == "infection.identify" for it in steps)

    @property
    def database_name(self) -> str:
        """The component whose WAL is searched too."""
        steps = self.plan.scenarios[self.options.scenario].all_steps()
        return next(str(it.inputs["database"]) for it in steps if it.inputs.get("database"))

    @property
    def database(self) -> Postgres:
        found = self.plan.components[self.database_name]
        assert isinstance(found, Postgres)
        return found

    @property
    def bucket(self) -> Bucket:
        found = self.plan.components[self.options.component]
        assert isinstance(found, Bucket)
        return found

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        super().start_parts(stack, deploying)
        began = time.monotonic()
        self._start_trail()
        self.stolen = self._make_identities()
        self._start_hosts()
        ours = open_client(self.cloud, "s3", self.stolen, source=OUR_ADDRESS)
        self.uploads = Uploads(ours, self.bucket.bucket)
        self.say("account", "trail, identities, hosts", began)

    def _start_trail(self) -> None:
        named = self.plan.trail
        assert named is not None
        self.cloud.client("s3").create_bucket(Bucket=named.bucket)
        client = self.cloud.client("cloudtrail")
        client.create_trail(Name="studio", S3BucketName=named.bucket, S3KeyPrefix=named.prefix)
        values = [f"arn:aws:s3:::{self.bucket.bucket}/"]
        data = {"Type": "AWS::S3::Object", "Values": values}
        selector = {"ReadWriteType": "All", "DataResources": [data]}
        client.put_event_selectors(TrailName="studio", EventSelectors=[selector])
        client.start_logging(Name="studio")

    def _make_identities(self) -> dict[str, str]:
        """Every user and role that the plan names; a key of the one that uploads."""
        iam, keys = self.cloud.client("iam"), {}
        for identity in {it for one in self.plan.components.values() for it in one.identities}:
            kind, _, name = identity.partition("/")
            if kind == "user":
                iam.create_user(UserName=name)
                keys[identity] = iam.create_access_key(UserName=name)["AccessKey"]
            else:
                iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
        return dict(next(keys[it] for it in self.bucket.identities if it in keys))

    def _start_hosts(self) -> None:
        """An instance of each server of the plan, and the group that lets nothing through."""
        ec2 = self.cloud.client("ec2")
        for server in self.plan.components.values():
            if not isinstance(server, Server) or not server.quarantine_group:
                continue
            group = ec2.create_security_group(
                GroupName=server.quarantine_group, Description="lets nothing through"
            )["GroupId"]
            [found] = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
            ec2.revoke_security_group_egress(
                GroupId=group, IpPermissions=found["IpPermissionsEgress"]
            )
            ec2.run_instances(
                ImageId="ami-12c6146b", MinCount=1, MaxCount=1,
                TagSpecifications=[
                    {
                        "ResourceType": "instance",
                        "Tags": [{"Key": "Name", "Value": server.instance}],
                    }
                ],
            )  # fmt: skip

    def prepare(self) -> None:
        self._back_up_database()
        began = time.monotonic()
        for _ in range(UPLOADS):
            self.uploads.one()
        assert self.cloud.wait_idle(SETTLE_SECONDS)
        self.say("uploads", f"{UPLOADS} objects, each brought to the replica", began)
        began = time.monotonic()
        time.sleep(YOUNGER_SECONDS)
        told = self.invoke("sync", {"component": self.options.component})
        self.say("backup", told["found"], began)
        self.invoke("watch_bucket", {"component": self.options.component})
        self.before = self._settings()
        threading.Thread(target=self.uploads.keep_on, daemon=True).start()
        time.sleep(QUIET_SECONDS)

    def _back_up_database(self) -> None:
        """An older point and a newer one, which is under quarantine: nothing may restore it."""
        points = [self._take_point(), self._take_point()]
        self.invoke("watch", {"component": self.database_name})
        wanted = points if self.options.damage == NO_CLEAN_POINT else points[1:]
        for point in wanted:
            self.catalogue.quarantine(
                point, code="ransomware", reason=INFECTED, at=datetime.now(UTC)
            )
        self.clean_points = tuple(it for it in points if it not in wanted)
        self.quarantined_points = tuple(wanted)

    def _take_point(self) -> str:
        began, body = time.monotonic(), {"component": self.database_name}
        answer = self.invoke("back_up", body | {"kind": "full"})
        self.say("backup", answer["found"], began)
        self.invoke("fetch_wal", body)
        return str(answer["point"])

    @property
    def catalogue(self) -> StoredCatalogue:
        """Of the database, as a person sees it without the index."""
        client, bucket = self.cloud.client("s3"), self.deployed.names["BackupBucket"]
        store = S3ObjectStore(client, bucket, f"{self.database_name}/")
        return StoredCatalogue(store, self.database_name)

    def harm(self) -> tuple[Injected, ...]:
        began = time.monotonic()
        theirs = open_client(self.cloud, "s3", self.stolen, source=THEIR_ADDRESS)
        self.done: Done = attack(theirs, self.bucket.bucket, self.production.dsn(APPLICATION))
        what = (
            f"{len(self.done.encrypted)} objects encrypted, {len(self.done.deleted)} deleted,"
            f" {len(self.done.removed)} without their versions, {self.done.rows:,} rows scrambled"
        )
        self.say("damage", f"ransomware: {what}", began)
        # As the schedule would: a point of what the attack left.
        self.infected_point = self._take_point()
        if self.options.damage != NO_CLEAN_POINT:
            began = time.monotonic()
            dsn = self.production.dsn(SUPERUSER, "postgres")
            self.damaged_database = rename(dsn, DATABASE)
            found = f"the database is called {self.damaged_database}, another has its name"
            self.say("damage", found, began)
        self.injected = (self.done.injected,)
        return self.injected

    def notice(self) -> str:
        """Fire the watch's schedule, as the clock would, until its alarm opens an incident."""
        deadline = time.monotonic() + ALARM_SECONDS
        while time.monotonic() < deadline:
            assert self.cloud.wait_idle()
            self.cloud.fire(rule_name(self.plan, self.options.component, "watch-bucket"))
            self.cloud.wait_idle()
            incident = self.open_incident()
            if incident:
                return incident
        raise Unavailable(
            f"no alarm came of the attack within {ALARM_SECONDS:.0f} s",
            hint="look at what the function `watch_bucket` logged",
            code="damage-unnoticed",
            log=self.cloud.logs("watch_bucket")[-4000:],
        )

    def count(self, score: Scorecard, folder: Path) -> tuple[tuple[Fact, ...], list[str]]:
        self.uploads.stopping.set()
        if not score.serves:
            return super().count(score, folder)
        # What was committed after the last clean moment may be set aside; before it, not.
        self.injected = (replace(self.done.injected, at=self._infection()["last_clean"]),)
        facts, wrong = super().count(score, folder)
        found = self._count_uploads()
        wrong += found.wrong
        wrong += self._still_open() + self._changed_settings()
        return (*facts, *found.facts), wrong

    def _infection(self) -> dict[str, Any]:
        chain = self.records.read(self.open_incident())
        body = next(it.body for it in chain if it.kind == "infection")
        return body | {"last_clean": parse_time(body["last_clean"])}

    def _count_uploads(self) -> _Counted:
        last_clean = self._infection()["last_clean"]
        owed = {key: digest for key, digest, at in self.uploads.told if at <= last_clean}
        serves = self.bucket.bucket
        missing, theirs = [], []
        for key, digest in owed.items():
            if self._digest(serves, key) != digest:
                missing.append(key)
        rows = self.cloud.client("s3").list_objects_v2(Bucket=serves).get("Contents", ())
        theirs = [it["Key"] for it in rows if "DECRYPT" in it["Key"]]
        facts = (
            Fact("objects of the last clean moment lost", f"{len(missing)} of {len(owed)}", "0",
                 not missing),
            Fact("objects of the attacker's", str(len(theirs)), "0", not theirs),
            Fact("uploads refused while isolated", str(self.uploads.refused)),
        )  # fmt: skip
        wrong = [f"not as uploaded: {missing[:5]}"] if missing else []
        return _Counted(facts, wrong + ([f"the attacker's: {theirs}"] if theirs else []))

    def _digest(self, bucket: str, key: str) -> str:
        try:
            answer = self.cloud.client("s3").get_object(Bucket=bucket, Key=key)
        except ClientError:
            return ""
        return hashlib.sha256(answer["Body"].read()).hexdigest()

    def _still_open(self) -> list[str]:
        """What the stolen key still does."""
        theirs = open_client(self.cloud, "s3", self.stolen, source=THEIR_ADDRESS)
        try:
            theirs.put_object(Bucket=self.bucket.bucket, Key="again", Body=b"1")
        except ClientError:
            return []
        return ["the stolen key still writes"]

    def _settings(self) -> dict[str, Any]:
        client, bucket = self.cloud.client("s3"), self.bucket.bucket
        try:
            policy = client.get_bucket_policy(Bucket=bucket)["Policy"]
        except ClientError:
            policy = None
        status = client.get_bucket_versioning(Bucket=bucket).get("Status")
        return {"policy": policy, "versioning": status}

    def _changed_settings(self) -> list[str]:
        """The policy is what it was; what the attacker let expire does not."""
        wrong = []
        if self._settings()["policy"] != self.before["policy"]:
            wrong.append("the bucket's policy is not what it was")
        client = self.cloud.client("s3")
        rules = client.get_bucket_lifecycle_configuration(Bucket=self.bucket.bucket)["Rules"]
        if any(it["Status"] == "Enabled" for it in rules):
            wrong.append(f"versions still expire: {rules}")
        return wrong


@dataclass(frozen=True)
class _Counted:
    facts: tuple[Fact, ...]
    wrong: list[str]
