"""The order of the tests, and what they say at their end: the faults that each scenario survived,
and after how many drills of it production was what it was.

Hypothesis judges no times: a busy machine is not a defect. What is there when all tests are
collected, and after each file, stays to the end: it is kept out of every later garbage collection,
which took a tenth of the time of a file that starts a cloud.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import drilled, survived
from tests.temporary import keep_in_memory

settings.register_profile("leeward", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("leeward")

# A scenario takes a minute or two, a file of unit tests a second: with the long ones last, all
# workers but one would wait at the end. `make test` keeps xdist from an order of its own.
LONGEST_FIRST = ("scenarios", "deployed", "browser", "contract", "docs", "house", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _place(item.path.relative_to(Path(__file__).parent).parts[0]))


def _place(folder: str) -> int:
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else 0


def pytest_configure(config: pytest.Config) -> None:
    if config.option.basetemp is None:  # what PostgreSQL is to reach lies below TMPDIR
        keep_in_memory()
    config.addinivalue_line("markers", "untouched(plan, scenario, how): see tests/drilled.py")


def pytest_collection_finish() -> None:
    _keep_for_good()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is None or nextitem.path != item.path:
        _keep_for_good()


def _keep_for_good() -> None:
    """What is garbage goes first."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Of `record_property("survived", ...)` and "untouched", whichever process ran the test."""
    tables = {
        "survived": ("survived: how many faults, by scenario", survived.table_of),
        "untouched": ("untouched: production byte for byte as it was after", drilled.table_of),
    }
    passed = terminalreporter.stats.get("passed", ())
    for kind, (title, table_of) in tables.items():
        told = [text for it in passed for name, text in it.user_properties if name == kind]
        if told:
            terminalreporter.section(title)
            for line in table_of(told):
                terminalreporter.line(line)
