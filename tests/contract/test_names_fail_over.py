"""Names fail over by one object: real DNS queries, real health checks, the packaged template."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.resolver
import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.adapters.traffic.dns_client import NameServers
from chalicelib.adapters.traffic.switch_object import SwitchObject
from chalicelib.errors import Unavailable
from chalicelib.plan.components import NameRecord
from chalicelib.plan.model import Plan
from chalicelib.ports.traffic import Switch
from chalicelib.recover.sites.traffic import look, wait_for_site
from leeward.local.cloud import STANDBY_REGION, LocalCloud
from leeward.local.deploy import Stack
from leeward.packaging.names import check_outputs, names_template, switch_resources
from leeward.plan_file import load_plan
from tests.clouds import wait_for

PLAN = Path(__file__).parents[2] / "policies" / "plans" / "nexus-studio.yaml"
COMPONENT, ZONE, NAME = "nexus-names", "nexus-studio.io", "api.nexus-studio.io"
MAIN, SPARE = "192.0.2.11", "198.51.100.11"
FOREVER = 15.0
# Long enough for two answers of a check, which asks twice a second here.
SETTLE_SECONDS = 1.5


class Hasty(SystemClock):
    """Waits a tenth as long between two questions as the step does."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / 10)


HASTY = Hasty()


@dataclass
class Scene:
    """The cloud with the stacks of the standby region and of the names."""

    cloud: LocalCloud
    plan: Plan
    bucket: str
    checks: dict[str, str]

    @property
    def names(self) -> Any:
        return self.plan.components[COMPONENT]

    @property
    def records(self) -> tuple[NameRecord, ...]:
        records: tuple[NameRecord, ...] = self.names.records
        return records

    @property
    def resolver(self) -> NameServers:
        return NameServers(self.cloud.dns_address)

    @property
    def driver(self) -> SwitchObject:
        store = S3ObjectStore(self.cloud.client("s3", STANDBY_REGION), self.bucket)
        return SwitchObject(store, COMPONENT, home="primary", away="dr")

    def send(self, to: str) -> None:
        self.driver.switch(Switch(datetime.now(UTC), "", to, "run-test", "names"))

    def wait(self, site: str, *, limit_seconds: float = FOREVER) -> None:
        wait_for_site(
            self.resolver, ZONE, self.records, site, clock=HASTY, limit_seconds=limit_seconds
        )

    def values(self, name: str = NAME) -> tuple[str, ...]:
        [answer] = self.resolver.ask(ZONE, name, "A")
        assert answer.problem == ""
        return answer.values

    def put(self, **more: Any) -> None:
        self.cloud.client("s3", STANDBY_REGION).put_object(
            Bucket=self.bucket, Key=f"switch/{COMPONENT}", Body=b"{}", **more
        )


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    plan = load_plan(PLAN).plan
    with LocalCloud(schedules=False) as cloud:
        cloud.client("route53").create_hosted_zone(Name=f"{ZONE}.", CallerReference="test")
        template = {"Resources": switch_resources(plan), "Outputs": check_outputs(plan)}
        standby = Stack(cloud, template, STANDBY_REGION).apply()
        names = names_template(plan)
        assert names
        Stack(cloud, names, STANDBY_REGION, standby.outputs).apply()
        yield Scene(cloud, plan, standby.names["SwitchBucket"], standby.outputs)


@pytest.fixture(autouse=True)
def at_home(scene: Scene) -> None:
    scene.cloud.heal()
    scene.send("primary")
    scene.wait("primary")


def test_one_object_moves_every_name_and_its_removal_brings_them_back(scene: Scene) -> None:
    scene.send("dr")
    scene.wait("dr")
    assert scene.values() == (SPARE,)
    assert scene.values(ZONE) == ("198.51.100.10",)
    # The names for drills have an object of their own.
    assert scene.values("drill.nexus-studio.io") == ("192.0.2.12",)

    scene.send("primary")
    scene.wait("primary")
    assert scene.values() == (MAIN,)


