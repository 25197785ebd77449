"""Uploads that are gone for good: every version deleted, the application in a cluster.

As deletion.py, and with the damage `objects-for-good` the way of the document's file storage: a
recovery bucket is filled from the replica, the pods are told to use it, and the health address
answers for what they use. What counts afterwards is what the application sees.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, ClassVar

from chalicelib.plan.components import Bucket, Service
from leeward.local.damage import Injected
from leeward.local.kubernetes.stage import local_clusters
from leeward.local.stages.deletion import DELETED, OBJECTS, DeletionDrill

FOR_GOOD = "objects-for-good"
SETTING = "ASSETS_BUCKET"
POD_RATE = 2.0


class FileStorageDrill(DeletionDrill):
    """See the module. `clusters` are there with that damage alone."""

    damages: ClassVar[tuple[str, ...]] = (*DeletionDrill.damages, FOR_GOOD)

    @property
    def is_for_good(self) -> bool:
        return self.options.damage == FOR_GOOD

    def set_stage(self, stack: ExitStack) -> None:
        self._stack = stack
        super().set_stage(stack)

    def _deploy(self) -> None:
        """The clusters first: their addresses are the plan's."""
        if self.is_for_good:
            clusters = local_clusters(self.cloud, self.plan, rate=POD_RATE)
            self.clusters = self._stack.enter_context(clusters)
            self.plan = self.clusters.plan
        super()._deploy()

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        super().start_parts(stack, deploying)
        if self.is_for_good:
            began = time.monotonic()
            self.clusters.deploy(self.pods)
            self.say("application", f"its pods use {self.used_by(self.pods)}", began)

    @property
    def pods(self) -> str:
        """The service whose setting the scenario changes."""
        steps = self.plan.scenarios[self.options.scenario].all_steps()
        return next(str(it.component) for it in steps if it.uses == "service.configure")

    def used_by(self, component: str) -> str:
        """The bucket that the pods of a service are told to use."""
        found = self.plan.components[component]
        assert isinstance(found, Service)
        listed = self.clusters.of(component).objects.list("apps/v1", "deployments")
        deployment = next(it for it in listed if it["metadata"]["name"] == found.deployment)
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        return next(str(it["value"]) for it in container["env"] if it["name"] == SETTING)

    def _is_healthy(self, path: str) -> bool:
        """A bucket's address answers for the bucket that the application uses."""
        component = self.plan.components.get(path.strip("/"))
        if not self.is_for_good or not isinstance(component, Bucket):
            return super()._is_healthy(path)
        return self.is_served(self.used_by(self.pods))

    def is_served(self, bucket: str) -> bool:
        """Whether the first and the last upload can be read there."""
        return {"upload-0000", f"upload-{OBJECTS - 1:04}"} <= set(self._state(bucket))

    def served_bucket(self) -> str:
        return self.used_by(self.pods) if self.is_for_good else super().served_bucket()

    def _delete_objects(self) -> Injected:
        if not self.is_for_good:
            return super()._delete_objects()
        at = datetime.now(UTC)
        keys = {f"upload-{number:04}" for number in range(DELETED)}
        listed = self.s3.list_object_versions(Bucket=self.uploads.bucket)["Versions"]
        gone = [_named(it) for it in listed if it["Key"] in keys]
        self.intern.delete_objects(Bucket=self.uploads.bucket, Delete={"Objects": gone})
        what = f"every version of {DELETED} uploads deleted"
        return Injected("objects", "deleted-versions", what, at)


def _named(row: dict[str, Any]) -> dict[str, str]:
    return {"Key": str(row["Key"]), "VersionId": str(row["VersionId"])}
