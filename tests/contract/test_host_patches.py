"""The step that patches a server's system, on a host of the local cloud whose patches are files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalicelib.errors import CheckFailed
from chalicelib.incidents.run import Run
from chalicelib.services import build
from chalicelib.services.steps.servers import host_patches
from leeward.local.cloud import LocalCloud
from leeward.plan_file import load_plan
from tests.commands import ARTIST
from tests.fakes_state import InMemoryState
from tests.hosts import launch, make_template

SERVER = "app-server-drill"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as started:
        yield started


@pytest.fixture(scope="module")
def server(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> str:
    make_template(cloud, tmp_path_factory.mktemp("image"))
    return launch(cloud, "artisttech-app-drill")


@pytest.fixture(autouse=True)
def here(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, state = load_plan(ARTIST).plan, InMemoryState()
    monkeypatch.setattr(build, "plan", lambda: plan)
    monkeypatch.setattr(build, "state", lambda: state)
    monkeypatch.setattr(build, "client", lambda service, region="": cloud.client(service))
    monkeypatch.setattr(host_patches, "say", lambda run, entry, about="": None)


def run_of(step: str) -> Run:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    return Run("run-1", step, "inc-1", "server-failure", SERVER, at, None)


def misses(cloud: LocalCloud, server: str, *patches: str) -> None:
    folder: Path = cloud.hosts.root(server) / "var/lib/patches"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("installed", "waiting", "failed"):
        (folder / name).write_text("")
    (folder / "missing").write_text("".join(f"{it}\n" for it in patches))


def patch(step: str, **more: Any) -> dict[str, Any]:
    return host_patches.patch_step(run_of(step), {"component": SERVER, **more})


def test_what_the_baseline_wants_is_installed(cloud: LocalCloud, server: str) -> None:
    misses(cloud, server, "openssl-3.0.13", "linux-6.8 restart")
    done = patch("patch")
    assert (done["instance"], done["installed"]) == (server, 2)


def test_a_second_attempt_follows_the_command_of_the_first(cloud: LocalCloud, server: str) -> None:
    misses(cloud, server)
    patch("twice")
    misses(cloud, server, "found-since-1.0")
    with pytest.raises(CheckFailed):
        patch("twice")
    left = cloud.hosts.root(server) / "var/lib/patches/missing"
    assert left.read_text() == "found-since-1.0\n", "nothing was begun anew"


def test_a_patch_that_waits_for_a_restart_is_not_green(cloud: LocalCloud, server: str) -> None:
    misses(cloud, server, "linux-6.8 restart")
    with pytest.raises(CheckFailed) as caught:
        patch("never", restart="never")
    assert caught.value.instance_code == "patches-missing"
    assert "1 waiting for a restart" in caught.value.message


def test_a_patch_that_cannot_be_installed_is_not_green(cloud: LocalCloud, server: str) -> None:
    misses(cloud, server, "openssl-3.0.13", "kernel broken")
    with pytest.raises(CheckFailed) as caught:
        patch("broken")
    assert "1 missing, 1 failed" in caught.value.message
