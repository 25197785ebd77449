"""S3: conditional writes are atomic.

moto looks for the key and writes it in two steps; in 1 of 20 races both writers with
`If-None-Match: *` win. A chain of records that is extended by such writes would fork.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from moto.s3.responses import S3Response

from leeward.local.shims import replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud


@contextmanager
def install(_cloud: LocalCloud) -> Iterator[None]:
    lock = threading.RLock()

    def one_at_a_time(original: Any) -> Any:
        def write(self: S3Response, *args: Any, **kwargs: Any) -> Any:
            if "If-None-Match" not in self.headers and "If-Match" not in self.headers:
                return original(self, *args, **kwargs)
            with lock:
                return original(self, *args, **kwargs)

        return write

    with ExitStack() as stack:
        for name in ("put_object", "_key_response_post"):
            stack.enter_context(replaced(S3Response, name, one_at_a_time))
        yield
