"""What a bucket's configuration does to its history, without boto3, whose import takes longer.

The same as S3Control.rules reads, which one suite tries; and, as people restore replicas too, how
long the plan keeps the versions of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from xml.etree import ElementTree

from chalicelib.adapters.aws_codes import DENIED, NONE_SET, NOT_OFFERED
from chalicelib.adapters.s3.http import Answer, S3Http
from chalicelib.adapters.s3.xml import parse
from chalicelib.errors import LeewardError
from chalicelib.ports.bucket_rules import VERSIONS_TAG, BucketRules, Expiry

NOTHING = ElementTree.Element("Nothing")


async def read_rules(http: S3Http) -> BucketRules:
    """Raises: as S3Http.call; NotReady (code "no-bucket")."""
    found = await _ask(http, "versioning")
    unread: list[str] = []
    lifecycle, lock, tags = await asyncio.gather(
        _ask_if_allowed(http, "lifecycle", "lifecycle rules", unread),
        _ask_if_allowed(http, "object-lock", "Object Lock", unread),
        _ask_if_allowed(http, "tagging", "tags", unread),
    )
    status = found.findtext("Status", "")
    return BucketRules(
        versioning=status if status in ("Enabled", "Suspended") else "",  # type: ignore[arg-type]
        mfa_delete=found.findtext("MfaDelete") == "Enabled",
        expiries=(*_expiries(lifecycle), *_expiries_of_plan(tags)),
        lock_days=_lock_days(lock),
        unread=tuple(unread),
    )


async def _ask(http: S3Http, what: str) -> ElementTree.Element:
    def read(answer: Answer) -> ElementTree.Element:
        return parse(answer.body)

    return await http.call("GET", query=[(what, "")], read=read)


async def _ask_if_allowed(
    http: S3Http, what: str, name: str, unread: list[str]
) -> ElementTree.Element:
    try:
        return await _ask(http, what)
    except LeewardError as error:
        code = str(error.context.get("s3_code", ""))
        if code not in NONE_SET | NOT_OFFERED | DENIED:
            raise
        if code not in NONE_SET:
            unread.append(name)
        return NOTHING


def _expiries(lifecycle: ElementTree.Element) -> Iterator[Expiry]:
    """Rules that are on; one that also filters by tag or size removes some below its prefix."""
    for rule in lifecycle.findall("Rule"):
        days = rule.findtext("NoncurrentVersionExpiration/NoncurrentDays")
        if rule.findtext("Status") == "Enabled" and days:
            yield Expiry(_prefix(rule), int(days))


def _expiries_of_plan(tags: ElementTree.Element) -> Iterator[Expiry]:
    for tag in tags.iterfind("TagSet/Tag"):
        days = tag.findtext("Value", "")
        if tag.findtext("Key") == VERSIONS_TAG and days.isdecimal():
            yield Expiry("", int(days), of_plan=True)


def _prefix(rule: ElementTree.Element) -> str:
    places = ("Filter/Prefix", "Filter/And/Prefix", "Prefix")
    return next(filter(None, (rule.findtext(place) for place in places)), "")


def _lock_days(lock: ElementTree.Element) -> int:
    found = lock.find("Rule/DefaultRetention")
    if found is None:
        return 0
    return int(found.findtext("Days", "0")) or 365 * int(found.findtext("Years", "0"))
