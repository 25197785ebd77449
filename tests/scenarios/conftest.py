"""What scenario tests are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from leeward.local.production import Production
from leeward.local.shims import replaced
from tests.initialised import copied_once_made
from tests.scenarios.untouched import Untouched


@pytest.fixture(scope="session", autouse=True)
def _clusters_are_copied() -> Iterator[None]:
    with replaced(Production, "_create_data", copied_once_made):
        yield


@pytest.fixture
def untouched(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[Untouched]:
    """For a test that is marked with the drills that it does: each must have been compared."""
    claims = [tuple(mark.args) for mark in request.node.iter_markers("untouched")]
    assert claims, "mark the test with the drills that it does (tests/drilled.py)"
    given = Untouched(claims, record_property)
    yield given
    assert given.claims == [], "these drills were not done, or production not compared after them"
