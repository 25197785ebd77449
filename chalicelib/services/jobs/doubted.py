"""What a check has found wrong in another cloud's copy of a bucket, brought there again.

A sync leaves it: it has the source's size, and all that is noted with it is right. Only whoever
read it knows that its bytes are others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

from chalicelib.backup.bucket.replicas import look
from chalicelib.backup.bucket.sync import copy_current
from chalicelib.backup.long_copies import PUT_DOWN
from chalicelib.errors import LeewardError, Unavailable
from chalicelib.evidence.text import counted
from chalicelib.services import build
from chalicelib.services.jobs.buckets import (
    SHOWN,
    bucket_component,
    policy_at,
    replica_at,
    source_of,
)
from chalicelib.verify.copies.findings import OF_CONTENT, Finding

# An invocation that nobody waits for takes 256 KB; the next check names what is left.
NAMED_BYTES = 100_000


def doubted_keys(findings: Iterable[Finding]) -> list[str]:
    """Those whose content is wrong, as many as one event can name."""
    named, size = [], 0
    for finding in findings:
        size += len(json.dumps(finding.key))
        if finding.code in OF_CONTENT and size <= NAMED_BYTES:
            named.append(finding.key)
    return named


def bring_again(component: str, location: str, keys: Sequence[str]) -> dict[str, Any]:
    """Copy what the bucket holds of these keys now, whatever the location has.

    What takes more than one invocation is put down, and gone on with when the next check has found
    it wrong again.

    Raises:
        Unavailable: code "sync-incomplete": some could not be copied; all others were.
    """
    build.require_live(component, bucket_component(component))
    brought, failed = asyncio.run(_bring(component, location, keys))
    told = f"{brought} of {counted(len(keys), 'object')} that a check found wrong brought again"
    if failed:
        named = "; ".join(f"{key!r}: {error.message}" for key, error in failed[:SHOWN])
        raise Unavailable(
            f"expected every object that a check found wrong in {location} to be brought again, "
            f"{len(failed)} could not be copied: {named}",
            hint="it is tried again; look at what the errors of the objects name",
            code="sync-incomplete",
            location=location,
            copied=brought,
        )
    return {"found": f"{location}: {told}"}


async def _bring(
    component: str, location: str, keys: Sequence[str]
) -> tuple[int, list[tuple[str, LeewardError]]]:
    policy, brought = policy_at(component, location), 0
    failed: list[tuple[str, LeewardError]] = []
    async with build.buckets() as buckets:
        source, replica = source_of(buckets, component), replica_at(buckets, component, location)
        for key in keys:
            try:
                row = await look(source, key)
                copied = row and await copy_current(source, replica, row, policy)
                brought += copied is not None
            except LeewardError as error:
                if error.instance_code != PUT_DOWN:
                    failed.append((key, error))
    return brought, failed
