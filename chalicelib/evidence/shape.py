"""Is a JSON value what it should be? For evidence that anybody may have written."""

from __future__ import annotations

from typing import Any


def has_shape(value: Any, shape: Any) -> bool:
    """True when the value is exactly of the shape.

    Args:
        shape: a type; a list of one shape, for a list of such items; or an object with the shape
            of each of its names, none missing and none more.
    """
    if isinstance(shape, dict):
        return (
            isinstance(value, dict)
            and value.keys() == shape.keys()
            and all(has_shape(value[name], inner) for name, inner in shape.items())
        )
    if isinstance(shape, list):
        return isinstance(value, list) and all(has_shape(item, shape[0]) for item in value)
    return type(value) is shape
