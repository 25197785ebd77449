"""Units of a host as a workload: systemctl over SSM, on a host of the local cloud."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalicelib.adapters.servers.ssm import SsmCommands
from chalicelib.adapters.servers.systemd import SystemdUnits
from chalicelib.errors import CheckFailed, Refused
from leeward.local.cloud import LocalCloud
from tests.hosts import launch, make_template


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SsmCommands, str]]:
    with LocalCloud(schedules=False) as cloud:
        make_template(cloud, tmp_path_factory.mktemp("image"))
        server = launch(cloud)
        units = cloud.hosts.root(server) / "etc/systemd/system"
        (units / "second.service").write_text("[Service]\nExecStart=sleep 600\n")
        text = "[Service]\nExecStart=sleep 0.3\nRestart=always\n"
        (units / "unsteady.service").write_text(text)
        yield SsmCommands(cloud.client("ssm")), server


def units_of(commands: tuple[SsmCommands, str], *names: str) -> SystemdUnits:
    return SystemdUnits(*commands, names)


def test_units_stop_and_start_again(commands: tuple[SsmCommands, str]) -> None:
    units = units_of(commands, "site", "second")
    units.start()
    before = units.wait_ready(20)
    assert (before.ready, before.wanted) == (2, 2)
    assert units.stop(20).before == 2
    assert units.status().wanted == 0
    assert units.stop(20).before == 0
    units.start(2)
    assert units.wait_ready(20) == before


def test_a_unit_that_does_not_stay_is_not_ready(commands: tuple[SsmCommands, str]) -> None:
    units = units_of(commands, "site", "unsteady")
    units.start()
    with pytest.raises(CheckFailed) as error:
        units.wait_ready(6)
    assert error.value.instance_code in ("not-ready-in-time", "rollout-stuck")
    assert "unsteady" in error.value.message
    units_of(commands, "unsteady").stop(20)


def test_a_unit_that_failed_is_named_at_once(commands: tuple[SsmCommands, str]) -> None:
    units = units_of(commands, "broken")
    units.start()
    with pytest.raises(CheckFailed) as error:
        units.wait_ready(60)
    assert error.value.instance_code == "rollout-stuck"
    assert "broken failed" in error.value.message


def test_a_unit_that_does_not_exist_is_named(commands: tuple[SsmCommands, str]) -> None:
    with pytest.raises(CheckFailed) as error:
        units_of(commands, "site", "nosuch").status()
    assert error.value.instance_code == "unit-not-found"
    assert "no nosuch" in error.value.message


def test_what_a_unit_reads_is_not_set_from_outside(commands: tuple[SsmCommands, str]) -> None:
    with pytest.raises(Refused) as error:
        units_of(commands, "site").set_environment("PASSWORD", "secret", keep="run-1")
    assert error.value.instance_code == "not-on-hosts"
    assert "secret" not in str(error.value.to_json())


def test_the_revision_is_that_of_the_unit_files(commands: tuple[SsmCommands, str]) -> None:
    assert units_of(commands, "site").status().revision != (
        units_of(commands, "second").status().revision
    )
