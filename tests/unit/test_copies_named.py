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


def test_a_location_that_is_named_holds_what_the_plan_sends_there(places: Locations) -> None:
    """Nothing is copied to where the plan does not want it, and what never was there is no loss."""
    assert copies_of(places, (), ("tertiary",), primary=True) == [("nexus-db", "tertiary")]
    assert copies_of(places, (), ("secondary",), primary=False) == [("nexus-db", "secondary")]
    for named in (
        {"components": ("nexus-uploads",), "locations": ("tertiary",), "primary": False},
        {"components": ("nexus-uploads",), "locations": ("secondary",), "primary": True},
        {"components": ("nexus-db",), "locations": ("primary",), "primary": False},
    ):
        with pytest.raises(BadInput, match=f"a copy of {named['components'][0]} in ") as caught:
            copies_of(places, **named)  # type: ignore[arg-type]
        assert caught.value.instance_code == "no-copies"
