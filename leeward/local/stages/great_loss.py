"""Artist Tech's primary site is lost as a whole; its secondary site takes over.

Production: as in artist.py, in us-east-1. Elsewhere: an image and a launch template, an empty
database server and a Terraform project in us-west-2, names that a health check moves, and the
copies in the plan's remote location.

That location lies in us-east-1 too (an assumption of the plan): no part of the lost site, and yet
beside its servers. `site-lost` takes everything in that region but the storage and the keys of the
copies; a plan whose only remote copies are in a region does not survive that region.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from chalicelib.adapters.traffic.dns_client import NameServers
from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.components import Names, Postgres, Redis, Server
from chalicelib.plan.model import Plan
from chalicelib.plan.records import parse_time
from chalicelib.recover.sites.servers import RUN_TAG
from leeward.local.artisttech import LEDGER, UPLOADS
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION
from leeward.local.damage import Injected
from leeward.local.drill import Fact
from leeward.local.infrastructure import create_projects
from leeward.local.ledger import read_ledger
from leeward.local.production import SUPERUSER, Production, store_secrets
from leeward.local.stages.artist import KEYS, ArtistStage, empty_disk, wait_until

# What stays of the region is S3 and KMS: where the copies are, and what opens them.
LOST_SERVICES = (
    "codebuild",
    "dynamodb",
    "ec2",
    "elasticloadbalancing",
    "events",
    "lambda",
    "logs",
    "monitoring",
    "secretsmanager",
    "ssm",
    "states",
)


class GreatLossDrill(ArtistStage):
    """See the module."""

    damages: ClassVar[tuple[str, ...]] = ("site-lost",)

    @classmethod
    def accepts(cls, plan: Plan, scenario: str) -> bool:
        """A lost site whose application and database are made anew at another, on a server."""
        uses = {step.uses for step in plan.scenarios[scenario].all_steps()}
        wanted = {"infrastructure.provision", "server.provision", "database.load"}
        return plan.runs_in_standby(scenario) and wanted <= uses

    @property
    def spare_server(self) -> Server:
        found = self.plan.components["app-server-secondary"]
        assert isinstance(found, Server)
        return found

    @property
    def names_there(self) -> Names:
        found = self.plan.components["names-secondary"]
        assert isinstance(found, Names)
        return found

    def _create_network(self) -> None:
        """Here, and at the secondary site: its groups, the same image, a template."""
        super()._create_network()
        cloud = self._opened
        ec2 = cloud.client("ec2", STANDBY_REGION)
        group, quarantine = (
            ec2.create_security_group(GroupName=name, Description=name)["GroupId"]
            for name in ("artisttech", "quarantine")
        )
        image = cloud.hosts.add_image("artisttech", self.image_folder, region=STANDBY_REGION)
        template = {
            "ImageId": image,
            "InstanceType": "t3.small",
            "SecurityGroupIds": [group],
        }
        data = self.plan.to_json()
        for name in ("app-server-secondary", "app-server-secondary-drill"):
            server = data["components"][name]
            ec2.create_launch_template(
                LaunchTemplateName=server["launch_template"], LaunchTemplateData=template
            )
            server |= {"security_groups": [group], "quarantine_group": quarantine}
        self.plan = Plan.from_json(data)

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        super().start_parts(stack, deploying)
        began = time.monotonic()
        found = self.plan.components["artist-db-secondary"]
        assert isinstance(found, Postgres)
        self.spare = Production(
            self.cloud.folder / "spare",
            self.cloud.reaper,
            database=found.database,
            application=found.application_role,
        )
        stack.callback(self.spare.stop)
        self.spare.start()
        self._store_logins(found)
        create_projects(self.cloud, self.plan)
        self.say(
            "production",
            f"the secondary site: an empty PostgreSQL 17 on port {self.spare.port}",
            began,
        )
        wait_until(lambda: self._answer() == self._wanted("primary"), "names lead elsewhere")

    def _store_logins(self, spare: Postgres) -> None:
        """Those of the lost site in both regions, as replicated secrets are."""
        there = self.cloud.client("secretsmanager", STANDBY_REGION)
        for found, server in ((self.database, self.production), (spare, self.spare)):
            store_secrets(
                there,
                server,
                operator=found.operator_secret,
                application=found.application_secret,
            )
        redis = self.plan.components["redis"]
        assert isinstance(redis, Redis)
        here = self.cloud.client("secretsmanager")
        here.replicate_secret_to_regions(
            SecretId=redis.secret, AddReplicaRegions=[{"Region": STANDBY_REGION}]
        )

    def harm(self) -> tuple[Injected, ...]:
        """Servers, disks, database and what ran in the region, at once."""
        began, at = time.monotonic(), datetime.now(UTC)
        self.before = self.page(self.host)
        self.cloud.fail(region=PRIMARY_REGION, services=LOST_SERVICES, how="hang")
        self.cloud.hosts.stop(self.host)
        self.production.stop()
        empty_disk(self.cloud.hosts.root(self.host), keep=LEDGER)
        rest = f"{PRIMARY_REGION} but for the copies"
        what = f"the primary site is lost: {self.host}, the database, {rest}"
        self.say("damage", f"{self.options.damage}: {what}", began)
        self.injected = (Injected(self.options.damage, "site", what, at),)
        return self.injected

    def count(self, score: Scorecard, folder: Path) -> tuple[tuple[Fact, ...], list[str]]:
        """What the secondary site serves against what the primary one served."""
        if not score.serves:
            return (), []
        new = self._launched(score.run_id)
        health = self.page(new) if new else {}
        if new:
            self.cloud.hosts.stop(new)
        wrong = [
            f"{name} was {self.before.get(name)!r} and is {health.get(name)!r}"
            for name in ("revision", "greeting", "uploads", "keys")
            if self.before.get(name) != health.get(name)
        ]
        if not health.get("healthy"):
            wrong.append(f"the application does not serve at the secondary site: {health}")
        facts = [
            Fact("uploads", str(health.get("uploads")), str(UPLOADS), not wrong),
            Fact("keys of Redis", str(health.get("keys")), str(KEYS), not wrong),
        ]
        if self._step_of("names.switch"):
            leads = self._answer() == self._wanted("secondary")
            facts.append(Fact("names lead to", str(self._answer()), "secondary", leads))
            wrong += [] if leads else [f"names lead to {self._answer()}"]
        lost, more = self._lost(folder, str(health.get("database", "")), new)
        return (*facts, lost), [*wrong, *more]

    def _lost(self, folder: Path, database: str, new: str) -> tuple[Fact, list[str]]:
        """Of what an application was told is committed: of the lost one nothing from before the
        copies' end, of the new one nothing at all."""
        import psycopg

        until = _recovered_until(folder, self._step_of("database.replay"))
        with psycopg.connect(self.spare.dsn(SUPERUSER, database)) as connection:
            present = {path for (path,) in connection.execute("SELECT path FROM assets")}
        old = read_ledger(self.cloud.hosts.root(self.host) / LEDGER)
        own = read_ledger(self.cloud.hosts.root(new) / LEDGER) if new else []
        missing = [it for it in old if it["asset"] not in present]
        wrong = []
        if early := [it for it in missing if parse_time(it["committed_at"]) < until]:
            wrong.append(f"lost, and older than the copies' end {until}: {early[:5]}")
        if gone := [it for it in own if it["asset"] not in present]:
            wrong.append(f"lost of the secondary site's own: {gone[:5]}")
        if not own:
            wrong.append("the secondary site wrote nothing")
        told = f"{len(missing)} of {len(old):,}, all after {until:%H:%M:%S}"
        return Fact("committed rows lost", told, "those after the last copy", not wrong), wrong

    def _launched(self, run_id: str) -> str:
        """The one running instance at the secondary site that the run launched."""
        filters = [
            {"Name": f"tag:{RUN_TAG}", "Values": [run_id]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
        client = self.cloud.client("ec2", STANDBY_REGION)
        answer = client.describe_instances(Filters=filters)
        found = [it["InstanceId"] for part in answer["Reservations"] for it in part["Instances"]]
        return str(found[0]) if len(found) == 1 else ""

    def _step_of(self, uses: str) -> str:
        """The name of the scenario's step of a kind, "" when it has none."""
        steps = self.plan.scenarios[self.options.scenario].all_steps()
        return next((step.name for step in steps if step.uses == uses), "")

    def _answer(self) -> tuple[str, ...]:
        record = self.names_there.records[0]
        servers = NameServers(self.cloud.dns_address)
        return servers.ask(self.names_there.zone, record.name, record.type)[0].values

    def _wanted(self, site: str) -> tuple[str, ...]:
        return tuple(self.names_there.records[0].answers[site])


def _recovered_until(folder: Path, replay: str) -> datetime:
    """The last commit of the database that came back, as its replay measured it; now when that is
    not known, so that a run which measured nothing excuses no lost row."""
    for file in (folder / "records").glob("*.json"):
        record = json.loads(file.read_text())
        at = record["body"].get("last_commit_recovered_at")
        if (record["kind"], record["step"]) == ("data-loss", replay) and at:
            return parse_time(at)
    return datetime.now(UTC)
