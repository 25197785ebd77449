"""EC2: the security groups of an interface are those that it was last given.

moto adds the groups of the instance's launch to them for ever, so that nothing would ever be in
quarantine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.ec2.models.elastic_network_interfaces import NetworkInterfaceBackend

from leeward.local.shims import replaced


@contextmanager
def repaired() -> Iterator[None]:
    def with_instance(original: Any) -> Any:
        def modify(self: Any, eni_id: str, group_ids: list[str], *args: Any, **kwargs: Any) -> None:
            original(self, eni_id, group_ids, *args, **kwargs)
            interface = self.get_network_interface(eni_id)
            if group_ids and interface.instance is not None:
                interface.instance.security_groups = list(interface._group_set)

        return modify

    with replaced(NetworkInterfaceBackend, "modify_network_interface_attribute", with_instance):
        yield
