"""Where what concerns people is recorded, apart from the steps of a run."""

from __future__ import annotations

STREAM_PREFIX = "people-"
REVIEW_PREFIX = "review-"
# Reviews of the plan itself.
PLAN_REVIEWS = "plan-reviews"


def people_stream(incident: str) -> str:
    """The chain of who was told, paged, acknowledged, or refused when all was over.

    Not the incident's own: that one is sealed when its run ends, and a message that arrives a
    minute later, or an acknowledgement, is recorded all the same.
    """
    return f"{STREAM_PREFIX}{incident}"


def review_stream(incident: str) -> str:
    """The chain of what people found out and want to change after the incident."""
    return f"{REVIEW_PREFIX}{incident}"
