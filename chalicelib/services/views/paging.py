"""Long lists, a page at a time. Pure.

A cursor names the last item that was shown, not a number of items: what is added or removed in the
meantime moves nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from chalicelib.errors import BadInput

T = TypeVar("T")
LARGEST_PAGE = 100
LONGEST_CURSOR = 512


@dataclass(frozen=True)
class Page:
    """limit: None shows everything. after: the mark of the last item that was shown, "" of none."""

    limit: int | None = None
    after: str = ""


def read_page(event: Mapping[str, Any]) -> Page:
    """{"limit"?, "cursor"?} of an event.

    Raises:
        BadInput: codes "bad-limit", "bad-cursor".
    """
    limit = event.get("limit")
    if limit is not None and (type(limit) is not int or not 1 <= limit <= LARGEST_PAGE):
        raise BadInput(
            f"expected a limit from 1 to {LARGEST_PAGE}, found {str(limit)[:50]!r}",
            hint="ask for the next page with the cursor of this one",
            code="bad-limit",
        )
    return Page(limit, _after(str(event.get("cursor") or "")))


def _after(cursor: str) -> str:
    try:
        found = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        if len(cursor) <= LONGEST_CURSOR and cursor_of(found.decode()) == cursor:
            return found.decode()
    except (binascii.Error, ValueError):
        pass
    raise BadInput(
        "expected a cursor of an earlier page, found something else",
        hint="take `next` of the page before as it is, or leave it out to begin",
        code="bad-cursor",
    )


def cursor_of(mark: str) -> str:
    return base64.urlsafe_b64encode(mark.encode()).decode().rstrip("=")


def cut_page(
    items: Iterable[T], page: Page, mark: Callable[[T], str], *, newest_first: bool = True
) -> tuple[list[T], str | None]:
    """The items of the page, and the cursor of the next one; None after the last.

    Args:
        mark: text that orders the items, and is no other item's.
    """
    ordered = sorted(items, key=mark, reverse=newest_first)
    if page.after:
        ordered = [
            it
            for it in ordered
            if (mark(it) < page.after if newest_first else mark(it) > page.after)
        ]
    if page.limit is None or len(ordered) <= page.limit:
        return ordered, None
    shown = ordered[: page.limit]
    return shown, cursor_of(mark(shown[-1]))
