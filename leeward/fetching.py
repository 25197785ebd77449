"""Finished reviews, copied from the evidence bucket with the operator's own rights."""

from __future__ import annotations

from pathlib import Path

from chalicelib.errors import BadInput
from chalicelib.evidence.bundle import copy_evidence
from chalicelib.evidence.review_seal import version_prefix
from chalicelib.incidents.streams import review_stream
from leeward.enrolling import names_of


def fetch_review(incident: str, version: int, out: Path, *, region: str | None) -> list[str]:
    """The names of the files that were written.

    Raises:
        BadInput: code "not-finished" when there is no such version.
    """
    from chalicelib.adapters.s3.access import reach_s3
    from chalicelib.adapters.s3.store import S3ObjectStore

    stack = "standby" if region else "primary"
    names = names_of(stack, region, ("LEEWARD_EVIDENCE_BUCKET",))
    store = S3ObjectStore(reach_s3(region), names["LEEWARD_EVIDENCE_BUCKET"])
    folder = version_prefix(review_stream(incident), version).rstrip("/")
    found = [it.key.removeprefix(f"{folder}/") for it in store.list(f"{folder}/")]
    if not found:
        raise BadInput(
            f"there is no version {version} of the review of {incident}",
            hint=f"leeward review finish {incident}",
            code="not-finished",
        )
    copy_evidence(folder, store, out)
    return found
