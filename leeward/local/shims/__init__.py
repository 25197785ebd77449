"""What moto lacks or gets wrong and Leeward's local cloud needs, one module a service.

Each module has one function `install(cloud)`, a context manager: it replaces the named methods of
moto and puts them back at its end. server.py enters it when the service is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Replace attribute `name` of `owner` by `make(original)` while the block runs."""
    original = getattr(owner, name)
    setattr(owner, name, make(original))
    try:
        yield
    finally:
        setattr(owner, name, original)
