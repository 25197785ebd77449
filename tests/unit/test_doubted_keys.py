"""What a check asks to have brought again: by name, and no more than one event can hold."""

from __future__ import annotations

import json

from chalicelib.services.jobs.doubted import doubted_keys
from chalicelib.verify.copies.findings import Finding


def found(code: str, key: str) -> Finding:
    return Finding(code, key, "p1", "as it was", "otherwise")


def test_only_wrong_content_is_brought_again() -> None:
    codes = ("damaged", "overwritten", "truncated", "missing", "unreadable", "unread-too-long")
    findings = [found(code, f"of {code}") for code in codes]
    wanted = ["of damaged", "of overwritten", "of truncated", "of missing"]
    assert doubted_keys(findings) == wanted


def test_an_event_of_the_longest_keys_is_taken_by_lambda() -> None:
    findings = [found("damaged", f"{number:04}" + "\n" * 1020) for number in range(1000)]
    keys = doubted_keys(findings)
    assert 0 < len(keys) < 1000
    event = {"component": "c" * 100, "location": "l" * 100, "doubted": keys}
    assert len(json.dumps(event)) < 256_000
