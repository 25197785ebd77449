"""A lost region: servers, clusters and API gone at once; the standby region recovers.

Production: a database in the primary region, the application's pods in a cluster there, names that
lead to them. Elsewhere: copies of the backups in other clouds, an empty database server and an
empty cluster in the standby region, a Terraform project that makes the rest.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.adapters.traffic.dns_client import NameServers
from chalicelib.errors import NotReady, Unavailable
from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.components import Bucket, Names, Postgres, Service
from chalicelib.plan.model import Plan
from chalicelib.plan.records import parse_time
from chalicelib.services.steps.acting import choose_target
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION, LocalCloud
from leeward.local.damage import Injected
from leeward.local.drill import Drill, Fact
from leeward.local.faults import How
from leeward.local.infrastructure import create_projects
from leeward.local.kubernetes.stage import local_clusters
from leeward.local.ledger import read_ledger
from leeward.local.locations import (
    create_application_buckets,
    start_locations,
    startable_locations,
)
from leeward.local.production import APPLICATION, Production, store_secrets
from leeward.local.sample_app import create_schema

HOW: dict[str, How] = {
    "region-hangs": "hang",
    "region-refuses": "refuse",
    "region-answers-503": "error",
}
SETTLE_SECONDS = 20.0


class SiteLossDrill(Drill):
    """See the module. `home`: the database that is lost; `spare`: the one that takes its place."""

    damages: ClassVar[tuple[str, ...]] = tuple(HOW)

    @classmethod
    def accepts(cls, plan: Plan, scenario: str) -> bool:
        """A scenario that makes a site anew, in AWS, with a database and a cluster."""
        uses = {step.uses for step in plan.scenarios[scenario].all_steps()}
        wanted = {"infrastructure.provision", "database.load", "service.apply", "names.switch"}
        return plan.runs_in_standby(scenario) and wanted <= uses

    @property
    def site(self) -> str:
        return self.plan.scenarios[self.options.scenario].recovers_at(self.plan.sites)

    def _first(self, kind: type[Any]) -> str:
        """The name of the scenario's component of a kind."""
        restored = self.plan.scenarios[self.options.scenario].restored_components()
        named = (it for it in self.plan.components if it in restored)
        return next(it for it in named if isinstance(self.plan.components[it], kind))

    def there(self, component: str, *, drill: bool = False) -> str:
        """What takes a component's place in the run."""
        return choose_target(self.plan, component, site=self.site, drill=drill)

    def set_stage(self, stack: ExitStack) -> None:
        """Raises NotReady (code "no-emulator"), before anything is started."""
        if not startable_locations(self.plan):
            raise NotReady(
                "expected the emulator of another cloud on this machine, found none",
                hint="`make setup` installs them; all other copies are lost with the region",
                code="no-emulator",
            )
        self._stack = stack
        super().set_stage(stack)

    def _deploy(self) -> None:
        """The clusters first: their addresses are the plan's."""
        clusters = local_clusters(self.cloud, self.plan, rate=self.options.rate / 3)
        self.clusters = self._stack.enter_context(clusters)
        address = self._stack.enter_context(_bucket_health(self.cloud, self.clusters.plan))
        self.plan = _with_bucket_health(self.clusters.plan, address)
        super()._deploy()

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        self.home, self.spare, self.staging = (
            Production(self.cloud.folder / name, self.cloud.reaper)
            for name in ("production", "spare", "staging")
        )
        for server in (self.home, self.spare, self.staging):
            stack.callback(server.stop)
        began = time.monotonic()
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(Production.start, (self.home, self.spare, self.staging)))
        create_schema(self.home.dsn(APPLICATION), projects=self.options.projects)
        rows = f"{self.options.projects:,} projects, {self.options.projects * 4:,} assets"
        self.say("production", f"PostgreSQL 17 on port {self.home.port}, {rows}", began)
        deploying.result()
        self._store_logins()
        create_application_buckets(self.cloud, self.plan)
        create_projects(self.cloud, self.plan)
        self.clusters.store_manifests(self.cloud)
        self._start_locations()
        began = time.monotonic()
        self.clusters.deploy()
        self.say("application", f"its pods write, {self._address(self._first(Service))}", began)
        self._wait_for_names("primary")

    def _store_logins(self) -> None:
        """Each where it is read: the lost one in both regions, as a replicated secret is."""
        database = self._first(Postgres)
        places = (
            (database, self.home, (PRIMARY_REGION, STANDBY_REGION)),
            (self.there(database), self.spare, (STANDBY_REGION,)),
            (self.there(database, drill=True), self.staging, (STANDBY_REGION,)),
        )
        for name, server, regions in places:
            found = self.plan.components[name]
            assert isinstance(found, Postgres)
            for region in regions:
                store_secrets(
                    self.cloud.client("secretsmanager", region),
                    server,
                    operator=found.operator_secret,
                    application=found.application_secret,
                )

    def _start_locations(self) -> None:
        began = time.monotonic()
        self.others = start_locations(self.cloud, self.plan)
        here, there = (self.cloud.client("secretsmanager", it) for it in self.cloud.regions)
        for name in self.others:
            secret = str(self.plan.locations[name].secret)
            login = here.get_secret_value(SecretId=secret)["SecretString"]
            there.create_secret(Name=secret, SecretString=login)
        self.say("cloud", f"copies in {', '.join(self.others)}", began)

    def prepare(self) -> None:
        """A full backup and WAL, then a copy of both in each other cloud."""
        component = self._first(Postgres)
        jobs: list[tuple[str, dict[str, Any]]] = [
            ("back_up", {"kind": "full"}),
            ("fetch_wal", {}),
            ("watch", {}),
            *(("copy", {"location": it}) for it in self.others),
        ]
        for function, more in jobs:
            began = time.monotonic()
            event = {"component": component} | more
            answer = self.invoke(function, event, region=PRIMARY_REGION)
            self.say("backup", answer["found"], began)

    def harm(self) -> tuple[Injected, ...]:
        """Everything of the region at once, and then whatever pods were in the middle of."""
        began, at = time.monotonic(), datetime.now(UTC)
        how = HOW[self.options.damage]
        self.cloud.fail(region=PRIMARY_REGION, how=how)
        self.home.stop()
        self.clusters.of(self._first(Service)).stop()
        what = f"{PRIMARY_REGION} is lost: its API ({how}), its database, its cluster"
        self.say("damage", f"{self.options.damage}: {what}", began)
        return (Injected(self.options.damage, "region", what, at),)

    def count(self, score: Scorecard, folder: Path) -> tuple[tuple[Fact, ...], list[str]]:
        """Where names lead, whether the application writes there, and what was lost."""
        if not score.serves:
            return (), []
        wrong, facts = [], []
        names = self.there(self._first(Names))
        answers = self._answers(names)
        if answers != self._wanted(names, self.site):
            wrong.append(f"names lead to {answers}")
        facts.append(Fact("names lead to", self.site, self.site, not wrong))
        health = _ask(self._address(self.there(self._first(Service))))
        if not health.get("healthy"):
            wrong.append(f"the application does not serve: {health}")
        facts.append(Fact("application", "serves and writes", "serves", bool(health)))
        lost, more = self._lost(folder, str(health.get("database", "")))
        return (*facts, lost), [*wrong, *more]

    def _lost(self, folder: Path, database: str) -> tuple[Fact, list[str]]:
        """Of what the lost pods were told is committed: nothing from before the copy's end."""
        import psycopg

        ledgers = list((self.cloud.folder / "ledgers").glob("*.jsonl"))
        entries = [it for file in ledgers for it in read_ledger(file)]
        with psycopg.connect(self.spare.dsn(APPLICATION, database)) as connection:
            present = {path for (path,) in connection.execute("SELECT path FROM assets")}
        missing = [it for it in entries if it["asset"] not in present]
        until = _recovered_until(folder)
        early = [it for it in missing if datetime.fromisoformat(it["committed_at"]) < until]
        told = f"{len(missing)} of {len(entries):,}, all after {until:%H:%M:%S}"
        wrong = [f"lost, and older than the copy's end: {early[:5]}"] if early else []
        return Fact("committed rows lost", told, "those after the last copy", not early), wrong

    def _answers(self, names: str) -> dict[str, tuple[str, ...]]:
        found = self.plan.components[names]
        assert isinstance(found, Names)
        servers = NameServers(self.cloud.dns_address)
        asked = {it.name: servers.ask(found.zone, it.name, it.type) for it in found.records}
        return {name: answers[0].values for name, answers in asked.items()}

    def _wanted(self, names: str, site: str) -> dict[str, tuple[str, ...]]:
        found = self.plan.components[names]
        assert isinstance(found, Names)
        return {it.name: it.answers[site] for it in found.records}

    def _wait_for_names(self, site: str) -> None:
        names = self.there(self._first(Names))
        deadline = time.monotonic() + SETTLE_SECONDS
        while self._answers(names) != self._wanted(names, site):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the names never led to {site}: {self._answers(names)}",
                    hint="look at the health checks of the local cloud",
                    code="names-unsettled",
                )
            time.sleep(0.1)

    def _address(self, service: str) -> str:
        return self.clusters.of(service).address_of(service)


