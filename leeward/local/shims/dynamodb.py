"""DynamoDB: writes are atomic, a query does not fail because of one, and answers take less time.

moto checks a condition and writes in two steps; under threads two conditional puts of one key
both win (2 of 30), and concurrent ADDs are lost (3 of 250). A query walks through what another
thread writes to, and answers 500 ("dictionary changed size during iteration").

A value has one of ten types and names it. moto asks each value of an answer for all ten: 14 ms for
what a run keeps of its steps, where its one type takes 4.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from moto.core.serialize import BaseJSONSerializer
from moto.dynamodb.models import DynamoDBBackend

from leeward.local.shims import replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

ALONE = ("put_item", "update_item", "delete_item", "transact_write_items", "query", "scan")


@contextmanager
def install(_cloud: LocalCloud) -> Iterator[None]:
    lock = threading.RLock()

    def one_at_a_time(original: Any) -> Any:
        def write(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return original(*args, **kwargs)

        return write

    with ExitStack() as stack:
        for name in ALONE:
            stack.enter_context(replaced(DynamoDBBackend, name, one_at_a_time))
        stack.enter_context(replaced(BaseJSONSerializer, "_serialize_type_structure", _as_its_type))
        yield


def _as_its_type(original: Any) -> Any:
    def write(self: Any, written: Any, value: Any, shape: Any, key: str) -> None:
        if shape.name != "AttributeValue" or not isinstance(value, dict) or len(value) != 1:
            original(self, written, value, shape, key)
            return
        ((kind, held),) = value.items()
        told: dict[str, Any] = {}
        self._serialize(told, held, shape.members[kind], kind)
        self._default_serialize(written, told, shape, key)

    return write
