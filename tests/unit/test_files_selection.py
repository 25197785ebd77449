"""Which folders a selection walks through, and which it leaves alone, however large they are."""

from __future__ import annotations

import pytest

from chalicelib.plan.files import Selection


@pytest.mark.parametrize(
    ("include", "entered", "passed"),
    [
        ((), {"a", "a/b"}, set()),
        (("/www/uploads",), {"www", "www/uploads", "www/uploads/x"}, {"lib", "www/other"}),
        (("/log",), {"log", "log/x"}, {"www", "www/log"}),
        (("log",), {"log", "www", "www/log"}, set()),
        (("/www/*/images",), {"www", "www/a", "www/a/images"}, {"lib"}),
        (("**/keep",), {"a", "a/b"}, set()),
    ],
)
def test_only_what_may_hold_something_is_entered(
    include: tuple[str, ...], entered: set[str], passed: set[str]
) -> None:
    selection = Selection(include=include)
    assert {path for path in entered | passed if selection.enters(path)} == entered


def test_what_is_excluded_is_not_entered() -> None:
    selection = Selection(include=("/www",), exclude=("cache",))
    assert selection.enters("www")
    assert not selection.enters("www/cache")
