"""What is denied to users and sessions of the local cloud: disabled keys, explicit denies.

    request -> who asks -> is the key active -> does the identity's, or the bucket's policy deny it

moto asks for no signature and knows no disabled key, so that nobody could see what an isolation
does. Allows are not asked for: what an application of a drill may do is its own matter. The
operator's key is never refused, as a root user's is not. A condition that is not known here is an
error, never a pass.
"""

from __future__ import annotations

import fnmatch
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

from chalicelib.errors import BadInput
from chalicelib.plan.records import parse_time
from leeward.local.callers import Asked, Caller, read_request
from leeward.local.iam import ACCOUNT, Need
from leeward.local.iam.needs import CREATION, IF_NONE_MATCH, facts_of_write
from leeward.local.trail import Trails

Start = Callable[..., Any]
Application = Callable[[dict[str, Any], Start], Iterable[bytes]]


class Guard:
    """In front of the server's application; everything that it lets through is in the trails."""

    def __init__(self, application: Application, trails: Trails) -> None:
        self._application = application
        self._trails = trails

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        asked = read_request(environ) if self._is_watched(environ) else None
        if asked is None:
            return self._application(environ, start)
        refused = refusal(asked)
        if refused:
            self._trails.write(asked, error=refused[0])
            return _refuse(asked, *refused, start)
        seen: dict[str, Any] = {}

        def note(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            seen["status"], seen["headers"] = int(status.split()[0]), dict(headers)
            return start(status, headers, *rest)

        body = self._application(environ, note)
        self._trails.write(asked, **seen)
        return body

    def _is_watched(self, environ: dict[str, Any]) -> bool:
        """Who has neither users nor trails pays nothing."""
        return self._trails.logging or "moto.iam.models" in sys.modules


def refusal(asked: Asked) -> tuple[str, str] | None:
    """(code, message) as AWS answers, or None."""
    caller = asked.caller
    if caller.kind == "operator":
        return None
    if not caller.active:
        code = "InvalidAccessKeyId" if asked.service == "s3" else "InvalidClientTokenId"
        return code, "The security token included in the request is invalid."
    for need in _needs(asked):
        if _denied(caller, need, asked.bucket):
            who = f"User: {caller.arn} is not authorized to perform: {need.action}"
            return "AccessDenied", f"{who} on resource: {need.resource} with an explicit deny"
    return None


def _needs(asked: Asked) -> Iterator[Need]:
    if asked.service != "s3":
        yield Need(f"{asked.service}:{asked.action}", "*")
        return
    arn = f"arn:aws:s3:::{asked.bucket}"
    for key, version in asked.deleted:
        yield Need(f"s3:DeleteObject{'Version' if version else ''}", f"{arn}/{key}")
    if not asked.deleted:
        resource = f"{arn}/{asked.key}" if asked.key else arn
        facts = facts_of_write(f"s3:{asked.event}", asked.if_none_match)
        yield Need(f"s3:{asked.action}", resource, facts)


def _denied(caller: Caller, need: Need, bucket: str) -> bool:
    documents = [*identity_documents(caller), *bucket_documents(bucket)]
    return any(
        statement["Effect"] == "Deny" and _applies(statement, caller, need)
        for document in documents
        for statement in _listed(document["Statement"])
    )


def denied_by_bucket(role: str, needs: Iterable[Need], bucket: str) -> Need | None:
    """Of what a function's role needs, the first that the bucket's own policy denies it."""
    caller = Caller("session", role, "", role_arn=role)
    for document in bucket_documents(bucket):
        for statement in _listed(document["Statement"]):
            for need in needs:
                if statement["Effect"] == "Deny" and _applies(statement, caller, need):
                    return need
    return None


def identity_documents(caller: Caller) -> Iterator[dict[str, Any]]:
    """The inline policies of a user, or of a session's role."""
    from moto.iam.models import iam_backends

    backend = iam_backends[ACCOUNT]["aws"]
    owner: Any
    if caller.kind == "user":
        owner = backend.users.get(caller.name)
    else:
        owner = next((it for it in backend.roles.values() if it.arn == caller.role_arn), None)
    policies = owner.policies.values() if owner else ()
    yield from (json.loads(text) for text in list(policies))


def bucket_documents(bucket: str) -> Iterator[dict[str, Any]]:
    if not bucket or "moto.s3.models" not in sys.modules:
        return
    from moto.s3.models import s3_backends

    found = s3_backends[ACCOUNT]["aws"].buckets.get(bucket)
    if found is not None and found.policy:
        yield json.loads(found.policy)


def _applies(statement: dict[str, Any], caller: Caller, need: Need) -> bool:
    principals = statement.get("Principal", "*")
    if principals != "*":
        named = principals.get("AWS", []) if isinstance(principals, dict) else []
        if not _any_like(_listed(named), caller.principal):
            return False
    conditions: dict[str, Any] = statement.get("Condition", {})
    return (
        _any_like([it.lower() for it in _listed(statement["Action"])], need.action.lower())
        and _any_like(_listed(statement["Resource"]), need.resource)
        and all(_holds(name, keys, caller, need) for name, keys in conditions.items())
    )


def _holds(operator: str, keys: dict[str, Any], caller: Caller, need: Need) -> bool:
    """A key that the request does not have makes a condition false, and a negated one true."""
    for key, value in keys.items():
        known = (operator, key.lower())
        if known == ("DateLessThan", "aws:tokenissuetime"):
            held = caller.issued_at is not None and caller.issued_at < _time(value)
        elif known in (("ArnNotLike", "aws:principalarn"), ("ArnNotEquals", "aws:principalarn")):
            held = not _any_like(_listed(value), caller.principal)
        elif known in (("ArnLike", "aws:principalarn"), ("ArnEquals", "aws:principalarn")):
            held = _any_like(_listed(value), caller.principal)
        elif known == ("Null", IF_NONE_MATCH):
            held = value == ("false" if need.values(IF_NONE_MATCH) else "true")
        elif known == ("Bool", CREATION.lower()):
            held = need.values(CREATION) == [value]
        else:
            raise BadInput(f"the local cloud does not know the condition {operator} of {key}")
        if not held:
            return False
    return True


def _time(value: Any) -> datetime:
    return parse_time(str(value))


def _any_like(patterns: Iterable[str], text: str) -> bool:
    return any(fnmatch.fnmatchcase(text, it.replace("[", "[[]")) for it in patterns)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _refuse(asked: Asked, code: str, message: str, start: Start) -> list[bytes]:
    """In the words of the protocol in which it was asked."""
    if asked.service == "s3":
        body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        kind = "application/xml"
    elif asked.parameters or asked.service in ("iam", "sts", "ec2"):
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message>"
        body = f"<ErrorResponse>{error}</Error></ErrorResponse>"
        kind = "text/xml"
    else:
        body = json.dumps({"__type": f"{code}Exception", "message": message})
        kind = "application/x-amz-json-1.1"
    data = body.encode()
    start("403 Forbidden", [("Content-Type", kind), ("Content-Length", str(len(data)))])
    return [data]
