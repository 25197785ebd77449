"""Which copies a command looks at when nobody names any."""

from __future__ import annotations

import pytest

from chalicelib.errors import BadInput
from chalicelib.services.locations import Locations
from leeward.deployed import copies_of
from leeward.plan_file import load_plan
from tests.commands import NEXUS


@pytest.fixture
def places() -> Locations:
    return Locations(load_plan(NEXUS).plan, lambda name: {})


def test_all_that_has_recovery_points_is_looked_at_the_inventories_of_a_replica_too(
    places: Locations,
) -> None:
    named = copies_of(places, (), (), primary=True)
    assert named == [
        *(("nexus-db", it) for it in ("primary", "secondary", "tertiary")),
        ("nexus-uploads", "primary"),
    ]
    assert ("nexus-uploads", "primary") not in copies_of(places, (), (), primary=False)


def test_a_bucket_without_a_replica_has_no_points(places: Locations) -> None:
    assert not [it for it in copies_of(places, (), (), primary=True) if "staging" in it[0]]
    with pytest.raises(BadInput, match="no component 'nope'"):
        copies_of(places, ("nope",), (), primary=True)
