"""Where things are: the sites that run the system and the locations that hold its backups."""

from __future__ import annotations

from typing import Literal

from chalicelib.plan.base import PlanPart, Text
from chalicelib.plan.units import Duration

Provider = Literal["aws", "gcp", "azure", "own"]


class Place(PlanPart):
    """A region of a provider; "own" is a data center or server of one's own."""

    provider: Provider
    region: Text | None = None


class Site(Place):
    """Where the system runs, or can be made to run."""

    role: Literal["primary", "standby"]
    says: Text | None = None


class Key(PlanPart):
    """The key that encrypts copies, and every region from which it can be used.

    offline: a second recipient outside any provider, for the day that the provider is lost.
    public_key: the public half of that recipient's key, PEM (`leeward keys create` makes it).
    """

    service: Literal["aws-kms", "gcp-kms", "azure-key-vault", "file"]
    regions: tuple[Text, ...] = ()
    offline: bool = False
    public_key: Text | None = None


class Encryption(PlanPart):
    """How copies are encrypted."""

    cipher: Text
    key: Key | None = None
    in_transit: bool | None = None


class Location(Place):
    """Where backups lie. role "local" is the machine or site that is being protected.

    bucket: the bucket, or the container of Azure. secret: where the login to another cloud is kept.
    locked_for: how long Object Lock (or its like) keeps an object from being deleted.
    locks_follow_tiers: Leeward locks each object for as long as the retention keeps it. In
    lock_mode "governance" a right of its own lifts locks, in "compliance" nobody does.
    """

    role: Literal["primary", "secondary", "tertiary", "remote", "local"]
    says: Text | None = None
    service: Text | None = None
    bucket: Text | None = None
    path: Text | None = None
    secret: Text | None = None
    encryption: Encryption | None = None
    locked_for: Duration | None = None
    locks_follow_tiers: bool = False
    lock_mode: Literal["compliance", "governance"] = "compliance"

    @property
    def is_locked(self) -> bool:
        return self.locked_for is not None or self.locks_follow_tiers

    @property
    def is_sealed(self) -> bool:
        """Whether Leeward seals what it puts there: outside AWS always, and on servers of one's
        own where the plan names a key that it can use. S3 encrypts what lies in AWS."""
        if self.provider != "own":
            return self.provider != "aws"
        key = self.encryption.key if self.encryption else None
        return key is not None and (key.service == "aws-kms" or key.public_key is not None)


class Trail(PlanPart):
    """Where CloudTrail writes who did what: a bucket, and a prefix in it.

    Data events of the plan's buckets must be in it, or nobody can say who wrote to them.
    """

    bucket: Text
    prefix: str = ""
