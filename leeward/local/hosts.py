"""EC2 instances of the local cloud: a folder each, with processes that really run.

    hosts = Hosts(cloud)                        cloud.hosts
    image = hosts.add_image("artisttech", folder)    an image id for a launch template
    hosts.root(instance_id)                     its root folder, to look at or to damage

An instance of such an image gets a copy of its folder, an address of its own (in 127.0.0.0/8, so
that every host can use the same ports) and a first process (host_init.py) that starts the enabled
units. Commands of SSM run in it as bash scripts with a `systemctl` that asks that process, and
`python3` and `npm`; paths of its own lie below its root (host_paths.py).
A host whose image is not known here is moto's alone. All processes are known to the reaper.
"""

from __future__ import annotations

import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chalicelib.errors import NotReady
from leeward.local.host_paths import OWN, on_this_machine
from leeward.local.reaper import end_group, kill_group

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

BOOT_SECONDS = 1.0
INIT = Path(__file__).with_name("host_init.py")
SYSTEMCTL = Path(__file__).with_name("host_systemctl.py")
OUTPUT_CHARACTERS = 24_000
TIMED_OUT = -1

# npm of the sample: `install` notes what was installed, `run NAME` runs package.json's script.
NPM = """#!/bin/bash
set -eu
case "$1" in
  install|ci) mkdir -p node_modules; cp package.json node_modules/.package-lock.json ;;
  run) eval "$(python3 -c 'import json,sys; print(json.load(open("package.json"))["scripts"][sys.argv[1]])' "$2")" ;;
  *) echo "npm $1: not known here" >&2; exit 1 ;;
esac
"""  # noqa: E501
SUDO = '#!/bin/bash\nexec "$@"\n'


@dataclass
class Host:
    """A machine. `online`: it has booted and takes commands."""

    id: str
    image: str
    region: str
    address: str
    folder: Path
    online: bool = False
    process: subprocess.Popen[bytes] | None = None
    commands: set[int] = field(default_factory=set)

    @property
    def root(self) -> Path:
        return self.folder / "root"


class Hosts:
    """See the module."""

    def __init__(self, cloud: LocalCloud, *, boot_seconds: float = BOOT_SECONDS) -> None:
        self.boot_seconds = boot_seconds
        self._cloud = cloud
        self._images: dict[str, Path] = {}
        self._regions: dict[str, str] = {}
        self._hosts: dict[str, Host] = {}
        self._lock = threading.RLock()
        # Other clouds on this machine have networks of their own, most likely.
        self._network = f"127.{random.randint(2, 254)}.{random.randint(0, 254)}"

    def add_image(self, name: str, folder: Path, *, region: str = "us-east-1") -> str:
        """Register the folder as an image; its id. What changes in it later is in no host."""
        client = self._cloud.client("ec2", region)
        image = str(client.register_image(Name=name, RootDeviceName="/dev/sda1")["ImageId"])
        kept = self._cloud.folder / "images" / image
        shutil.copytree(folder, kept, symlinks=True)
        self._images[image], self._regions[image] = kept, region
        return image

    def root(self, instance: str) -> Path:
        """The folder that is the host's root."""
        return self._host(instance).root

    def address(self, instance: str) -> str:
        return self._host(instance).address

    def is_known(self, instance: str) -> bool:
        return instance in self._hosts

    def is_online(self, instance: str) -> bool:
        return instance in self._hosts and self._hosts[instance].online

    def launch(self, instance: str, image: str) -> Host | None:
        """Make a machine of the image and boot it; None when the image is none of these."""
        if image not in self._images:
            return None
        with self._lock:
            number = len(self._hosts) + 10
            folder = self._cloud.folder / "hosts" / instance
            host = Host(instance, image, self._regions[image], f"{self._network}.{number}", folder)
            self._hosts[instance] = host
        shutil.copytree(self._images[image], host.root, symlinks=True)
        for name in OWN:
            (host.root / name).mkdir(exist_ok=True)
        (host.root / "var/log").mkdir(parents=True, exist_ok=True)
        self._make_programs(host)
        self.start(instance)
        return host

    def start(self, instance: str) -> None:
        """Boot; returns before it has booted."""
        threading.Thread(target=self._boot, args=(self._host(instance),), daemon=True).start()

    def stop(self, instance: str) -> None:
        """End all its processes, as pulling the plug does; its folder stays."""
        host = self._hosts.get(instance)
        if host is None:
            return
        host.online = False
        process, host.process = host.process, None
        for group in (*host.commands, *((process.pid,) if process else ())):
            kill_group(group)
        if process:
            process.wait()
            self._cloud.reaper.forget_group(process.pid)

    def run(self, instance: str, script: str, *, limit_seconds: float) -> tuple[int, str, str]:
        """(exit status, output, errors) of a script; the status TIMED_OUT when it was ended."""
        host = self._host(instance)
        with (
            tempfile.TemporaryFile(dir=host.folder) as out,
            tempfile.TemporaryFile(dir=host.folder) as errors,
        ):
            process = subprocess.Popen(
                ["/bin/bash", "-c", on_this_machine(script, host.root)],
                cwd=host.root,
                env=self.environment(host),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
            status = self._wait(host, process, limit_seconds)
            texts = []
            for file in (out, errors):
                file.seek(0)
                texts.append(file.read().decode(errors="replace")[:OUTPUT_CHARACTERS])
        return status, texts[0], texts[1]

    def cancel(self, instance: str) -> None:
        """End the scripts that run on it now."""
        for group in set(self._host(instance).commands):
            end_group(group)

    def environment(self, host: Host) -> dict[str, str]:
        """What its processes have: the machine's programs and the rights of its profile."""
        return {
            **self._cloud.environment(host.region),
            "PATH": f"{host.folder / 'bin'}:/usr/bin:/bin",
            "HOME": str(host.root / "root"),
            "LANG": "C.UTF-8",
            "ADDRESS": host.address,
        }

    def _wait(self, host: Host, process: subprocess.Popen[bytes], limit_seconds: float) -> int:
        host.commands.add(process.pid)
        self._cloud.reaper.watch_group(process.pid)
        try:
            return process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            return TIMED_OUT
        finally:
            end_group(process.pid)
            process.wait()
            host.commands.discard(process.pid)
            self._cloud.reaper.forget_group(process.pid)

    def _boot(self, host: Host) -> None:
        time.sleep(self.boot_seconds)
        (host.folder / "init.sock").unlink(missing_ok=True)
        with (host.folder / "init.log").open("ab") as log:
            host.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(INIT), str(host.root), host.address],
                cwd=host.folder,
                env=self.environment(host),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._cloud.reaper.watch_group(host.process.pid)
        deadline = time.monotonic() + 10
        while not (host.folder / "init.sock").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        host.online = (host.folder / "init.sock").exists()

    def _make_programs(self, host: Host) -> None:
        programs = host.folder / "bin"
        programs.mkdir()
        python = shlex.quote(sys.executable)
        systemctl = f"exec {python} -I -S {shlex.quote(str(SYSTEMCTL))}"
        texts = {
            "python3": f'#!/bin/sh\nexec {python} "$@"\n',
            "systemctl": f'#!/bin/sh\n{systemctl} {shlex.quote(str(host.folder))} "$@"\n',
            "npm": NPM,
            "sudo": SUDO,
        }
        for name, text in texts.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)

    def _host(self, instance: str) -> Host:
        if instance not in self._hosts:
            raise NotReady(
                f"expected a host {instance} in the local cloud, found none",
                hint="only instances of an image that was added have a folder",
                code="no-such-host",
            )
        return self._hosts[instance]
