"""Artist Tech's own server: PostgreSQL beside it, a host with its services, what lies on it.

For its two scenarios: a corrupted database, whose application is stopped and started by systemd on
the host, and a host that is lost with everything that lay on it.
"""

from __future__ import annotations

import json
import secrets
import time
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.folder.tree import FolderTree
from chalicelib.adapters.git.repository import GitRepository
from chalicelib.adapters.http.page import fetch_page
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.backup.take_files import take_files
from chalicelib.backup.take_git import take_git
from chalicelib.errors import LeewardError, NotReady
from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.components import Files, Postgres, Redis, Server
from chalicelib.plan.files import Selection
from chalicelib.plan.model import Plan
from chalicelib.services.jobs.taking import roots_of
from leeward.local.artisttech import (
    LEDGER,
    PORT,
    REDIS_PORT,
    UPLOADS,
    make_image,
    make_repository,
    set_up_host,
)
from leeward.local.cloud import PRIMARY_REGION, LocalCloud
from leeward.local.damage import Injected
from leeward.local.drill import Drill, Fact
from leeward.local.ledger import Reckoning, read_ledger, reckon
from leeward.local.production import SUPERUSER, Production, store_secrets
from leeward.local.sample_app import create_schema
from leeward.local.stages.database import (
    DAMAGES_TO_BACKUPS,
    DAMAGES_TO_PROBES,
    DatabaseDrill,
    facts_of,
    set_aside_assets,
    wrong_with,
)

START_SECONDS = 30.0
KEYS = 25