def test_a_standby_region_that_is_lost_moves_nothing(scene: Scene) -> None:
    scene.cloud.fail(region=STANDBY_REGION)
    time.sleep(SETTLE_SECONDS)

    assert scene.values() == (MAIN,)


def test_a_primary_region_that_is_lost_does_not_matter(scene: Scene) -> None:
    for how in ("refuse", "error", "hang"):
        scene.cloud.heal()
        scene.cloud.fail(region="us-east-1", how=how)
        scene.send("dr")
        scene.wait("dr")
        scene.send("primary")
        scene.wait("primary")


def test_waiting_for_what_was_not_switched_ends_in_an_error(scene: Scene) -> None:
    with pytest.raises(Unavailable, match="api.nexus-studio.io: expected 198.51.100.11"):
        scene.wait("dr", limit_seconds=1)


def test_a_checker_reads_nothing_that_the_policy_does_not_name(scene: Scene) -> None:
    """An object under a KMS key, or read from anywhere else, would be no switch."""
    client = scene.cloud.client("s3", STANDBY_REGION)
    check = scene.checks["SwitchCheckNexusNames"]
    policy = json.loads(client.get_bucket_policy(Bucket=scene.bucket)["Policy"])
    allowed = next(it for it in policy["Statement"] if it["Effect"] == "Allow")

    scene.put(ServerSideEncryption="aws:kms")
    wait_for_status(scene, check, "403")
    assert scene.values() == (MAIN,)

    scene.put()
    scene.wait("dr")
    elsewhere = {"IpAddress": {"aws:SourceIp": ["203.0.113.0/24"]}}
    narrowed = policy | {"Statement": [allowed | {"Condition": elsewhere}]}
    client.put_bucket_policy(Bucket=scene.bucket, Policy=json.dumps(narrowed))
    scene.wait("primary")

    client.put_bucket_policy(
        Bucket=scene.bucket,
        Policy=json.dumps(
            policy | {"Statement": [{k: v for k, v in allowed.items() if k != "Condition"}]}
        ),
    )
    time.sleep(SETTLE_SECONDS)
    assert scene.values() == (MAIN,)  # public, so that Block Public Access takes it back

    client.put_bucket_policy(Bucket=scene.bucket, Policy=json.dumps(policy))


def wait_for_status(scene: Scene, check: str, wanted: str) -> None:
    def seen() -> bool:
        answer = scene.cloud.client("route53").get_health_check_status(HealthCheckId=check)
        [observation] = answer["HealthCheckObservations"]
        return wanted in observation["StatusReport"]["Status"]

    wait_for(seen, f"the check never said {wanted}")


def test_udp_and_tcp_say_the_same(scene: Scene) -> None:
    host, port = scene.cloud.dns_address.split(":")
    query = dns.message.make_query(NAME, "A")

    for ask in (dns.query.udp, dns.query.tcp):
        answer = ask(query, host, port=int(port), timeout=5)
        assert [it.to_text() for it in answer.answer] == [f"{NAME}. 60 IN A {MAIN}"]


def test_what_is_not_ours_is_refused_and_what_is_not_there_does_not_exist(scene: Scene) -> None:
    host, port = scene.cloud.dns_address.split(":")

    def code(name: str) -> str:
        query = dns.message.make_query(name, "A")
        return dns.rcode.to_text(dns.query.udp(query, host, port=int(port), timeout=5).rcode())

    assert code("example.net") == "REFUSED"
    assert code(f"nobody.{ZONE}") == "NXDOMAIN"
    assert scene.resolver.ask(ZONE, "example.net", "A")[0].problem == "REFUSED"


