"""A drill of ransomware acts on what stands in alone; production is afterwards what it was before,
byte for byte, also when a step fails."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from chalicelib.evidence.scorecard import Scorecard
from leeward.commands.drill import load_runnable
from leeward.local.damage import Injected
from leeward.local.drill import DrillOptions, Fact, Told
from leeward.local.production import APPLICATION, Production, store_secrets
from leeward.local.sample_app import create_schema
from leeward.local.stages.ransomware import RansomwareDrill
from tests.scenarios.drills import PLAN

STAND_IN = "nexus-db-staging"


class Rehearsal(RansomwareDrill):
    """Nobody attacks; the plan's own people drill, and there is a staging environment."""

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        super().start_parts(stack, deploying)
        staging = Production(self.cloud.folder / "staging", self.cloud.reaper)
        stack.callback(staging.stop)
        staging.start()
        create_schema(staging.dsn(APPLICATION), projects=10)
        found = self.plan.components[STAND_IN]
        assert found.kind == "postgres"
        store_secrets(
            self.cloud.client("secretsmanager"),
            staging,
            operator=found.operator_secret,
            application=found.application_secret,
        )

    def prepare(self) -> None:
        super().prepare()
        self.uploads.stopping.set()
        time.sleep(1)
        assert self.cloud.wait_idle()
        self.was = self.everything()

    def harm(self) -> tuple[Injected, ...]:
        return ()

    def notice(self) -> str:
        return self.declare("monthly", drill=True)

    def count(self, score: Scorecard, folder: Path) -> tuple[tuple[Fact, ...], list[str]]:
        self.uploads.stopping.set()
        self.now = self.everything()
        return (), []

    def everything(self) -> dict[str, Any]:
        """Of production, and of the stand-ins what an isolation changes."""
        s3, iam = self.cloud.client("s3"), self.cloud.client("iam")
        rows = s3.list_object_versions(Bucket=self.bucket.bucket)["Versions"]
        users = ("nexus-uploader", "nexus-staging")
        instances = self.cloud.client("ec2").describe_instances()["Reservations"]
        secret = self.cloud.client("secretsmanager").get_secret_value(
            SecretId=self.database.application_secret
        )
        return {
            "settings": self._settings(),
            "versions": [(it["Key"], it["VersionId"], it["ETag"]) for it in rows],
            "keys": {
                (user, it["AccessKeyId"]): it["Status"]
                for user in users
                for it in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
            },
            "policies": [iam.list_user_policies(UserName=user)["PolicyNames"] for user in users]
            + [iam.list_role_policies(RoleName="nexus-api")["PolicyNames"]],
            "groups": {
                interface["NetworkInterfaceId"]: interface["Groups"]
                for one in instances
                for instance in one["Instances"]
                for interface in instance["NetworkInterfaces"]
            },
            "secret": secret["SecretString"],
        }


def test_production_is_what_it_was(tmp_path: Path) -> None:
    heard: list[Told] = []
    plan, _ = load_runnable(PLAN, "ransomware")
    options = DrillOptions(
        "ransomware", "nexus-uploads", "ransomware", tmp_path, projects=500, rate=20
    )
    drill = Rehearsal(plan, options, heard.append)
    result = drill.run()
    records = [it.record for it in heard if it.record]
    failed = [json.dumps(it.body) for it in records if it.kind in ("step-failed", "undo-failed")]
    assert failed == []
    assert result.score.outcome == "recovered"
    assert drill.now == drill.was
    assert {it.body["target"] for it in records if it.kind == "isolated"} == {
        "nexus-assets-staging", "nexus-staging", "user/nexus-staging", "nexus-node-staging",
    }  # fmt: skip