class ArtistStage(Drill):
    """What both scenarios need: production, the host, its load balancer, its backups."""

    @property
    def server(self) -> Server:
        found = self.plan.components["app-server"]
        assert found.kind == "server"
        return found

    @property
    def database(self) -> Postgres:
        found = self.plan.components["artist-db"]
        assert found.kind == "postgres"
        return found

    def open_cloud(self) -> LocalCloud:
        """The plan names what AWS gave its owner; here AWS gives other names."""
        cloud = LocalCloud(schedules=False)
        self._opened = cloud
        return cloud

    def _deploy(self) -> None:
        self._create_network()
        super()._deploy()

    def _create_network(self) -> None:
        """Security groups, target group, image, template, repository: the plan gets their names."""
        cloud = self._opened
        self.password = secrets.token_hex(12)
        self.repository, self.revision = make_repository(cloud.folder / "repository")
        ec2, elb = cloud.client("ec2"), cloud.client("elbv2")
        group = {
            name: ec2.create_security_group(GroupName=name, Description=name)["GroupId"]
            for name in ("artisttech", "artisttech-drill", "quarantine")
        }
        network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        targets = elb.create_target_group(
            Name="artisttech", Protocol="HTTP", Port=PORT, VpcId=network, HealthCheckPath="/health"
        )["TargetGroups"][0]["TargetGroupArn"]
        self.image_folder = make_image(cloud.folder / "image", password=self.password)
        template = {
            "ImageId": cloud.hosts.add_image("artisttech", self.image_folder),
            "InstanceType": "t3.small",
            "SecurityGroupIds": [group["artisttech"]],
        }
        for name, its_group in (
            ("app-server", "artisttech"),
            ("app-server-drill", "artisttech-drill"),
        ):
            server = self.plan.components[name]
            assert server.kind == "server"
            chosen = {"SecurityGroupIds": [group[its_group]]}
            ec2.create_launch_template(
                LaunchTemplateName=server.launch_template, LaunchTemplateData=template | chosen
            )
        data = self.plan.to_json()
        parts = data["components"]
        parts["app-server"] |= {
            "security_groups": [group["artisttech"]],
            "quarantine_group": group["quarantine"],
            "target_group": targets,
        }
        parts["app-server-drill"] |= {
            "security_groups": [group["artisttech-drill"]],
            "quarantine_group": group["quarantine"],
        }
        parts["code"]["repository"] = self.repository
        self.plan = Plan.from_json(data)

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        began = time.monotonic()
        self.production = Production(
            self.cloud.folder / "production",
            self.cloud.reaper,
            database=self.database.database,
            application=self.database.application_role,
        )
        stack.callback(self.production.stop)
        self.production.start()
        create_schema(
            self.production.dsn(self.database.application_role), projects=self.options.projects
        )
        self.say("production", f"PostgreSQL 17 on port {self.production.port}", began)
        deploying.result()
        store_secrets(
            self.cloud.client("secretsmanager"),
            self.production,
            operator=self.database.operator_secret,
            application=self.database.application_secret,
        )
        self._start_host()

    def _start_host(self) -> None:
        began = time.monotonic()
        self.host = self.launch("app-server")
        set_up_host(
            self.cloud.hosts.root(self.host),
            self.repository,
            self.revision,
            secret=self.database.application_secret,
            password=self.password,
        )
        self._fill_redis()
        self.cloud.client("elbv2").register_targets(
            TargetGroupArn=self.server.target_group, Targets=[{"Id": self.host}]
        )
        self.run_on_host(
            "cd /opt/artisttech; npm install; npm run build; "
            "systemctl enable --now artisttech; systemctl start nginx"
        )
        wait_until(lambda: self.page(self.host).get("healthy"), "the site did not come up")
        self.say("application", f"artisttech and nginx on {self.host}", began)

    def launch(self, component: str) -> str:
        """A running instance from the component's template, under its name."""
        server = self.plan.components[component]
        assert server.kind == "server"
        tags = [{"Key": "Name", "Value": server.instance}]
        instance = str(
            self.cloud.client("ec2", server.region or PRIMARY_REGION).run_instances(
                LaunchTemplate={"LaunchTemplateName": server.launch_template},
                MinCount=1,
                MaxCount=1,
                TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
            )["Instances"][0]["InstanceId"]
        )
        wait_until(lambda: self.cloud.hosts.is_online(instance), f"{instance} did not boot")
        return instance

    def _fill_redis(self) -> None:
        from redis import Redis as Client
        from redis.backoff import ConstantBackoff
        from redis.retry import Retry

        address = self.cloud.hosts.address(self.host)
        url = f"redis://:{self.password}@{address}:{REDIS_PORT}"
        found = self.plan.components["redis"]
        assert isinstance(found, Redis)
        self.cloud.client("secretsmanager").create_secret(
            Name=found.secret, SecretString=json.dumps({"url": url})
        )
        # The host is there before its server listens.
        patient = Retry(ConstantBackoff(0.2), retries=100)
        with Client.from_url(url, retry=patient) as client:
            for number in range(KEYS):
                client.set(f"session:{number}", f"artist {number}", ex=3600 + number)

    def run_on_host(self, script: str) -> str:
        """As its people do by hand. Raises NotReady when it fails."""
        status, output, errors = self.cloud.hosts.run(
            self.host, f"set -e\n{script}", limit_seconds=60
        )
        if status:
            raise NotReady(
                f"expected a command on the host to succeed, it ended with {status}: {errors}",
                code="host-command-failed",
                hint="look at what it says",
            )
        return output

    def page(self, host: str) -> dict[str, Any]:
        """What its /health says; {} when nobody answers."""
        try:
            _, body = fetch_page(
                f"http://{self.cloud.hosts.address(host)}:{PORT}/health", seconds=3
            )
            return dict(json.loads(body))
        except (LeewardError, ValueError):
            return {}

    def prepare(self) -> None:
        """The database's backups, and points of everything that lies on the host."""
        for job in ("full", "wal", "wal"):
            began = time.monotonic()
            event = {"component": "artist-db"} | ({"kind": job} if job == "full" else {})
            function = "back_up" if job == "full" else "fetch_wal"
            answer = self.invoke(function, event, region=PRIMARY_REGION)
            self.say("backup", answer["found"], began)
        began = time.monotonic()
        self.invoke("take", {"component": "redis", "kind": "dump"}, region=PRIMARY_REGION)
        for name in ("user-files", "configuration", "user-files"):
            self._take_files(name)
        repository = GitRepository(self.repository, inherited={})
        take_git(repository, *self._ports("code"), component="code", clock=SystemClock())
        self.say("backup", "folders, settings, code and Redis of the host", began)
        began = time.monotonic()
        answer = self.invoke("watch", {"component": "artist-db"}, region=PRIMARY_REGION)
        self.say("watch", answer["found"], began)

    def _take_files(self, name: str) -> None:
        """What `leeward take` does on the host, whose root lies elsewhere here."""
        found = self.plan.components[name]
        assert isinstance(found, Files)
        root, include = roots_of(found.paths)
        tree = FolderTree(self.cloud.hosts.root(self.host) / str(root).lstrip("/"))
        selection = Selection(include=include, exclude=found.exclude)
        take_files(
            tree,
            *self._ports(name),
            component=name,
            clock=SystemClock(),
            selection=selection,
            required=include,
        )

    def _ports(self, component: str) -> tuple[S3ObjectStore, StoredCatalogue]:
        bucket = self.deployed.names["BackupBucket"]
        store = S3ObjectStore(self.cloud.client("s3"), bucket, f"{component}/")
        index = DynamoDbState(self.cloud.client("dynamodb"), self.deployed.names["StateTable"])
        return store, StoredCatalogue(store, component, index=index)

    def reckon_ledger(self, hosts: list[str], *, dsn: str, aside: set[str]) -> Reckoning:
        """The ledgers that the application kept on these hosts, against the database."""
        entries = [
            entry for host in hosts for entry in read_ledger(self.cloud.hosts.root(host) / LEDGER)
        ]
        harm = self.injected[-1]
        return reckon(
            entries,
            dsn=dsn,
            set_aside_assets=aside,
            damaged_at=harm.at if harm.xid is not None else None,
            damaged_database=self.database.database,
        )

    injected: tuple[Injected, ...] = ()


