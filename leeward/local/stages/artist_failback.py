"""Artist Tech's way back: its site is lost, the secondary one serves, and the site comes back.

As great_loss.py, and then: the region answers again with its old database, whose servers are gone;
people have uploaded and logged in at the secondary site. What is drilled is the scenario that goes
home from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from chalicelib.errors import CheckFailed
from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.components import Postgres, Redis
from chalicelib.plan.model import Plan
from chalicelib.recover.sites.failback import EARLY
from leeward.local.artisttech import LEDGER, REDIS_PORT, UPLOADS
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION
from leeward.local.damage import Injected
from leeward.local.drill import DrillOptions, Fact, Told
from leeward.local.ledger import read_ledger
from leeward.local.production import SUPERUSER, store_secrets
from leeward.local.stages.artist import KEYS
from leeward.local.stages.great_loss import GreatLossDrill

# What the application at the secondary site is given to write in.
WRITING_SECONDS = 2.0


class ArtistFailbackDrill(GreatLossDrill):
    """See the module. `away`: the server that serves at the secondary site; `failover`: how the
    run went that made it."""

    damages: ClassVar[tuple[str, ...]] = ("site-lost",)

    def __init__(self, plan: Plan, options: DrillOptions, tell: Callable[[Told], None]) -> None:
        self.returning = options.scenario
        self.lost = _lost_before(plan)
        self.away = ""
        super().__init__(plan, replace(options, scenario=self.lost), tell)

    @classmethod
    def accepts(cls, plan: Plan, scenario: str) -> bool:
        """A scenario that goes back, in a plan with one that this stage can lose a site by."""
        return bool(plan.scenarios[scenario].returns_to) and bool(_lost_before(plan))

    def _store_logins(self, spare: Postgres) -> None:
        """As great_loss.py, but those of the lost database are replicated, as AWS does it: they
        are changed at home alone."""
        there = self.cloud.client("secretsmanager", STANDBY_REGION)
        store_secrets(
            there,
            self.spare,
            operator=spare.operator_secret,
            application=spare.application_secret,
        )
        here = self.cloud.client("secretsmanager", PRIMARY_REGION)
        for secret in (self.database.operator_secret, self.database.application_secret):
            here.replicate_secret_to_regions(
                SecretId=secret, AddReplicaRegions=[{"Region": STANDBY_REGION}]
            )
        redis = self.redis
        login = here.get_secret_value(SecretId=redis.secret)["SecretString"]
        there.create_secret(Name=redis.secret, SecretString=login)

    @property
    def redis(self) -> Redis:
        found = self.plan.components["redis"]
        assert isinstance(found, Redis)
        return found

    def harm(self) -> tuple[Injected, ...]:
        """Lose the site, let the secondary one take over, and bring the site back."""
        lost = self.lose()
        self.take_over()
        self.come_back()
        return lost

    def lose(self) -> tuple[Injected, ...]:
        return super().harm()

    def take_over(self) -> None:
        """Raises CheckFailed (code "no-failover") when the secondary site could not."""
        began = time.monotonic()
        self.failover = score = self.follow(self.declare(f"drill: {self.options.damage}"))
        self.options = replace(self.options, scenario=self.returning)
        if not score.serves:
            raise CheckFailed(
                f"expected a failover to go back from, it ended as {score.outcome}",
                hint=f"`leeward drill {self.lost}` drills it alone",
                code="no-failover",
            )
        self.away = self._launched(score.run_id)
        self._work_there()
        self.say("failover", f"{self.lost}: the secondary site serves", began)

    def _work_there(self) -> None:
        """What no backup has: an upload, a session, rows."""
        root = self.cloud.hosts.root(self.away)
        (root / "var/www/artisttech/uploads/0/late.txt").write_text("made after the failover\n")
        with self._redis_on(self.away) as client:
            client.set("session:late", "an artist", ex=7200)
        time.sleep(WRITING_SECONDS)

    def _redis_on(self, host: str) -> Any:
        from redis import Redis as Client

        address = self.cloud.hosts.address(host)
        return Client.from_url(f"redis://:{self.password}@{address}:{REDIS_PORT}")

    def come_back(self) -> None:
        """The region answers, and its database holds what it held; its server's disk is gone."""
        began = time.monotonic()
        self.cloud.heal()
        self.production.resume()
        self.say("return", f"{PRIMARY_REGION} is back, with its old database", began)

    def notice(self) -> str:
        """A person goes back, and knows how short a time ago the failover was."""
        return self.declare(f"{EARLY} a drill of the way back")

    def home_database(self) -> str:
        """What the application at home uses."""
        client = self.cloud.client("secretsmanager", PRIMARY_REGION)
        return self._used(client, self.database)

    def _used(self, client: Any, found: Postgres) -> str:
        text = client.get_secret_value(SecretId=found.application_secret)["SecretString"]
        dsn = json.loads(text)["dsn"]
        return str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])

    def count(self, score: Scorecard, folder: Path) -> tuple[tuple[Fact, ...], list[str]]:
        """Who serves, from what, and that every committed row is at home or set aside."""
        if not score.serves:
            return (), []
        new = self.server_at_home()
        health = self.page(new) if new else {}
        wrong = self._wrong_with(health)
        answers = self._answer()
        if answers != self._wanted("primary"):
            wrong.append(f"names lead to {answers}")
        if self.page(self.away):
            wrong.append("the secondary site still serves")
        rows, more = self._rows(new)
        session = self._has_late_session(new)
        return (
            Fact("names lead to", str(answers), "primary", answers == self._wanted("primary")),
            Fact("uploads", str(health.get("uploads")), str(UPLOADS + 1)),
            Fact("keys of Redis", str(health.get("keys")), str(KEYS + 1)),
            Fact("a session of the secondary site", "kept" if session else "gone", "kept", session),
            *rows,
        ), [*wrong, *more]

    def _wrong_with(self, health: dict[str, Any]) -> list[str]:
        if not health.get("healthy"):
            return [f"the application does not serve at home: {health}"]
        wanted = self.before | {"uploads": UPLOADS + 1, "keys": KEYS + 1}
        return [
            f"{name} is {health.get(name)!r}, expected {wanted.get(name)!r}"
            for name in ("revision", "greeting", "uploads", "keys")
            if health.get(name) != wanted.get(name)
        ]

    def _has_late_session(self, host: str) -> bool:
        """With the expiry that it had."""
        with self._redis_on(host) as client:
            return bool(client.get("session:late")) and client.ttl("session:late") < 7200

    def _rows(self, new: str) -> tuple[list[Fact], list[str]]:
        """What the applications were told is committed is read before what is there."""
        hosts = (self.host, self.away, new)
        ledgers = [read_ledger(self.cloud.hosts.root(it) / LEDGER) for it in hosts]
        told = {entry["asset"] for ledger in ledgers for entry in ledger}
        home = self._assets(self.production.dsn(SUPERUSER, self.home_database()))
        kept = self._assets(self.production.dsn(SUPERUSER))
        client = self.cloud.client("secretsmanager", STANDBY_REGION)
        spare = self.plan.components["artist-db-secondary"]
        assert isinstance(spare, Postgres)
        away = self._assets(self.spare.dsn(SUPERUSER, self._used(client, spare)))
        left, lost = away - home, told - home - kept
        wrong = [f"{len(left)} rows of the secondary site are not at home"] if left else []
        wrong += [f"{len(lost)} committed rows are neither at home nor set aside"] if lost else []
        wrong += [] if ledgers[-1] else ["nobody wrote at home"]
        return [
            Fact("rows of the secondary site at home", f"{len(away):,}", "all", not left),
            Fact("committed rows lost", f"{len(lost)} of {len(told):,}", "0", not lost),
            Fact("set aside, kept at home", f"{len(kept - home):,} rows"),
        ], wrong

    def _assets(self, dsn: str) -> set[str]:
        with psycopg.connect(dsn) as connection:
            return {path for (path,) in connection.execute("SELECT path FROM assets")}

    def server_at_home(self) -> str:
        """The one running instance that has the plan's name at home; "" when there is none."""
        filters = [
            {"Name": "tag:Name", "Values": [self.server.instance]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
        answer = self.cloud.client("ec2").describe_instances(Filters=filters)
        found = [it["InstanceId"] for part in answer["Reservations"] for it in part["Instances"]]
        return str(found[0]) if len(found) == 1 else ""


def _lost_before(plan: Plan) -> str:
    """The scenario that moves names when this stage loses the site; "" when there is none."""
    return next(
        (
            name
            for name, it in plan.scenarios.items()
            if GreatLossDrill.accepts(plan, name)
            and any(step.uses == "names.switch" for step in it.all_steps())
        ),
        "",
    )
