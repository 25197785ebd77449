"""A role's documents held against calls: one before it is made, all of them afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leeward.local.iam.documents import allows, listed, matches
from leeward.local.iam.need import ACCOUNT, Need
from leeward.local.iam.needs import needs_of

if TYPE_CHECKING:
    from leeward.local.runner import Call
    from leeward.local.sandbox import Function

WRITTEN_BY_LAMBDA = {"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"}
"""Grants that the Lambda service itself uses with the function's role."""


@dataclass(frozen=True)
class Judgement:
    """What a call needed; `denied` is AWS's words when the role does not have it."""

    needs: tuple[Need, ...]
    denied: str | None = None


def judge(function: Function, call: dict[str, Any]) -> Judgement:
    """May the function's role make the call {"service", "operation", "parameters", "region"}?

    A region of "" is the function's own.
    """
    documents = role_documents(function.role)
    key = source = None
    if call["service"] == "s3":
        key = bucket_key(call["parameters"].get("Bucket", ""))
        source = bucket_key(call["parameters"].get("CopySource", "").lstrip("/").split("/")[0])
    asked = call | {"region": call["region"] or function.region}
    needs = tuple(needs_of(**asked, bucket_key=key, source_key=source))
    for need in needs:
        if not allows(documents, need):
            role = function.role.rpartition("/")[2]
            who = f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{function.name}"
            why = f"because no identity-based policy allows the {need.action} action"
            what = f"not authorized to perform: {need.action} on resource: {need.resource}"
            return Judgement(needs, f"User: {who} is {what} {why}")
    return Judgement(needs, _denied_by_bucket(function, call, needs))


def _denied_by_bucket(
    function: Function, call: dict[str, Any], needs: tuple[Need, ...]
) -> str | None:
    """AWS's words when the policy of the call's own bucket denies it to the function's role."""
    from leeward.local.guard import denied_by_bucket

    if call["service"] != "s3":
        return None
    bucket = call["parameters"].get("Bucket", "")
    need = denied_by_bucket(function.role, needs, bucket)
    why = "with an explicit deny in a resource-based policy"
    if need is None:
        return None
    return f"not authorized to perform: {need.action} on {need.resource} {why}"


def bucket_key(bucket: str) -> str | None:
    """The KMS key of a bucket's default encryption, None when it has none of its own."""
    from moto.s3.models import s3_backends

    found = s3_backends[ACCOUNT]["aws"].buckets.get(bucket)
    rule = (found.encryption or {}).get("Rule") if found else None
    default = (rule or {}).get("ApplyServerSideEncryptionByDefault", {})
    key: str | None = default.get("KMSMasterKeyID")
    return key


def role_documents(arn: str) -> list[dict[str, Any]]:
    """The inline policy documents of a role."""
    from moto.iam.models import iam_backends

    role = iam_backends[ACCOUNT]["aws"].get_role_by_arn(arn)
    return [json.loads(text) for text in role.policies.values()]


def unused_grants(documents: Iterable[dict[str, Any]], calls: Iterable[Call]) -> list[str]:
    """Actions that the documents allow and none of the calls needed, sorted."""
    needed = {need.action for call in calls for need in call.needs} | WRITTEN_BY_LAMBDA
    granted = {
        action
        for document in documents
        for statement in listed(document["Statement"])
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    }
    return sorted(it for it in granted if not any(matches(it, used) for used in needed))


@dataclass(frozen=True)
class Rights:
    """How a function's documents fit what it did: `denied` lacked, `unused` allowed too much."""

    denied: tuple[str, ...]
    unused: tuple[str, ...]


def compare_rights(role: str, calls: Iterable[Call]) -> Rights:
    """Compare the documents of a role with every call that was made with it."""
    made = list(calls)
    denied = sorted({it.denied for it in made if it.denied})
    return Rights(tuple(denied), tuple(unused_grants(role_documents(role), made)))
