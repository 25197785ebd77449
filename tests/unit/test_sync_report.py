"""What `leeward sync --shards` says of a run that has ended."""

from __future__ import annotations

import json

import pytest

from leeward.commands.sync import tell_shards

RAISED = json.dumps(
    {"errorMessage": "s3control did not answer", "errorType": "Unavailable", "stackTrace": ["File"]}
)


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (RAISED, "Unavailable: s3control did not answer"),
        ("the state timed out", "Unavailable: the state timed out"),
        ('"text"', 'Unavailable: "text"'),
        ("{}", "Unavailable: {}"),
    ],
)
def test_a_failure_is_told_by_its_message_without_a_traceback(cause: str, told: str) -> None:
    found = {"done": None, "failure": {"Error": "Unavailable", "Cause": cause}}
    assert tell_shards(found) == told
