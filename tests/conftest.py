"""What the tests say at their end besides passing: the faults that each scenario survived.

Hypothesis judges no times: a busy machine is not a defect.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings

settings.register_profile("leeward", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("leeward")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Of `record_property("survived", ...)`, whichever process ran the test."""
    passed = terminalreporter.stats.get("passed", ())
    told = [
        text for report in passed for name, text in report.user_properties if name == "survived"
    ]
    if told:
        terminalreporter.section("survived")
        for line in sorted(map(str, told)):
            terminalreporter.line(line)
