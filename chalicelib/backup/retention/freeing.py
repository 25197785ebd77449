"""When the bytes of what was pruned are really gone, by the bucket's own configuration."""

from __future__ import annotations

from datetime import timedelta

from chalicelib.errors import CheckFailed
from chalicelib.ports.bucket_rules import BucketRules


def freed_after(rules: BucketRules, prefix: str) -> timedelta:
    """From the deletion of an object below `prefix` to that of its bytes.

    Zero where the bucket has no versions; else the days of its first lifecycle rule that takes
    noncurrent versions there. Until then a prune can be undone.

    Raises:
        CheckFailed: code "never-freed", when no rule takes them; "rules-unknown", when the rules
            may not be read, so that nothing is known.
    """
    if not rules.versioning:
        return timedelta(0)
    days = [one.days for one in rules.expiries if prefix.startswith(one.prefix)]
    if days:
        return timedelta(days=min(days))
    if "lifecycle rules" in rules.unread:
        raise CheckFailed(
            "expected to read the lifecycle rules of a bucket with versions, was refused",
            code="rules-unknown",
            hint="allow s3:GetLifecycleConfiguration, or look whether old versions expire",
        )
    raise CheckFailed(
        f"expected a lifecycle rule that takes noncurrent versions below {prefix or 'the bucket'}, "
        "found none: what is pruned is stored, and paid for, for ever",
        code="never-freed",
        hint="add NoncurrentVersionExpiration (and ExpiredObjectDeleteMarker) to the bucket",
    )
