"""A Redis of the plan is dumped by the deployed package when the plan says so."""

from __future__ import annotations

import json
from pathlib import Path

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.redis.throwaway import ThrowawayRedis
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.recover.restore_redis import verify_redis
from leeward.local.cloud import LocalCloud
from leeward.local.deploy import deploy
from leeward.packaging.package import build_package
from leeward.packaging.parts import rule_name
from leeward.plan_file import load_plan
from tests.commands import ARTIST
from tests.redises import running_redis


def test_a_redis_is_dumped_by_its_schedule(tmp_path: Path) -> None:
    plan = load_plan(ARTIST).plan
    with running_redis() as server, LocalCloud(schedules=False) as cloud:
        server.client.set("greeting", "hello")
        deployed = deploy(cloud, build_package(plan, tmp_path))
        secret = json.dumps({"url": server.url})
        cloud.client("secretsmanager").create_secret(Name="artisttech/redis", SecretString=secret)
        cloud.fire(rule_name(plan, "redis", "dump"))
        assert cloud.wait_idle()

        store = S3ObjectStore(cloud.client("s3"), deployed.names["BackupBucket"], "redis/")
        [standing] = StoredCatalogue(store, "redis").holdings().standings
        checks = verify_redis(store, standing.point, ThrowawayRedis(), clock=SystemClock())
        assert all(check.ok for check in checks), checks
        rights = cloud.rights()["leeward-primary-take"]
        assert rights.denied == ()
        assert set(rights.unused) <= {"s3:AbortMultipartUpload", "s3:GetObject", "kms:Decrypt"}
        assert "hello" not in cloud.logs("take")