class HostedDatabaseDrill(ArtistStage, DatabaseDrill):
    """A corrupted database whose application is units of a host."""

    damages: ClassVar[tuple[str, ...]] = tuple(
        name
        for name in DatabaseDrill.damages
        if name not in (*DAMAGES_TO_BACKUPS, *DAMAGES_TO_PROBES)
    )

    @classmethod
    def accepts(cls, plan: Plan, scenario: str) -> bool:
        services = [it for it in plan.components.values() if it.kind == "service"]
        hosted = any(it.units and it.on for it in services)
        return hosted and DatabaseDrill.accepts(plan, scenario)

    def prepare(self) -> None:
        self.backups, _ = self._ports(self.options.component)
        super().prepare()

    def count(self, score: Scorecard, folder: Path) -> tuple[tuple[Fact, ...], list[str]]:
        """The application serves from the recovered database, and lost nothing of its ledger."""
        health = self.page(self.host)
        self.run_on_host("systemctl stop nginx artisttech")
        used = health.get("database") or self.database.database
        dsn = self.production.dsn(SUPERUSER, used)
        self.reckoning = self.reckon_ledger([self.host], dsn=dsn, aside=set_aside_assets(folder))
        wrong = wrong_with(score, self.reckoning)
        if not health.get("healthy") or used == self.database.database:
            wrong.append(f"the application does not serve from the recovered database: {health}")
        return facts_of(self.reckoning), wrong


