"""Servers and commands on them: EC2 and SSM of the local cloud, whose hosts really run."""

from __future__ import annotations

import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib.adapters.servers.ec2 import Ec2Servers, LoadBalancerTargets
from chalicelib.adapters.servers.ssm import SsmCommands
from chalicelib.errors import CheckFailed, NotReady, Unavailable
from chalicelib.recover.sites.host_scripts import NOT_ON_DISK, Download, place_files
from leeward.local.cloud import LocalCloud
from tests.clouds import wait_for
from tests.hosts import NAME, TEMPLATE, launch, make_template


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as started:
        yield started


@pytest.fixture(scope="module")
def made(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_template(cloud, tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def server(cloud: LocalCloud, made: dict[str, str]) -> str:
    return launch(cloud)


@pytest.fixture(scope="module")
def servers(cloud: LocalCloud) -> Ec2Servers:
    return Ec2Servers(cloud.client("ec2"))


@pytest.fixture(scope="module")
def commands(cloud: LocalCloud) -> SsmCommands:
    return SsmCommands(cloud.client("ssm"))


def page(address: str) -> str | None:
    """What the host's site says; None while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{address}:8080/", timeout=2) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return None


def test_a_host_serves_what_its_enabled_units_run(
    servers: Ec2Servers, server: str, cloud: LocalCloud
) -> None:
    [found] = servers.find(NAME)
    assert (found.id, found.name) == (server, NAME)
    assert found.address == cloud.hosts.address(server)
    assert wait_for(lambda: page(found.address), "the site never answered") == "hello"


def test_commands_end_with_their_status_and_the_end_of_their_output(
    commands: SsmCommands, server: str
) -> None:
    ran = commands.run(server, "seq 1 5000; echo oops >&2; exit 7", name="r/one", limit_seconds=20)
    assert ran.status == 7
    assert ran.output.endswith("4999\n5000\n")
    assert len(ran.output) <= 6000
    assert ran.errors == "oops\n"


def test_a_script_ends_at_its_first_failure(commands: SsmCommands, server: str) -> None:
    ran = commands.run(server, "echo a\nfalse\necho b", name="r/two", limit_seconds=20)
    assert (ran.status, ran.output) == (1, "a\n")


def test_quotes_and_what_looks_like_the_end_of_a_script_are_text(
    commands: SsmCommands, server: str
) -> None:
    script = "cat <<'X'\n$HOME \"it's\" `id`\nLEEWARD-END-OF-SCRIPT\nX"
    ran = commands.run(server, script, name="r/it's; rm -rf x", limit_seconds=20)
    assert ran.output == '$HOME "it\'s" `id`\nLEEWARD-END-OF-SCRIPT\n'


def test_a_script_is_not_left_on_the_server_and_is_for_root_alone(
    commands: SsmCommands, server: str, cloud: LocalCloud
) -> None:
    script = "stat -c %a /var/lib/leeward/commands/r_mode.sh; touch /tmp/made; stat -c %a /tmp/made"
    ran = commands.run(server, script, name="r/mode", limit_seconds=20)
    assert ran.output == "600\n644\n"
    left = os.listdir(cloud.hosts.root(server) / "var/lib/leeward/commands")
    assert not [name for name in left if name.endswith(".sh")]


def test_a_script_that_does_not_end_is_ended(commands: SsmCommands, server: str) -> None:
    started = time.monotonic()
    with pytest.raises(CheckFailed) as error:
        commands.run(server, "echo begun; sleep 600", name="r/slow", limit_seconds=1)
    assert error.value.instance_code == "command-timeout"
    assert error.value.context["output"] == "begun\n"
    assert time.monotonic() - started < 10


def test_a_repeated_script_waits_for_the_first(commands: SsmCommands, server: str) -> None:
    script = "cd /tmp; test ! -e busy; touch busy; sleep 1; rm busy"
    statuses: list[int] = []

    def run() -> None:
        ran = commands.run(server, script, name="r/twice", limit_seconds=20)
        statuses.append(ran.status)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0, 0]


PACK = """mkdir -p /srv/packed/var/data; cd /srv/packed; echo hello >var/data/page
echo 'it has a name' >"var/data/a page"; ln -s page var/data/link
tar -c . | zstd -q >../object; sha256sum ../object | cut -c1-64"""
# Programs of that name before the machine's: one tells of each file it is asked to sync.
TOLD = """mkdir -p /srv/bin; PATH=/srv/bin:$PATH; cat >/srv/bin/sync <<'X'
#!/bin/sh
stat -c %i "$@" >>/srv/synced; exec /bin/sync "$@"
X
chmod 755 /srv/bin/sync
"""
FAILS = TOLD.replace("exec /bin/sync", "exit 1;")


def test_what_is_placed_on_a_server_is_on_its_disk(
    commands: SsmCommands, server: str, cloud: LocalCloud
) -> None:
    packed = commands.run(server, PACK, name="r/pack", limit_seconds=20)
    placed = place_files(
        "r/place", Download("file:/srv/object", packed.output.strip()), "/", ["/var/data"]
    )
    ran = commands.run(server, TOLD + placed, name="r/place", limit_seconds=20)
    assert (ran.status, ran.output) == (0, "3\n"), ran.errors
    root = cloud.hosts.root(server)
    assert (root / "var/data/a page").read_text() == "it has a name\n"
    names = ("var/data", "var/data/page", "var/data/a page", "var")
    wanted = {str((root / name).stat().st_ino) for name in names}
    assert wanted <= set((root / "srv/synced").read_text().split())
    broken = commands.run(server, FAILS + placed, name="r/broken", limit_seconds=20)
    assert broken.status == NOT_ON_DISK


def test_units_start_and_stop_by_systemctl(
    commands: SsmCommands, server: str, servers: Ec2Servers
) -> None:
    address = servers.facts(server).address
    stopped = commands.run(
        server,
        "sudo systemctl stop site; systemctl is-active site",
        name="r/stop",
        limit_seconds=20,
    )
    assert (stopped.status, stopped.output) == (3, "inactive\n")
    assert page(address) is None
    started = commands.run(
        server, "systemctl start site; systemctl is-active site", name="r/start", limit_seconds=20
    )
    assert (started.status, started.output) == (0, "active\n")
    assert wait_for(lambda: page(address), "the site never came back") == "hello"


def test_a_unit_that_ends_at_once_is_not_active(commands: SsmCommands, server: str) -> None:
    script = "systemctl start broken; sleep 1; systemctl is-active broken"
    ran = commands.run(server, script, name="r/broken", limit_seconds=20)
    assert (ran.status, ran.output) == (3, "failed\n")


def test_a_launch_with_the_same_token_gives_the_same_server(
    servers: Ec2Servers, commands: SsmCommands, made: dict[str, str], cloud: LocalCloud
) -> None:
    version = servers.current_version(TEMPLATE)
    first = servers.launch(TEMPLATE, version, token="run-1", tags={"Name": "second"})
    again = servers.launch(TEMPLATE, version, token="run-1", tags={"Name": "second"})
    assert first.id == again.id
    assert first.state == "pending"
    assert not commands.is_online(first.id)
    assert first.groups == (made["web"],)
    wait_for(lambda: commands.is_online(first.id) or None, "it never came online")
    assert servers.facts(first.id).state == "running"
    assert [it.id for it in servers.find("second")] == [first.id]
    servers.set_groups(first.id, (made["quarantine"],))
    assert servers.facts(first.id).groups == (made["quarantine"],)


def test_a_stopped_server_keeps_its_disk_and_starts_again(
    servers: Ec2Servers, commands: SsmCommands, cloud: LocalCloud, made: dict[str, str]
) -> None:
    server = launch(cloud, "third")
    address = servers.facts(server).address
    wait_for(lambda: page(address), "the site never answered")
    (cloud.hosts.root(server) / "var/www/site/index.html").write_text("changed")
    servers.stop(server)
    assert servers.facts(server).state == "stopped"
    assert page(address) is None
    with pytest.raises(Unavailable) as error:
        commands.run(server, "true", name="r/off", limit_seconds=5)
    assert error.value.instance_code == "server-unreachable"
    servers.start(server)
    assert wait_for(lambda: page(address), "it never came back") == "changed"


def test_a_server_that_is_gone_is_named(servers: Ec2Servers, cloud: LocalCloud) -> None:
    with pytest.raises(NotReady) as error:
        servers.facts("i-0123456789abcdef0")
    assert error.value.instance_code == "server-not-found"


def test_a_server_is_taken_out_of_its_group_however_often_it_is_asked_for(
    cloud: LocalCloud, server: str
) -> None:
    client = cloud.client("elbv2")
    network = cloud.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    group = client.create_target_group(Name="site", Protocol="HTTP", Port=8080, VpcId=network)
    arn = group["TargetGroups"][0]["TargetGroupArn"]
    targets = LoadBalancerTargets(client)
    targets.register(arn, server)
    assert set(targets.health(arn)) == {server}
    for _ in range(2):
        targets.deregister(arn, server)
        assert targets.health(arn) == {}
    with pytest.raises(NotReady, match="TargetGroupNotFound"):
        targets.deregister(arn[:-4] + "none", server)


def test_nothing_of_a_host_outlives_its_cloud(tmp_path: Path) -> None:
    """In a process of its own, as one process has one cloud, and killed."""
    import subprocess
    import sys

    script = f"""
import json, os
from pathlib import Path
from chalicelib.recover.sites.host_scripts import NOT_ON_DISK, Download, place_files
from leeward.local.cloud import LocalCloud
from tests.hosts import launch, make_template
cloud = LocalCloud(schedules=False).start()
make_template(cloud, Path({str(tmp_path)!r}))
server = launch(cloud)
print(cloud.hosts.address(server), cloud.folder, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    address, folder = done.stdout.split()
    wait_for(lambda: None if page(address) or Path(folder).exists() else True, "it still serves")