@contextmanager
def _bucket_health(cloud: LocalCloud, plan: Plan) -> Iterator[str]:
    """What serves the assets of each bucket, and is healthy while the bucket can be listed."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self._is_listed() else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _is_listed(self) -> bool:
            found = plan.components.get(self.path.strip("/"))
            try:
                assert isinstance(found, Bucket)
                cloud.client("s3").list_objects_v2(Bucket=found.bucket, MaxKeys=1)
            except (BotoCoreError, ClientError):
                return False
            return True

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _with_bucket_health(plan: Plan, address: str) -> Plan:
    components = {
        name: it.model_copy(update={"health": f"{address}/{name}"})
        if isinstance(it, Bucket) and it.health
        else it
        for name, it in plan.components.items()
    }
    return plan.model_copy(update={"components": components})


def _ask(address: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return dict(json.load(answer))
    except (urllib.error.URLError, OSError):
        return {}


def _recovered_until(folder: Path) -> datetime:
    """The last commit that the recovered database has, as the run measured it."""
    for file in sorted((folder / "records").glob("*.json"), reverse=True):
        record = json.loads(file.read_text())
        at = record["body"].get("last_commit_recovered_at")
        if record["kind"] == "data-loss" and at:
            return parse_time(at)
    return datetime.now(UTC)
