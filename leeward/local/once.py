"""What moto works out anew for each request or service, worked out once: none of it ever changes.

Half of the time of a deployment, measured: which services there are is listed from its folders for
each request, each service's model is looked for by a loader of its own. A fifth of the rest: which
methods a service has is asked of its class for each request, and under which names an answer may
hold a member is worked out for each member of each answer. Which services are in use is looked up
for each access to one, by comparing it with all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from moto import backends
from moto.core import loaders, responses, serialize, utils
from moto.core.base_backend import BackendDict

from leeward.local.shims import replaced

# It remembers what it read, and each process reads the same, whatever clouds come and go in it.
_create_loader = cache(loaders.create_loader)
_method_names = cache(utils.method_names_from_class)
_possible_keys: dict[tuple[Any, ...], tuple[str, ...]] = {}


@contextmanager
def work_out_once() -> Iterator[None]:
    """While the block runs."""
    with ExitStack() as stack:
        stack.enter_context(replaced(backends, "list_of_moto_modules", _listed_once))
        stack.enter_context(replaced(utils, "create_loader", lambda _: _create_loader))
        stack.enter_context(replaced(responses, "method_names_from_class", lambda _: _method_names))
        stack.enter_context(
            replaced(serialize.XFormedAttributePicker, "get_possible_keys", _named_once)
        )
        # Each is equal to itself alone, which Python tells without asking it.
        stack.enter_context(replaced(BackendDict, "__eq__", lambda _: object.__eq__))
        yield


def _listed_once(original: Callable[[], Any]) -> Callable[[], frozenset[str]]:
    names = frozenset(original())
    return lambda: names


def _named_once(original: Callable[[Any, Any], Iterable[str]]) -> Callable[[Any, Any], Any]:
    """They follow from the class of the object and from the member's place in the model."""

    def possible_keys(self: Any, context: Any) -> tuple[str, ...]:
        shape = context.shape
        place = (type(context.obj), shape, getattr(shape, "parent", None), context.key)
        if place not in _possible_keys:
            _possible_keys[place] = tuple(dict.fromkeys(original(self, context)))
        return _possible_keys[place]

    return possible_keys