class ServerDrill(ArtistStage):
    """The host is lost; what lay on it must be on the new one."""

    damages: ClassVar[tuple[str, ...]] = (
        "host-lost",
        "host-hangs",
        "repository-gone",
        "copies-damaged",
    )

    @classmethod
    def accepts(cls, plan: Plan, scenario: str) -> bool:
        found = plan.scenarios[scenario]
        provisions = any(step.uses == "server.provision" for step in found.all_steps())
        return provisions and not found.loses and not found.returns_to

    def harm(self) -> tuple[Injected, ...]:
        """host-lost: its processes end and its disk is gone, the machine as EC2 knows it runs on.
        host-hangs: it answers nobody, and its disk is whole. repository-gone: with it the code's
        repository. copies-damaged: and the newest copy of the uploads is not what was stored."""
        began = time.monotonic()
        at = datetime.now(UTC)
        self.before = self.page(self.host)
        self.cloud.hosts.stop(self.host)
        if self.options.damage != "host-hangs":
            empty_disk(self.cloud.hosts.root(self.host), keep=LEDGER)
        if self.options.damage in ("repository-gone", "copies-damaged"):
            Path(self.repository.removeprefix("file://")).rename(self.cloud.folder / "gone.git")
        if self.options.damage == "copies-damaged":
            self._damage_newest("user-files")
        what = f"{self.host} is lost: {self.options.damage}"
        self.say("damage", what, began)
        self.injected = (Injected(self.options.damage, "server", what, at),)
        return self.injected

    def _damage_newest(self, name: str) -> None:
        """A byte in the middle of its archive is another one."""
        store, catalogue = self._ports(name)
        newest = max(
            (it.point for it in catalogue.holdings().standings), key=lambda it: it.taken_at
        )
        key = next(it.key for it in newest.objects if it.key.endswith("files.tar.zst"))
        data = bytearray(store.get(key))
        data[len(data) // 2] ^= 0xFF
        store.put(key, bytes(data))

    def count(self, score: Scorecard, folder: Path) -> tuple[tuple[Fact, ...], list[str]]:
        """The new host serves what the old one served, and the old one is kept and off."""
        new = self.instance_of_name()
        health = self.page(new) if new else {}
        dsn = self.production.dsn(SUPERUSER)
        self.cloud.hosts.stop(new or self.host)
        self.reckoning = self.reckon_ledger([self.host, new or self.host], dsn=dsn, aside=set())
        wrong = [
            f"{name} was {self.before.get(name)!r} and is {health.get(name)!r}"
            for name in ("revision", "greeting", "uploads", "keys")
            if self.before.get(name) != health.get(name)
        ]
        checks = {
            "the new server does not serve": bool(health.get("healthy")),
            "no other server has the name": bool(new) and new != self.host,
            f"the old server is {self._state_of(self.host)}": self._state_of(self.host)
            == "stopped",
            f"committed rows are lost: {self.reckoning.lost}": self.reckoning.ok,
            "the process list is another": not new or self._has_process_list(new),
        }
        wrong += [text for text, holds in checks.items() if not holds]
        uploads = Fact("uploads", str(health.get("uploads")), str(UPLOADS), not wrong)
        keys = Fact("keys of Redis", str(health.get("keys")), str(KEYS), not wrong)
        return (uploads, keys), wrong

    def instance_of_name(self) -> str:
        """The running instance that has the plan's name now."""
        filters = [
            {"Name": "tag:Name", "Values": [self.server.instance]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
        answer = self.cloud.client("ec2").describe_instances(Filters=filters)
        found = [it["InstanceId"] for part in answer["Reservations"] for it in part["Instances"]]
        return str(found[0]) if len(found) == 1 else ""

    def _state_of(self, instance: str) -> str:
        answer = self.cloud.client("ec2").describe_instances(InstanceIds=[instance])
        return str(answer["Reservations"][0]["Instances"][0]["State"]["Name"])

    def _has_process_list(self, host: str) -> bool:
        file = self.cloud.hosts.root(host) / "home/artisttech/.pm2/dump.pm2"
        return file.exists() and json.loads(file.read_text()) == [{"name": "artisttech"}]


def empty_disk(root: Path, *, keep: str) -> None:
    """A disk that is gone, but for what the drill itself needs to count with."""
    import shutil

    kept = (root / keep).read_bytes()
    shutil.rmtree(root)
    (root / keep).parent.mkdir(parents=True)
    (root / keep).write_bytes(kept)


def wait_until(holds: Any, problem: str, seconds: float = START_SECONDS) -> None:
    """Raises NotReady (code "stage-not-set")."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise NotReady(problem, code="stage-not-set", hint="look at the host's logs")
        time.sleep(0.05)
