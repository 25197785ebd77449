"""A function that needs no database starts about as fast as a bare one."""

from __future__ import annotations

from bench.cold_start import measure
from leeward.packaging.package import Package

LIMIT = 1.5


def test_importing_the_app_costs_little_more_than_a_bare_application(package: Package) -> None:
    result = measure(package.zip)
    assert result["app_over_bare"] <= LIMIT, result["guilty"]
