"""What a bucket's own configuration does to its history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

# How long the plan keeps versions in the replica that bears it (`retention.versions`), whole days.
VERSIONS_TAG = "leeward:versions-days"


@dataclass(frozen=True)
class Expiry:
    """A lifecycle rule that removes a version for good `days` after it was replaced.

    `of_plan`: no rule of S3's: the bucket is a replica, and Leeward does it (expire_versions).
    """

    prefix: str
    days: int
    of_plan: bool = False


@dataclass(frozen=True)
class BucketRules:
    """`versioning` is "" where it never was on. `lock_days`: default retention of Object Lock,
    0 without one. `unread`: what the caller may not read, so that nothing is known of it."""

    versioning: Literal["", "Enabled", "Suspended"]
    mfa_delete: bool = False
    expiries: tuple[Expiry, ...] = ()
    lock_days: int = 0
    unread: tuple[str, ...] = ()


class BucketControl(Protocol):
    """What is rarely asked of a bucket. Raises what Bucket raises."""

    def rules(self) -> BucketRules: ...

    def thaw(self, versions: Sequence[tuple[str, str]], *, days: int) -> dict[tuple[str, str], str]:
        """Ask for (key, version id) pairs to be restored from their archive for `days`.

        Safe to repeat. Returns the code of each that was refused; the others are on their way.
        """
