"""DynamoDB: writes are atomic, and a query does not fail because of one.

moto checks a condition and writes in two steps; under threads two conditional puts of one key
both win (2 of 30), and concurrent ADDs are lost (3 of 250). A query walks through what another
thread writes to, and answers 500 ("dictionary changed size during iteration").
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

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
        yield
