"""Least privilege: which IAM rights an AWS call needs, and whether a role's documents allow it.

    a call of a function -> needs (needs.py, servers.py, arns.py) -> judge -> documents.py

moto's own enforcement knows the resource of a call for four services only, so calls are judged
here, before they are made, by the inline policies of the function's role. The region is the one
that is called, wherever the function runs. A condition that is not known is an error, never a pass.
Source: https://docs.aws.amazon.com/service-authorization/latest/reference/ (one page a service).
"""

from __future__ import annotations

from leeward.local.iam.documents import allows
from leeward.local.iam.judgement import (
    Judgement,
    Rights,
    compare_rights,
    judge,
    role_documents,
    unused_grants,
)
from leeward.local.iam.need import ACCOUNT, Need
from leeward.local.iam.needs import needs_of

__all__ = [
    "ACCOUNT",
    "Judgement",
    "Need",
    "Rights",
    "allows",
    "compare_rights",
    "judge",
    "needs_of",
    "role_documents",
    "unused_grants",
]
