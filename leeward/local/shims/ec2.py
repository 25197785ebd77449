"""EC2: an instance of an image that has a folder is a machine that boots, runs and stops.

moto's instances run at once and do nothing. A launch with a token that was used before gives the
same instances, as in AWS. Instances are pending, then running; a stopped one ends its processes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from moto.ec2.models.instances import Instance, InstanceBackend

from leeward.local.shims import network_groups, replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

NO_TOKEN = "ABCDE"
PENDING, RUNNING = ("pending", 0), ("running", 16)


@contextmanager
def install(cloud: LocalCloud) -> Iterator[None]:
    lock = threading.Lock()
    launched: dict[tuple[str, str], Any] = {}

    def once_a_token(original: Any) -> Any:
        def run_instances(self: InstanceBackend, *args: Any, **kwargs: Any) -> Any:
            key = (self.region_name, kwargs.get("client_token") or NO_TOKEN)  # type: ignore[attr-defined]
            with lock:
                if key in launched:
                    return launched[key]
                reservation = original(self, *args, **kwargs)
                if key[1] != NO_TOKEN:
                    launched[key] = reservation
                for instance in reservation.instances:
                    begin(cloud, instance)
            return reservation

        return run_instances

    def booting(original: Any) -> Any:
        def start(self: Instance) -> Any:
            before = original(self)
            if before.name == "stopped" and cloud.hosts.is_known(self.id):
                cloud.hosts.start(self.id)
                run_later(cloud, self)
            return before

        return start

    def ending(original: Any) -> Any:
        def end(self: Instance) -> Any:
            cloud.hosts.stop(self.id)
            return original(self)

        return end

    with ExitStack() as stack:
        for owner, name, make in (
            (InstanceBackend, "run_instances", once_a_token),
            (Instance, "start", booting),
            (Instance, "stop", ending),
            (Instance, "terminate", ending),
        ):
            stack.enter_context(replaced(owner, name, make))
        stack.enter_context(network_groups.repaired())
        yield


def begin(cloud: LocalCloud, instance: Instance) -> None:
    """Give it a machine and the machine's address, where its image has a folder."""
    host = cloud.hosts.launch(instance.id, instance.image_id)
    if host is None:
        return
    for nic in instance.nics.values():
        nic.private_ip_address = host.address
        for item in nic.private_ip_addresses:
            item["PrivateIpAddress"] = host.address
    run_later(cloud, instance)


def run_later(cloud: LocalCloud, instance: Instance) -> None:
    """It is pending until half of its boot is over; its agent is online at the end of it."""
    _set(instance, PENDING)

    def run() -> None:
        if instance._state.name == PENDING[0]:
            _set(instance, RUNNING)

    timer = threading.Timer(cloud.hosts.boot_seconds / 2, run)
    timer.daemon = True
    timer.start()


def _set(instance: Instance, state: tuple[str, int]) -> None:
    instance._state.name, instance._state.code = state
