"""What deletes a bucket's versions by itself is stopped: expiries disabled, versioning enabled.

No bucket policy keeps a lifecycle rule from deleting.
Source: S3 user guide, "Managing your storage lifecycle": a rule works even where the bucket policy
denies all actions to all principals.
"""

from __future__ import annotations

import copy
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.ports.isolation import Barrier, Lowered, Raised

# A rule that deletes sooner is taken for the attack's (verify/signs/configuration.py has the same).
SOON_DAYS = 7

Rule = dict[str, Any]


class BucketHistoryBarrier(Barrier):
    """`client`: boto3's for S3."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def look(self) -> dict[str, Any]:
        return {"versioning": self._versioning(), "rules": self._rules()}

    def raise_up(self, before: dict[str, Any]) -> Raised:
        rules = self._rules()
        stopped = [_stopped(rule) for rule in rules]
        if stopped != rules:
            self._write(stopped)
        if self._versioning() != "Enabled":
            self._enable("Enabled")
        count = sum(_expires(rule) for rule in before["rules"])
        return Raised(
            f"nothing in {self._bucket} expires by itself ({count} rules disabled), versions are"
            f" kept (they were {before['versioning'] or 'never enabled'})"
        )

    def lower(self, before: dict[str, Any], *, as_found: bool = False) -> Lowered:
        kept = [] if as_found else [*_harmful(before)]
        running = {_key(_stopped(rule)): rule for rule in before["rules"]}
        now = self._rules()
        back = [running.get(_key(rule), rule) for rule in now]
        if not as_found:
            back = [_stopped(rule) if _is_soon(rule) else rule for rule in back]
        if back != now:
            self._write(back)
        if as_found and before["versioning"] == "Suspended":
            self._enable("Suspended")
        return Lowered(f"the lifecycle of {self._bucket} is what it was", tuple(kept))

    def _versioning(self) -> str:
        with mapped("s3", bucket=self._bucket):
            return str(self._client.get_bucket_versioning(Bucket=self._bucket).get("Status", ""))

    def _enable(self, status: str) -> None:
        with mapped("s3", bucket=self._bucket):
            self._client.put_bucket_versioning(
                Bucket=self._bucket, VersioningConfiguration={"Status": status}
            )

    def _rules(self) -> list[Rule]:
        """JSON-ready: a date stands as text, as the API takes it."""
        with mapped("s3", bucket=self._bucket):
            try:
                found = self._client.get_bucket_lifecycle_configuration(Bucket=self._bucket)
            except ClientError as error:
                if error_code(error) == "NoSuchLifecycleConfiguration":
                    return []
                raise
        return [_plain(rule) for rule in found.get("Rules", ())]

    def _write(self, rules: list[Rule]) -> None:
        with mapped("s3", bucket=self._bucket):
            self._client.put_bucket_lifecycle_configuration(
                Bucket=self._bucket, LifecycleConfiguration={"Rules": rules}
            )


def _plain(rule: Rule) -> Rule:
    made: Rule = copy.deepcopy(rule)
    date = made.get("Expiration", {}).get("Date")
    if date is not None:
        made["Expiration"]["Date"] = date.isoformat()
    return made


def _key(rule: Rule) -> str:
    return repr(sorted(rule.items()))


def _expires(rule: Rule) -> bool:
    removes = "Expiration" in rule or "NoncurrentVersionExpiration" in rule
    return removes and rule.get("Status") == "Enabled"


def _stopped(rule: Rule) -> Rule:
    return rule | {"Status": "Disabled"} if _expires(rule) else rule


def _is_soon(rule: Rule) -> bool:
    """Whether it deletes so soon that nobody would notice in time; a date counts as at once."""
    if not _expires(rule):
        return False
    current, older = rule.get("Expiration", {}), rule.get("NoncurrentVersionExpiration", {})
    days = [current["Days"]] if "Days" in current else [0] if "Date" in current else []
    days += [older["NoncurrentDays"]] if "NoncurrentDays" in older else []
    return min(days, default=SOON_DAYS + 1) <= SOON_DAYS


def _harmful(before: dict[str, Any]) -> list[str]:
    """What a person must put back by name, if it was ever meant."""
    kept = [
        f"rule {rule.get('ID', 'without a name')} stays disabled: it deletes within a week"
        for rule in before["rules"]
        if _is_soon(rule)
    ]
    if before["versioning"] == "Suspended":
        kept.append("versioning stays enabled: it was suspended when the bucket was isolated")
    return kept
