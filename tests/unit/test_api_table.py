"""The API's document says what the code does, and is the one that is kept beside the docs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chalicelib.api.models import model_named
from chalicelib.api.openapi import describe
from chalicelib.api.routes import ROUTES, Route
from chalicelib.services import showing
from chalicelib.services.people import answers as people

KEPT = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_kept_document_is_the_one_that_the_code_makes() -> None:
    """`leeward api describe --out docs/openapi.json` mends it."""
    assert json.loads(KEPT.read_text()) == describe()


@pytest.mark.parametrize("route", ROUTES, ids=lambda it: f"{it.method} {it.path}")
def test_each_route_leads_to_a_verb(route: Route) -> None:
    assert route.verb in (people.VERBS if route.acts else showing.VERBS)
    assert bool(route.takes) == route.acts
    assert model_named(route.answers)


def test_operations_have_names_of_their_own() -> None:
    names = [route.name for route in ROUTES]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere() -> None:
    document = describe()
    for found in set(re.findall(r'"#/components/(\w+)/(\w+)"', json.dumps(document))):
        assert found[1] in document["components"][found[0]]