def test_a_server_that_does_not_answer_is_said_to_be_silent(scene: Scene) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        silent = NameServers(f"127.0.0.1:{deaf.getsockname()[1]}", timeout_seconds=0.1)

        seen = look(silent, ZONE, scene.records, "primary", clock=SystemClock())

    assert all("0 of 1 name servers answer" in it and "Timeout" in it for it in seen.wrong)


@contextmanager
def system_resolver(scene: Scene) -> Iterator[int]:
    """As if this machine's resolver were the cloud's server; yields its port."""
    host, port = scene.cloud.dns_address.split(":")
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [host], int(port)
    before, dns.resolver.default_resolver = dns.resolver.default_resolver, resolver
    yield int(port)
    dns.resolver.default_resolver = before


def test_the_zones_own_servers_are_found_by_its_delegation(scene: Scene) -> None:
    """Those whose address is not known are left out; without any there is nobody to ask."""
    client = scene.cloud.client("route53")
    with system_resolver(scene) as port:
        with pytest.raises(Unavailable, match="name servers of nexus-studio.io cannot be found"):
            NameServers(port=port).ask(ZONE, NAME, "A")

        delegated = str(dns.resolver.resolve(ZONE, "NS")[0].target).rstrip(".")
        parent = delegated.partition(".")[2]
        zone = client.create_hosted_zone(Name=parent, CallerReference=parent)["HostedZone"]["Id"]
        record = {
            "Name": delegated,
            "Type": "A",
            "TTL": 60,
            "ResourceRecords": [{"Value": "127.0.0.1"}],
        }
        client.change_resource_record_sets(
            HostedZoneId=zone,
            ChangeBatch={"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]},
        )
        [answer] = NameServers(port=port).ask(ZONE, NAME, "A")

    assert answer.values == (MAIN,)


def test_a_resolver_is_given_by_the_environment(scene: Scene) -> None:
    assert scene.cloud.environment()["LEEWARD_DNS"] == scene.cloud.dns_address


def test_a_new_inverted_check_counts_as_unhealthy_at_first(scene: Scene) -> None:
    """Why the record sets are a stack of their own: they would lead everybody away."""
    made = scene.cloud.client("route53").create_health_check(
        CallerReference="new",
        HealthCheckConfig={
            "Type": "HTTPS",
            "FullyQualifiedDomainName": f"{scene.bucket}.s3.{STANDBY_REGION}.amazonaws.com",
            "ResourcePath": "/switch/nothing",
            "Inverted": True,
            "RequestInterval": 30,
            "FailureThreshold": 3,
        },
    )["HealthCheck"]["Id"]

    assert not scene.cloud.health_checker.is_healthy(made)
    wait_for(lambda: scene.cloud.health_checker.is_healthy(made), "it never became healthy")


def test_switching_is_seen_within_the_checks_own_time(scene: Scene) -> None:
    """Two answers, ten seconds apart in AWS, twenty times as fast here."""
    started = datetime.now(UTC)
    scene.send("dr")
    scene.wait("dr")

    assert datetime.now(UTC) - started < timedelta(seconds=10)


def ask(scene: Scene, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("leeward")), "names", str(PLAN), *words],
        env=os.environ | {"LEEWARD_DNS": scene.cloud.dns_address},
        capture_output=True,
        text=True,
    )


def test_the_command_says_where_names_lead(scene: Scene) -> None:
    told = ask(scene, COMPONENT)
    assert told.returncode == 0, told.stderr
    assert f"{NAME} A leads to primary" in told.stdout

    scene.send("dr")
    scene.wait("dr")
    there = ask(scene, COMPONENT, "--site", "dr", "--format", "json")
    assert there.returncode == 0, there.stderr
    assert {it["leads_to"] for it in json.loads(there.stdout)["names"]} == {"dr"}

    wrong = ask(scene, "--site", "dr")
    assert wrong.returncode == 1
    assert "drill.nexus-studio.io" in wrong.stderr
    assert ask(scene, "nobody").returncode == ask(scene, "--site", "nowhere").returncode == 2
