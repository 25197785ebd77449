"""Words on the status page with the operator's own rights, when who knew the incident is lost.

No code is asked for, so the record says as whom AWS knows the operator. It is written before the
page, in the evidence of the stack that is left.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from chalicelib.errors import BadInput
from chalicelib.incidents.status.sources import SAID, Update, key_of_update
from chalicelib.incidents.streams import people_stream
from leeward.status import require_words

if TYPE_CHECKING:
    from chalicelib.ports import Records
    from chalicelib.ports.status import StatusStore


@dataclass(frozen=True)
class Operator:
    """by: who they say they are. identity: the ARN that AWS knows them by."""

    by: str
    identity: str


def add_words(
    incident: str,
    text: str,
    state: str,
    operator: Operator,
    *,
    bucket: StatusStore,
    records: Records,
    now: datetime,
) -> None:
    """Say more of an incident that the page shows, of the services that it named so far.

    Raises:
        BadInput: codes "unknown-incident", "bad-post".
    """
    require_words(text)
    said = [
        Update.from_json(json.loads(bucket.read(key))) for key in bucket.keys(f"{SAID}{incident}/")
    ]
    if not said:
        raise BadInput(
            f"the status page shows no incident {incident!r}",
            hint="`leeward status show` names those that go on",
            code="unknown-incident",
        )
    last = max(said, key=lambda it: it.said_at)
    update = replace(last, id=f"by-hand-{uuid4().hex}", said_at=now, state=state, text=text.strip())
    body = {"by": operator.by, "identity": operator.identity, "state": state, "text": update.text}
    records.append(
        people_stream(incident), "status-posted", body, actor=operator.by, key=f"posted/{update.id}"
    )
    bucket.note(key_of_update(update, drill=False), json.dumps(update.to_json()).encode())


def open_records(standby: str | None) -> Records:
    """The evidence of the stack that is asked. Raises NotReady (code "not-deployed")."""
    from chalicelib.adapters.clock import SystemClock
    from chalicelib.adapters.s3.access import reach_s3
    from chalicelib.adapters.s3.store import S3ObjectStore
    from chalicelib.evidence.records import StoredRecords
    from leeward.enrolling import names_of

    wanted = ("LEEWARD_EVIDENCE_BUCKET", "LEEWARD_DATA_KEY")
    names = names_of("standby" if standby else "primary", standby, wanted)
    bucket, key = (names[name] for name in wanted)
    store = S3ObjectStore(reach_s3(standby), bucket, kms_key_id=key)
    return StoredRecords(store, SystemClock())


def known_to_aws(by: str, standby: str | None) -> Operator:
    """Asked of the region of the stack that is left."""
    import boto3

    from chalicelib.adapters.aws_errors import mapped

    with mapped("sts"):
        return Operator(by, boto3.client("sts", region_name=standby).get_caller_identity()["Arn"])
