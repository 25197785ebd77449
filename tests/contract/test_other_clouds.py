"""The emulators of the other clouds: on loopback alone, and gone with their cloud."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leeward.local.other_clouds import OtherCloud, start_azure, start_gcs
from leeward.local.reaper import Reaper
from tests.clouds import wait_for

LOOPBACK = "0100007F"


def listening_addresses(port: int) -> set[str]:
    """In hexadecimal, as /proc/net has them; state 0A listens."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            address, _, number = local.partition(":")
            if int(number, 16) == port and state == "0A":
                found.add(address)
    return found


@pytest.mark.parametrize("start", [start_gcs, start_azure])
def test_an_emulator_listens_on_loopback_and_ends_with_its_cloud(
    start: Callable[[Path, Reaper], OtherCloud | None], tmp_path: Path
) -> None:
    reaper = Reaper()
    reaper.start()
    try:
        cloud = start(tmp_path, reaper)
        assert cloud is not None, "not installed: make setup"
        cloud.create_bucket("bucket")
        if sys.platform == "linux":
            assert listening_addresses(cloud.port) == {LOOPBACK}
    finally:
        reaper.stop()
    cloud.process.wait(10)
    wait_for(lambda: not answers(cloud.port), "the emulator still listens")


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("start", [start_gcs, start_azure])
def test_an_emulator_stops_when_told(
    start: Callable[[Path, Reaper], OtherCloud | None], tmp_path: Path
) -> None:
    reaper = Reaper()
    reaper.start()
    try:
        cloud = start(tmp_path, reaper)
        assert cloud is not None
        cloud.stop()
        assert cloud.process.poll() is not None
    finally:
        reaper.stop()
