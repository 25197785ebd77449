"""The other drivers of names: routing controls, changed records, a load balancer's targets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.traffic.dns_client import NameServers
from chalicelib.adapters.traffic.load_balancer import LoadBalancerTargets
from chalicelib.adapters.traffic.record_change import RecordChanges
from chalicelib.adapters.traffic.routing_control import RoutingControls, connect_endpoint
from chalicelib.errors import BadInput, NotReady, Refused, Unavailable
from chalicelib.plan.components import NameRecord
from chalicelib.ports.traffic import Switch
from leeward.local.cloud import LocalCloud
from leeward.local.routing_control import REGIONS, RoutingCluster
from tests.clouds import wait_for

ARN = "arn:aws:route53-recovery-control::123456789012:controlpanel/panel/routingcontrol/"
CONTROLS = {"main": f"{ARN}main", "spare": f"{ARN}spare"}
ZONE = "example.org"
MAIN, SPARE = "192.0.2.1", "192.0.2.2"


def to(site: str, came_from: str = "") -> Switch:
    return Switch(datetime.now(UTC), came_from, site, "run-test", "names")


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as started:
        yield started


@pytest.fixture(scope="module")
def zone(cloud: LocalCloud) -> str:
    made = cloud.client("route53").create_hosted_zone(Name=f"{ZONE}.", CallerReference="test")
    return str(made["HostedZone"]["Id"]).rpartition("/")[2]


def driver_of(cluster: RoutingCluster) -> RoutingControls:
    return RoutingControls(CONTROLS, cluster.endpoints, connect_endpoint)


def test_routing_controls_are_turned_in_one_call() -> None:
    with RoutingCluster(CONTROLS.values()) as cluster:
        driver = driver_of(cluster)
        assert driver.state() == ""

        driver.switch(to("main"))
        assert driver.state() == "main"
        before = len(cluster.asked)
        driver.switch(to("spare"))

        assert [operation for _, operation in cluster.asked[before:]] == [
            "UpdateRoutingControlStates"
        ]
        assert driver.state() == "spare"
        assert cluster.states == {CONTROLS["main"]: "Off", CONTROLS["spare"]: "On"}


def test_one_endpoint_of_five_is_enough() -> None:
    with RoutingCluster(CONTROLS.values(), partitioned=True) as cluster:
        for region in REGIONS[:4]:
            cluster.kill(region)

        driver_of(cluster).switch(to("spare"))

        assert cluster.is_on(CONTROLS["spare"])
        assert {region for region, _ in cluster.asked} == {REGIONS[4]}


def test_a_cluster_without_quorum_or_without_endpoints_changes_nothing() -> None:
    with RoutingCluster(CONTROLS.values()) as cluster:
        driver = driver_of(cluster)
        for region in REGIONS[:3]:
            cluster.kill(region)
        with pytest.raises(Unavailable) as no_quorum:
            driver.switch(to("spare"))
        for region in REGIONS[3:]:
            cluster.kill(region)
        with pytest.raises(Unavailable) as nobody:
            driver.switch(to("spare"))

        assert no_quorum.value.instance_code == nobody.value.instance_code == "no-endpoint"
        assert all(region in nobody.value.message for region in REGIONS)
        assert not cluster.is_on(CONTROLS["spare"])


def test_a_safety_rule_is_not_asked_again_elsewhere() -> None:
    with RoutingCluster(CONTROLS.values()) as cluster:
        driver = driver_of(cluster)
        driver.switch(to("main"))
        cluster.forbid(CONTROLS["spare"])
        before = len(cluster.asked)

        with pytest.raises(Refused) as refused:
            driver.switch(to("spare"))

        assert refused.value.instance_code == "safety-rule"
        assert len(cluster.asked) == before + 1
        assert driver.state() == "main"


def test_routing_controls_lead_names(cloud: LocalCloud, zone: str) -> None:
    """The health check of a routing control, and what the name server answers for it."""
    client = cloud.client("route53")
    with RoutingCluster(CONTROLS.values()) as cluster:
        cloud.clusters.append(cluster)
        driver = driver_of(cluster)
        driver.switch(to("main"))
        for site, address, role in (("main", MAIN, "PRIMARY"), ("spare", SPARE, "SECONDARY")):
            check = client.create_health_check(
                CallerReference=site,
                HealthCheckConfig={
                    "Type": "RECOVERY_CONTROL",
                    "RoutingControlArn": CONTROLS[site],
                },
            )["HealthCheck"]["Id"]
            create(
                client,
                zone,
                f"arc.{ZONE}",
                address,
                SetIdentifier=site,
                Failover=role,
                HealthCheckId=check,
            )
        assert values(cloud, f"arc.{ZONE}") == (MAIN,)

        driver.switch(to("spare"))

        assert values(cloud, f"arc.{ZONE}") == (SPARE,)
        cloud.clusters.remove(cluster)


def create(client: Any, zone: str, name: str, value: str, **more: Any) -> None:
    record = {"Name": name, "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": value}], **more}
    changes = [{"Action": "CREATE", "ResourceRecordSet": record}]
    client.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})


def values(cloud: LocalCloud, name: str) -> tuple[str, ...]:
    [answer] = NameServers(cloud.dns_address).ask(ZONE, name, "A")
    return answer.values


def records_of(*names: str) -> tuple[NameRecord, ...]:
    answers = {"main": (MAIN,), "spare": (SPARE,)}
    return tuple(NameRecord(name=name, answers=answers) for name in names)


def test_records_change_in_one_batch_and_back(cloud: LocalCloud, zone: str) -> None:
    records = records_of(f"one.{ZONE}", f"two.{ZONE}")
    driver = RecordChanges(cloud.client("route53"), zone, records, clock=SystemClock())
    assert driver.state() == ""

    driver.switch(to("main"))
    driver.switch(to("main"))
    assert driver.state() == "main"
    driver.switch(to("spare", "main"))

    assert driver.state() == "spare"
    assert values(cloud, f"one.{ZONE}") == values(cloud, f"two.{ZONE}") == (SPARE,)


def test_a_batch_with_a_bad_record_changes_none(cloud: LocalCloud, zone: str) -> None:
    """Nor does a region that does not answer: nothing is half changed."""
    client = cloud.client("route53")
    good = RecordChanges(client, zone, records_of(f"three.{ZONE}"), clock=SystemClock())
    good.switch(to("main"))
    bad = RecordChanges(
        client, zone, records_of(f"three.{ZONE}", "three..wrong"), clock=SystemClock()
    )

    with pytest.raises(NotReady):
        bad.switch(to("spare"))
    cloud.fail(region="us-east-1", services=("route53",))
    with pytest.raises(Unavailable):
        good.switch(to("spare"))
    cloud.heal()

    assert good.state() == "main"


def test_records_without_an_answer_for_a_site_are_not_touched(cloud: LocalCloud, zone: str) -> None:
    driver = RecordChanges(
        cloud.client("route53"), zone, records_of(f"four.{ZONE}"), clock=SystemClock()
    )

    with pytest.raises(BadInput):
        driver.switch(to("third"))
    assert driver.state() == ""


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def serving(address: str, port: int = 0) -> Iterator[int]:
    with ThreadingHTTPServer((address, port), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_port
        server.shutdown()


OLD, NEW = "127.0.0.1", "127.0.0.2"


@pytest.fixture
def group(cloud: LocalCloud) -> Iterator[tuple[str, int]]:
    """A target group whose old target serves: (ARN, port)."""
    vpc = cloud.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    client = cloud.client("elbv2")
    with serving(OLD) as port:
        arn = client.create_target_group(
            Name=f"web-{port}", Protocol="HTTP", Port=port, VpcId=vpc, TargetType="ip"
        )["TargetGroups"][0]["TargetGroupArn"]
        client.register_targets(TargetGroupArn=arn, Targets=[{"Id": OLD}])
        yield arn, port


def balancer(cloud: LocalCloud, group: str, seconds: float = 20.0) -> LoadBalancerTargets:
    targets = {"main": (OLD,), "spare": (NEW,)}
    return LoadBalancerTargets(
        cloud.client("elbv2"), group, targets, clock=SystemClock(), limit_seconds=seconds
    )


def test_new_targets_are_healthy_before_the_old_go(
    cloud: LocalCloud, group: tuple[str, int]
) -> None:
    arn, port = group
    driver = balancer(cloud, arn)
    assert driver.state() == "main"
    with ExitStack() as stack:
        late = threading.Timer(1.0, lambda: stack.enter_context(serving(NEW, port)))
        late.start()

        moved = driver.switch(to("spare", "main"))

        assert driver.state() == "spare"
        assert OLD in moved.undo
        driver.switch(to("spare"))
        driver.switch(to("main"))
        assert driver.state() == "main"


def test_old_targets_stay_while_the_new_do_not_serve(
    cloud: LocalCloud, group: tuple[str, int]
) -> None:
    arn, _ = group
    driver = balancer(cloud, arn, seconds=1)

    with pytest.raises(Unavailable) as error:
        driver.switch(to("spare"))

    assert error.value.instance_code == "targets-not-healthy"
    assert NEW in error.value.message
    assert driver.state() == ""  # half of each is no site
    registered = cloud.client("elbv2").describe_target_health(TargetGroupArn=arn)
    states = {
        it["Target"]["Id"]: it["TargetHealth"]["State"]
        for it in registered["TargetHealthDescriptions"]
    }
    assert states == {OLD: "healthy", NEW: "unhealthy"}


def test_a_check_that_flaps_is_believed_after_its_threshold(cloud: LocalCloud, zone: str) -> None:
    """Two answers of three in a row: what comes and goes in between moves nobody."""
    client = cloud.client("route53")
    flips = Flipping()
    with ThreadingHTTPServer((OLD, 0), flips.handler()) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        check = client.create_health_check(
            CallerReference="flapping",
            HealthCheckConfig={
                "Type": "HTTP",
                "IPAddress": OLD,
                "Port": server.server_port,
                "ResourcePath": "/",
                "RequestInterval": 10,
                "FailureThreshold": 3,
            },
        )["HealthCheck"]["Id"]
        wait_for(lambda: flips.asked >= 8, "the checker did not ask", seconds=30)
        assert cloud.health_checker.is_healthy(check)

        flips.fails_for_good = True
        wait_for(lambda: not cloud.health_checker.is_healthy(check), "it stayed healthy")
        server.shutdown()


class Flipping:
    """Answers 200 and 503, two of each in turn."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails_for_good = False

    def handler(self) -> type[BaseHTTPRequestHandler]:
        flips = self

        class Handler(Page):
            def do_GET(self) -> None:
                flips.asked += 1
                well = flips.asked % 4 < 2 and not flips.fails_for_good
                self.send_response(200 if well else 503)
                self.end_headers()

        return Handler
