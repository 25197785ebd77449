"""The order of the tests, and what they say at their end: the faults that each scenario survived.

Hypothesis judges no times: a busy machine is not a defect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.survived import table_of

settings.register_profile("leeward", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("leeward")

# A scenario takes a minute or two, a file of unit tests a second: with the long ones last, all
# workers but one would wait at the end. `make test` keeps xdist from an order of its own.
LONGEST_FIRST = ("scenarios", "deployed", "browser", "contract", "docs", "house", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _place(item.path.relative_to(Path(__file__).parent).parts[0]))


def _place(folder: str) -> int:
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else 0


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Of `record_property("survived", ...)`, whichever process ran the test."""
    passed = terminalreporter.stats.get("passed", ())
    told = [
        text for report in passed for name, text in report.user_properties if name == "survived"
    ]
    if told:
        terminalreporter.section("survived: how many faults, by scenario")
        for line in table_of(told):
            terminalreporter.line(line)
