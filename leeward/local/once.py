"""What moto works out anew for each request or service, worked out once: none of it ever changes.

Half of the time of a deployment, measured: which services there are is listed from its folders for
each request, each service's model is looked for by a loader of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from moto import backends
from moto.core import loaders, utils

from leeward.local.shims import replaced

# It remembers what it read, and each process reads the same, whatever clouds come and go in it.
_create_loader = cache(loaders.create_loader)


@contextmanager
def work_out_once() -> Iterator[None]:
    """While the block runs."""
    with ExitStack() as stack:
        stack.enter_context(replaced(backends, "list_of_moto_modules", _listed_once))
        stack.enter_context(replaced(utils, "create_loader", lambda _: _create_loader))
        yield


def _listed_once(original: Callable[[], Any]) -> Callable[[], frozenset[str]]:
    names = frozenset(original())
    return lambda: names
